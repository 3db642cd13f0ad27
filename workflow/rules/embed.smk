"""Embed the cells: one rule for all models."""


rule embed:
    input:
        script=ancient(script("embed_cells")),
        splits=inputs.splits,
        weights=inputs.weights,
    output:
        paths.EMBEDDING,
    log:
        paths.log("embed", paths.EMBEDDING),
    benchmark:
        paths.benchmark("embed", paths.EMBEDDING)
    conda:
        inputs.env
    threads: inputs.threads
    resources:
        gpu=inputs.gpus,
        mem_mb=embed_memory,
    params:
        code=inputs.model_code,
        adapter=inputs.adapter,
        weights=inputs.weights_argument,
        options=inputs.model_options,
    shell:
        "python {input.script:q} {params.adapter:q} --split {input.splits:q} --weights {params.weights:q}"
        " --model {wildcards.model:q} --set {wildcards.split:q} --options {params.options:q} --output {output:q} > {log:q} 2>&1"
