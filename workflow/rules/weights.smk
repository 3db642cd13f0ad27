"""Fetch what a model needs beside the cells: checkpoints, or embeddings that others computed."""


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
