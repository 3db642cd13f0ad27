"""Find what tasks ask of the distances between cells, once: kept, it outlives changes of what is made of it."""


rule neighbors:
    input:
        script=ancient(script("find_neighbors")),
        embeddings=grid.score_results,
        splits=grid.score_splits,
    output:
        "results/neighbors/{task}/{model}/{dataset}/{split}.npz",
    log:
        "logs/neighbors/{task}/{model}/{dataset}/{split}.log",
    benchmark:
        "benchmarks/neighbors/{task}/{model}/{dataset}/{split}.tsv"
    conda:
        grid.task_env
    threads: grid.task_threads
    resources:
        gpu=grid.search_gpus,
        mem_mb=score_memory,
    params:
        code=grid.neighbor_code,
        python=task_python,
        options=grid.neighbor_options,
    shell:
        "{params.python:q} {input.script:q} {wildcards.task:q} --embeddings {input.embeddings:q} --splits {input.splits:q}"
        " --set {wildcards.split:q} --options {params.options:q} --output {output:q} > {log:q} 2>&1"
