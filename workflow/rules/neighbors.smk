"""Find what tasks ask of the distances between cells, once: kept, it outlives changes of what is made of it."""


rule neighbors:
    input:
        unpack(inputs.search_files),
        script=ancient(script("find_neighbors")),
    output:
        paths.NEIGHBORS,
    log:
        paths.log("neighbors", paths.NEIGHBORS),
    benchmark:
        paths.benchmark("neighbors", paths.NEIGHBORS)
    conda:
        environment("neighbors", inputs.task_env)
    container:
        image(inputs.task_env)
    threads: inputs.task_threads
    resources:
        gpu=inputs.search_gpus if TASKS_USE_GPUS else 0,
        mem_mb=memory(1500, 1, score_mb),
    params:
        code=inputs.neighbor_code,
        python=task_python,
        options=inputs.neighbor_options,
    message:
        "Search neighbors for {wildcards.task}: {wildcards.model} on {wildcards.dataset}/{wildcards.split}"
    shell:
        "{params.python:q} {input.script:q} {wildcards.task:q} --embeddings {input.embeddings:q} --splits {input.splits:q}"
        " --set {wildcards.split:q} --options {params.options:q} --output {output:q} > {log:q} 2>&1"
