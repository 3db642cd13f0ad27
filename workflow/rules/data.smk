"""Download the objects of a dataset and make its splits."""


rule download:
    input:
        # the bytes are verified, so an edit of the downloader need not fetch them again
        script=ancient(script("download_object")),
    output:
        "resources/datasets/{dataset}/{object}",
    log:
        "logs/download/{dataset}/{object}.log",
    retries: 2
    conda:
        "../envs/data.yaml"
    resources:
        downloads=1,
        mem_mb=1000,
    params:
        url=grid.object_url,
    shell:
        "python {input.script:q} {params.url:q} {output:q} > {log:q} 2>&1"


rule split:
    input:
        script=ancient(script("split_dataset")),
        object=grid.split_object,
        orthologues=grid.orthologues,
    output:
        "results/splits/{dataset}/{split}.h5ad",
    log:
        "logs/split/{dataset}/{split}.log",
    benchmark:
        "benchmarks/split/{dataset}/{split}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=memory(base_mb=1000, times=8),
    params:
        code=code("split_dataset"),
        options=grid.split_options,
    shell:
        "python {input.script:q} {input.object:q} {output:q} --options {params.options:q} > {log:q} 2>&1"
