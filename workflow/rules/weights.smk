"""Fetch what a model needs beside the cells: checkpoints, embeddings that others computed, the files of added species."""


rule download_checkpoint:
    input:
        script=ancient(script("download_object")),
        known=ancient(project_file("config/checksums.yaml")),
    output:
        "resources/weights/{folder}/{file}",
    log:
        "logs/download_checkpoint/{folder}/{file}.log",
    retries: 2
    conda:
        "../envs/data.yaml"
    resources:
        downloads=1,
        mem_mb=1000,
    params:
        url=grid.checkpoint_url,
    shell:
        "python {input.script:q} {params.url:q} {output:q} --checksums-known {input.known:q} > {log:q} 2>&1"


rule download_weights:
    input:
        script=ancient(script("download_object")),
        known=ancient(project_file("config/checksums.yaml")),
    output:
        "resources/weights/{model}/{dataset}/{split}/{object}",
    log:
        "logs/download_weights/{model}/{dataset}/{split}/{object}.log",
    retries: 2
    conda:
        "../envs/data.yaml"
    resources:
        downloads=1,
        mem_mb=1000,
    params:
        url=grid.weights_url,
    shell:
        "python {input.script:q} {params.url:q} {output:q} --checksums-known {input.known:q} > {log:q} 2>&1"


rule build_species:
    input:
        script=script("build_species"),
        code=grid.species_code,
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
        adapter=grid.adapter,
        weights=grid.weights_folder,
        options=grid.species_options,
    shell:
        "python {input.script:q} {params.adapter:q} {wildcards.species:q} --weights {params.weights:q}"
        " --options {params.options:q} --output {output:q} > {log:q} 2>&1"
