"""Predict responses to perturbations: one rule for all models; and reduce a screen, once, to what they are scored against."""


rule predict:
    input:
        script=ancient(script("predict_responses")),
        split="results/splits/{dataset}/{split}.h5ad",
        weights=grid.weights,
    output:
        "results/predictions/{model}/{dataset}/{split}.h5ad",
    log:
        "logs/predict/{model}/{dataset}/{split}.log",
    benchmark:
        "benchmarks/predict/{model}/{dataset}/{split}.tsv"
    conda:
        grid.env
    threads: grid.threads
    resources:
        gpu=grid.gpus,
        mem_mb=memory(base_mb=2000, times=15),
    params:
        code=grid.model_code,
        adapter=grid.adapter,
        weights=grid.weights_argument,
        options=grid.model_options,
    shell:
        "python {input.script:q} {params.adapter:q} --split {input.split:q} --weights {params.weights:q}"
        " --model {wildcards.model:q} --options {params.options:q} --output {output:q} > {log:q} 2>&1"


rule truth:
    input:
        script=ancient(script("measure_truth")),
        split="results/splits/{dataset}/{split}.h5ad",
    output:
        "results/truths/{dataset}/{split}.h5ad",
    log:
        "logs/truth/{dataset}/{split}.log",
    benchmark:
        "benchmarks/truth/{dataset}/{split}.tsv"
    conda:
        "../envs/score.yaml"
    resources:
        mem_mb=memory(base_mb=1500, times=15),
    params:
        code=code("measure_truth"),
    shell:
        "python {input.script:q} {input.split:q} --output {output:q} > {log:q} 2>&1"
