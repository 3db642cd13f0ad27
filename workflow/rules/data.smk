"""Download the objects of a dataset and make its splits."""


rule download:
    input:
        # the bytes are verified, so an edit of the downloader need not fetch them again
        script=ancient(script("download_object")),
    output:
        paths.OBJECT,
    log:
        paths.log("download", paths.OBJECT),
    retries: 2
    conda:
        "../envs/data.yaml"
    resources:
        downloads=1,
        mem_mb=1000,
    params:
        url=inputs.object_url,
    message:
        "Download {wildcards.object} of {wildcards.dataset}"
    shell:
        "python {input.script:q} {params.url:q} {output:q} > {log:q} 2>&1"


rule split:
    input:
        script=ancient(script("split_dataset")),
        object=users_files(inputs.split_object, paths.SPLIT),
        orthologues=users_files(inputs.orthologues, paths.SPLIT),
    output:
        paths.SPLIT,
    log:
        paths.log("split", paths.SPLIT),
    benchmark:
        paths.benchmark("split", paths.SPLIT)
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=memory(base_mb=1000, times=8),
    params:
        code=code("split_dataset"),
        options=inputs.split_options,
    message:
        "Make the split {wildcards.dataset}/{wildcards.split}"
    shell:
        "python {input.script:q} {input.object:q} {output:q} --options {params.options:q} > {log:q} 2>&1"
