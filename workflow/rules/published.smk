"""Fetch result files of others, and read them into score rows."""


use rule download as download_published with:
    output:
        "resources/published/{source}/{object}",
    log:
        "logs/download_published/{source}/{object}.log",
    params:
        url=grid.published_url,


rule import_published:
    input:
        script=ancient(script("import_published")),
        file=grid.published_file,
    output:
        "results/published/{source}.tsv",
    log:
        "logs/import_published/{source}.log",
    conda:
        "../envs/publish.yaml"
    resources:
        mem_mb=memory(base_mb=500, times=50),
    params:
        options=grid.published_options,
        code=code("import_published"),
    shell:
        "python {input.script:q} {input.file:q} --options {params.options:q} --output {output:q} > {log:q} 2>&1"
