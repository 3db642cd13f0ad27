"""Embed the cells: one rule for all models, one for shards of splits, and one for each job of several splits or shards."""


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
        environment("embed", inputs.env)
    container:
        image(inputs.env)
    threads: inputs.threads
    resources:
        gpu=inputs.gpus,
        mem_mb=memory(2000, 1, embed_mb),
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
            embeddings=job.each(paths.EMBEDDING),
            benchmarks=inputs.stored(job.each(paths.benchmark("embed", paths.EMBEDDING))),
        log:
            job.log,
        conda:
            inputs.env(job)
        container:
            image(inputs.env(job))
        threads: inputs.threads(job)
        resources:
            gpu=inputs.gpus(job),
            mem_mb=memory(2000, 2, largest_split_mb),
        params:
            code=of(job, inputs.model_code),
            code_digest=of(job, lambda job: sources.digest(inputs.model_code(job))),
            adapter=inputs.adapter(job),
            weights=inputs.weights_argument(job),
            model=job.model,
            options=inputs.shared_options(job),
            benchmarks=list(map(inputs.at, job.each(paths.benchmark("embed", paths.EMBEDDING)))),
        message:
            f"Embed {len(job.splits)} splits of {job.dataset} with {job.model}"
        shell:
            "python {input.script:q} {params.adapter:q} --split {input.splits:q} --weights {params.weights:q}"
            " --model {params.model:q} --options {params.options:q} --code {params.code_digest:q}"
            " --benchmarks {params.benchmarks:q} --output {output.embeddings:q} > {log:q} 2>&1"


rule embed_shard:
    input:
        script=ancient(script("embed_cells")),
        splits=inputs.splits,
        weights=users_files(inputs.weights, paths.SHARD),
    output:
        temp(paths.SHARD),
    log:
        paths.log("embed_shard", paths.SHARD),
    conda:
        environment("embed_shard", inputs.env)
    container:
        image(inputs.env)
    threads: inputs.threads
    resources:
        gpu=inputs.gpus,
        mem_mb=memory(2000, 2, shard_mb),
    params:
        code=inputs.model_code,
        adapter=inputs.adapter,
        weights=inputs.weights_argument,
        options=inputs.model_options,
        shard=lambda wildcards: [wildcards.number, wildcards.n_shards],
    message:
        "Embed shard {wildcards.number} of {wildcards.n_shards} of {wildcards.dataset}/{wildcards.split} with {wildcards.model}"
    shell:
        "python {input.script:q} {params.adapter:q} --split {input.splits:q} --weights {params.weights:q}"
        " --model {wildcards.model:q} --shard {params.shard:q} --options {params.options:q} --output {output:q} > {log:q} 2>&1"


for job in divided_jobs:

    # Shards are removed once they are joined, so that what they are made from is what an embedding is made from.
    rule:
        name:
            job.name
        input:
            script=ancient(script("join_shards")),
            shards=job.shards,
            split=inputs.splits(job),
            weights=users_files(inputs.weights, job.embedding, job),
        output:
            embedding=job.embedding,
            benchmark=inputs.stored([paths.benchmark("embed", job.embedding)]),
        log:
            paths.log("embed", job.embedding),
        conda:
            inputs.env(job)
        container:
            image(inputs.env(job))
        resources:
            mem_mb=memory(1000, 2, lambda wildcards, input: sum(mb_of(input, "shards")[0])),
        params:
            code=of(job, lambda job: inputs.model_code(job) | sources.code("join_shards")),
            adapter=inputs.adapter(job),
            options=inputs.model_options(job),
            benchmark=inputs.at(paths.benchmark("embed", job.embedding)),
        message:
            f"Join {job.n_shards} shards of {job.dataset}/{job.split} with {job.model}"
        shell:
            "python {input.script:q} {input.shards:q} --split {input.split:q} --benchmark {params.benchmark:q}"
            " --output {output.embedding:q} > {log:q} 2>&1"
