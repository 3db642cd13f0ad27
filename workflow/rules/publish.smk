"""Lay cells out for pictures, collect the scores into tables, render the report."""

TABLES = collect(
    "results/tables/{table}",
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
    "results/czbenchmarks.json",
    *collect("results/tables/{kind}.parquet", kind=["summary", "runtime", "models", "datasets"]),
    *collect("results/tables/{name}", name=["leaderboard.md", "leaderboard.tex"]),
]


rule layout:
    input:
        script=ancient(script("lay_out_cells")),
        embedding="results/embeddings/{model}/{dataset}/{split}.h5ad",
        splits=grid.embed_splits,
    output:
        "results/layouts/{model}/{dataset}/{split}.tsv",
    log:
        "logs/layout/{model}/{dataset}/{split}.log",
    conda:
        "../envs/score.yaml"
    resources:
        mem_mb=largest_memory(base_mb=1000, times=2),
    params:
        code=code("lay_out_cells"),
    shell:
        "python {input.script:q} --embeddings {input.embedding:q} --splits {input.splits:q} --output {output:q}"
        " > {log:q} 2>&1"


rule manifest:
    input:
        template=project_file("workflow/templates/manifest.json"),
    output:
        "results/manifest.json",
    log:
        "logs/manifest.log",
    params:
        text=grid.manifest,  # grows with the run, as a command may not: Snakemake itself writes it
    template_engine:
        "jinja2"


rule tables:
    input:
        script=ancient(script("collect_tables")),
        manifest="results/manifest.json",
        scores=grid.scores,
        layouts=grid.layouts,
        published=grid.published_rows,
    output:
        TABLES,
    log:
        "logs/tables.log",
    conda:
        "../envs/publish.yaml"
    params:
        code=code("collect_tables"),
        ledger="resources/checksums.yaml",  # no input: every download writes to it
    shell:
        "python {input.script:q} --manifest {input.manifest:q} --benchmarks benchmarks"
        " --ledger {params.ledger:q} --output results/tables > {log:q} 2>&1"


rule report:
    input:
        script=ancient(script("render_report")),
        tables=TABLES,
    output:
        report(
            "results/report.html",
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
    shell:
        "python {input.script:q} results/tables --output {output:q} > {log:q} 2>&1"


rule exports:
    input:
        script=ancient(script("export_results")),
        tables=TABLES,
    output:
        EXPORTS,
        leaderboard=report(
            "results/tables/leaderboard.csv",
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
    shell:
        "python {input.script:q} results/tables --output results > {log:q} 2>&1"


rule figures:
    input:
        script=ancient(script("draw_figures")),
        tables=TABLES,
    output:
        report(
            directory("results/figures"),
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
    shell:
        "python {input.script:q} results/tables --output {output:q} > {log:q} 2>&1"
