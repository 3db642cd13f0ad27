"""Fetch what a model needs beside the cells: checkpoints, embeddings that others computed, the files of added species."""


use rule download as download_weights with:
    output:
        paths.WEIGHTS_FILE,
    log:
        paths.log("download_weights", paths.WEIGHTS_FILE),
    localrule: True  # `use rule` does not inherit it
    params:
        url=inputs.weights_url,
    message:
        "Download {wildcards.file}"


rule build_species:
    input:
        script=ancient(script("build_species")),
        weights=users_files(inputs.species_weights, paths.SPECIES),
        sources=users_files(inputs.species_inputs, paths.SPECIES),
    output:
        directory(paths.SPECIES),
    log:
        paths.log("build_species", paths.SPECIES),
    conda:
        environment("build_species", inputs.env)
    container:
        image(inputs.env)
    resources:
        mem_mb=memory(base_mb=4000, times=0),
    params:
        code=inputs.species_code,
        adapter=inputs.adapter,
        weights=inputs.weights_folder,
        options=inputs.species_options,
    message:
        "Build the files of {wildcards.species} for {wildcards.model}"
    shell:
        "python {input.script:q} {params.adapter:q} {wildcards.species:q} --weights {params.weights:q}"
        " --options {params.options:q} --output {output:q} > {log:q} 2>&1"
