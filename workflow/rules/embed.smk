"""Embed the cells: one rule for all models."""


rule embed:
    input:
        script=ancient(script("embed_cells")),
        splits=grid.embed_splits,
        weights=grid.weights,
    output:
        "results/embeddings/{model}/{dataset}/{split}.h5ad",
    log:
        "logs/embed/{model}/{dataset}/{split}.log",
    benchmark:
        "benchmarks/embed/{model}/{dataset}/{split}.tsv"
    conda:
        grid.env
    threads: grid.threads
    resources:
        gpu=grid.gpus,
        mem_mb=embed_memory,
    params:
        code=grid.model_code,
        adapter=grid.adapter,
        weights=grid.weights_argument,
        options=grid.model_options,
    shell:
        "python {input.script:q} {params.adapter:q} --split {input.splits:q} --weights {params.weights:q}"
        " --model {wildcards.model:q} --set {wildcards.split:q} --options {params.options:q} --output {output:q} > {log:q} 2>&1"
