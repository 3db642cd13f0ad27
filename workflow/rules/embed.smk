"""Embed the cells: one rule for all models, and one for each job that takes several splits."""


rule embed:
    input:
        script=ancient(script("embed_cells")),
        splits=inputs.splits,
        weights=users_files(inputs.weights, paths.EMBEDDING),
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
    message:
        "Embed {wildcards.dataset}/{wildcards.split} with {wildcards.model}"
    shell:
        "python {input.script:q} {params.adapter:q} --split {input.splits:q} --weights {params.weights:q}"
        " --model {wildcards.model:q} --set {wildcards.split:q} --options {params.options:q} --output {output:q} > {log:q} 2>&1"


for job in inputs.shared_jobs:

    rule:
        name:
            job.name
        input:
            script=ancient(script("embed_cells")),
            splits=job.each(paths.SPLIT),
            weights=users_files(inputs.shared_weights, job.each(paths.EMBEDDING)[0], job),
        output:
            job.each(paths.EMBEDDING),
        log:
            job.log,
        conda:
            inputs.env(job)
        threads: inputs.threads(job)
        resources:
            gpu=inputs.gpus(job),
            mem_mb=shared_memory,
        params:
            code=inputs.model_code(job),
            code_digest=digest(inputs.model_code(job)),
            adapter=inputs.adapter(job),
            weights=inputs.weights_argument(job),
            model=job.model,
            options=inputs.shared_options(job),
            benchmarks=job.each(paths.benchmark("embed", paths.EMBEDDING)),
        message:
            f"Embed {len(job.splits)} splits of {job.dataset} with {job.model}"
        shell:
            "python {input.script:q} {params.adapter:q} --split {input.splits:q} --weights {params.weights:q}"
            " --model {params.model:q} --options {params.options:q} --code {params.code_digest:q}"
            " --benchmarks {params.benchmarks:q} --output {output:q} > {log:q} 2>&1"
