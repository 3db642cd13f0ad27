"""Predict responses to perturbations: one rule for all models; and reduce a screen, once, to what they are scored against."""


rule predict:
    input:
        script=ancient(script("predict_responses")),
        split=paths.SPLIT,
        weights=users_files(inputs.weights, paths.PREDICTION),
    output:
        paths.PREDICTION,
    log:
        paths.log("predict", paths.PREDICTION),
    benchmark:
        paths.benchmark("predict", paths.PREDICTION)
    conda:
        inputs.env
    threads: inputs.threads
    resources:
        gpu=inputs.gpus,
        mem_mb=memory(base_mb=2000, times=15),
    params:
        code=inputs.model_code,
        adapter=inputs.adapter,
        weights=inputs.weights_argument,
        options=inputs.model_options,
    message:
        "Predict the responses of {wildcards.dataset}/{wildcards.split} with {wildcards.model}"
    shell:
        "python {input.script:q} {params.adapter:q} --split {input.split:q} --weights {params.weights:q}"
        " --model {wildcards.model:q} --options {params.options:q} --output {output:q} > {log:q} 2>&1"


rule truth:
    input:
        script=ancient(script("measure_truth")),
        split=paths.SPLIT,
    output:
        paths.TRUTH,
    log:
        paths.log("truth", paths.TRUTH),
    benchmark:
        paths.benchmark("truth", paths.TRUTH)
    conda:
        "../envs/score.yaml"
    resources:
        mem_mb=memory(base_mb=1500, times=15),
    params:
        code=code("measure_truth"),
    message:
        "Measure the responses of {wildcards.dataset}/{wildcards.split}"
    shell:
        "python {input.script:q} {input.split:q} --output {output:q} > {log:q} 2>&1"
