"""Fetch result files of others, and read them into score rows."""


use rule download as download_published with:
    output:
        paths.PUBLISHED_OBJECT,
    log:
        paths.log("download_published", paths.PUBLISHED_OBJECT),
    localrule: True  # `use rule` does not inherit it
    params:
        url=inputs.published_url,
    message:
        "Download {wildcards.object}, published by {wildcards.source}"


rule import_published:
    input:
        script=ancient(script("import_published")),
        file=users_files(inputs.published_file, paths.PUBLISHED),
    output:
        paths.PUBLISHED,
    log:
        paths.log("import_published", paths.PUBLISHED),
    conda:
        "../envs/publish.yaml"
    container:
        image("../envs/publish.yaml")
    resources:
        mem_mb=memory(base_mb=500, times=50),
    params:
        options=inputs.published_options,
        code=code("import_published"),
    message:
        "Read the values that {wildcards.source} published"
    shell:
        "python {input.script:q} {input.file:q} --options {params.options:q} --output {output:q} > {log:q} 2>&1"
