"""Score embeddings and predicted responses: one rule for all tasks, per split or over the splits of a set."""


rule score:
    input:
        unpack(inputs.score_files),
        script=ancient(script("score_task")),
    output:
        paths.SCORE,
    log:
        paths.log("score", paths.SCORE),
    benchmark:
        paths.benchmark("score", paths.SCORE)
    conda:
        environment("score", inputs.task_env)
    container:
        image(inputs.task_env)
    threads: inputs.task_threads
    resources:
        gpu=inputs.task_gpus if TASKS_USE_GPUS else 0,
        mem_mb=memory(1500, 1, score_mb),
    params:
        code=inputs.task_code,
        python=task_python,
        options=inputs.task_options,
    message:
        "Score {wildcards.task}: {wildcards.model} on {wildcards.dataset}/{wildcards.split}"
    shell:
        "{params.python:q} {input.script:q} {wildcards.task:q} --embeddings {input.results:q} --splits {input.splits:q}"
        " --set {wildcards.split:q} --neighbors {input.neighbors:q} --options {params.options:q} --output {output:q} > {log:q} 2>&1"
