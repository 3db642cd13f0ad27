"""Lay cells out for pictures, collect the scores into tables, render the report."""

TABLES = collect(
    f"{paths.TABLES}/{{table}}",
    table=[
        "scores.csv",
        "scores.parquet",
        "conditions.csv",
        "summary.csv",
        "intervals.csv",
        "comparisons.csv",
        "ranks.csv",
        "layouts.parquet",
        "anchors.csv",
        "published.csv",
        "published_summary.csv",
        "published_comparisons.csv",
        "published_ranks.csv",
        "published_sources.csv",
        "runtime.csv",
        "models.csv",
        "datasets.csv",
        "tasks.csv",
    ],
)

EXPORTS = [
    paths.CZBENCHMARKS,
    *collect(f"{paths.TABLES}/{{kind}}.parquet", kind=["summary", "runtime", "models", "datasets"]),
    *collect(f"{paths.TABLES}/{{name}}", name=["leaderboard.md", "leaderboard.tex"]),
]


rule layout:
    input:
        script=ancient(script("lay_out_cells")),
        embedding=paths.EMBEDDING,
        splits=inputs.splits,
    output:
        paths.LAYOUT,
    log:
        paths.log("layout", paths.LAYOUT),
    conda:
        "../envs/score.yaml"
    resources:
        mem_mb=largest_memory(base_mb=1000, times=2),
    params:
        code=code("lay_out_cells"),
    message:
        "Lay out the cells of {wildcards.dataset}/{wildcards.split}, embedded by {wildcards.model}"
    shell:
        "python {input.script:q} --embeddings {input.embedding:q} --splits {input.splits:q} --output {output:q}"
        " > {log:q} 2>&1"


rule manifest:
    input:
        template=project_file("workflow/templates/manifest.json"),
    output:
        paths.MANIFEST,
    log:
        "logs/manifest.log",
    params:
        text=inputs.manifest,  # grows with the run, as a command may not: Snakemake itself writes it
    message:
        "Write the manifest of the run"
    template_engine:
        "jinja2"


rule tables:
    input:
        script=ancient(script("collect_tables")),
        manifest=paths.MANIFEST,
        scores=inputs.scores,
        layouts=inputs.layouts,
        published=inputs.published_rows,
    output:
        TABLES,
    log:
        "logs/tables.log",
    conda:
        "../envs/publish.yaml"
    params:
        code=code("collect_tables"),
        ledger=paths.LEDGER,  # no input: every download writes to it
    message:
        "Write the tables"
    shell:
        "python {input.script:q} --manifest {input.manifest:q} --benchmarks benchmarks"
        " --ledger {params.ledger:q} --output results/tables > {log:q} 2>&1"


rule report:
    input:
        script=ancient(script("render_report")),
        tables=TABLES,
    output:
        report(
            paths.REPORT,
            caption="../report/report.rst",
            category="Report",
            labels={"what": "all results, one page"},
        ),
    log:
        "logs/report.log",
    conda:
        "../envs/publish.yaml"
    params:
        code=code("render_report", data="cellgauge.report"),
    message:
        "Write the report"
    shell:
        "python {input.script:q} results/tables --output {output:q} > {log:q} 2>&1"


rule exports:
    input:
        script=ancient(script("export_results")),
        tables=TABLES,
    output:
        EXPORTS,
        leaderboard=report(
            f"{paths.TABLES}/leaderboard.csv",
            caption="../report/leaderboard.rst",
            category="Tables",
            labels={"what": "leaderboard"},
        ),
    log:
        "logs/exports.log",
    conda:
        "../envs/publish.yaml"
    params:
        code=code("export_results"),
    message:
        "Write the tables in other formats"
    shell:
        "python {input.script:q} results/tables --output results > {log:q} 2>&1"


rule figures:
    input:
        script=ancient(script("draw_figures")),
        tables=TABLES,
    output:
        report(
            directory(paths.FIGURES),
            patterns=["{kind}.{data}.svg"],
            caption="../report/figures.rst",
            category="Figures",
            labels={"figure": "{kind}", "of": "{data}"},
        ),
    log:
        "logs/figures.log",
    conda:
        "../envs/publish.yaml"
    params:
        code=code("draw_figures"),
    message:
        "Draw the figures"
    shell:
        "python {input.script:q} results/tables --output {output:q} > {log:q} 2>&1"
