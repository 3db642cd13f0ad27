"""Score embeddings and predicted responses: one rule for all tasks, per split or over the splits of a set."""


rule score:
    input:
        script=ancient(script("score_task")),
        results=grid.score_results,
        splits=grid.score_splits,
        neighbors=grid.neighbors,
    output:
        "results/scores/{task}/{model}/{dataset}/{split}.tsv",
    log:
        "logs/score/{task}/{model}/{dataset}/{split}.log",
    benchmark:
        "benchmarks/score/{task}/{model}/{dataset}/{split}.tsv"
    conda:
        grid.task_env
    threads: grid.task_threads
    resources:
        gpu=grid.task_gpus,
        mem_mb=score_memory,
    params:
        code=grid.task_code,
        python=task_python,
        options=grid.task_options,
    shell:
        "{params.python:q} {input.script:q} {wildcards.task:q} --embeddings {input.results:q} --splits {input.splits:q}"
        " --set {wildcards.split:q} --neighbors {input.neighbors:q} --options {params.options:q} --output {output:q} > {log:q} 2>&1"
