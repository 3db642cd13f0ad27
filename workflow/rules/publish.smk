"""Collect the scores into tables and render the report."""

TABLES = collect(
    "results/tables/{table}",
    table=["scores.csv", "scores.parquet", "summary.csv", "runtime.csv", "models.csv", "datasets.csv", "tasks.csv"],
)


rule tables:
    input:
        script=script("collect_tables"),
        code=sources("collect_tables"),
        scores=grid.scores,
    output:
        TABLES,
    log:
        "logs/tables.log",
    conda:
        "../envs/publish.yaml"
    params:
        catalogue=grid.catalogue,
    shell:
        "python {input.script:q} {input.scores:q} --benchmarks benchmarks --catalogue {params.catalogue:q}"
        " --output results/tables > {log:q} 2>&1"


rule report:
    input:
        script=script("render_report"),
        code=sources("render_report"),
        templates=package_data("cellgauge.report"),
        tables=TABLES,
    output:
        "results/report.html",
    log:
        "logs/report.log",
    conda:
        "../envs/publish.yaml"
    shell:
        "python {input.script:q} results/tables --output {output:q} > {log:q} 2>&1"
