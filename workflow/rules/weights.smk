"""Fetch what a model needs beside the cells: checkpoints, embeddings that others computed, the files of added species."""


rule download_weights:
    input:
        script=ancient(script("download_object")),
    output:
        "resources/weights/{file}",
    log:
        "logs/download_weights/{file}.log",
    retries: 2
    conda:
        "../envs/data.yaml"
    resources:
        downloads=1,
        mem_mb=1000,
    params:
        url=grid.weights_url,
    shell:
        "python {input.script:q} {params.url:q} {output:q} > {log:q} 2>&1"


rule build_species:
    input:
        script=ancient(script("build_species")),
        weights=grid.species_weights,
        sources=grid.species_inputs,
    output:
        directory("resources/species/{model}/{species}"),
    log:
        "logs/build_species/{model}/{species}.log",
    conda:
        grid.env
    resources:
        mem_mb=4000,
    params:
        code=grid.species_code,
        adapter=grid.adapter,
        weights=grid.weights_folder,
        options=grid.species_options,
    shell:
        "python {input.script:q} {params.adapter:q} {wildcards.species:q} --weights {params.weights:q}"
        " --options {params.options:q} --output {output:q} > {log:q} 2>&1"
