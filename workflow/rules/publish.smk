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
    localrule: True
    conda:
        "../envs/score.yaml"
    container:
        image("../envs/score.yaml")
    resources:
        mem_mb=largest_memory(base_mb=1000, times=2),
    params:
        code=code("lay_out_cells"),
    shell:
        "python {input.script:q} --embeddings {input.embedding:q} --splits {input.splits:q} --output {output:q}"
        " > {log:q} 2>&1"


rule manifest:
    input:
        template=local(sources.project_file("workflow/templates/manifest.json")),
    output:
        paths.MANIFEST,
    log:
        "logs/manifest.log",
    localrule: True
    params:
        text=inputs.manifest,  # grows with the run, as a command may not: Snakemake itself writes it
    template_engine:
        "jinja2"


rule tables:
    input:
        script=ancient(script("collect_tables")),
        manifest=paths.MANIFEST,
        scores=inputs.scores,
        layouts=inputs.layouts,
        published=inputs.published_rows,
        costs=inputs.costs,
    output:
        TABLES,
    log:
        "logs/tables.log",
    localrule: True
    conda:
        "../envs/publish.yaml"
    container:
        image("../envs/publish.yaml")
    params:
        code=code("collect_tables"),
        ledger=paths.LEDGER,  # no input: every download writes to it
        results=lambda wildcards, output: str(Path(output[0]).parents[1]),
        benchmarks=inputs.at(paths.BENCHMARKS),
        tables=lambda wildcards, output: str(Path(output[0]).parent),
    shell:
        "python {input.script:q} --manifest {input.manifest:q} --results {params.results:q} --benchmarks {params.benchmarks:q}"
        " --ledger {params.ledger:q} --output {params.tables:q} > {log:q} 2>&1"


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
    localrule: True
    conda:
        "../envs/publish.yaml"
    container:
        image("../envs/publish.yaml")
    params:
        code=code("render_report", data="cellgauge.report"),
        tables=lambda wildcards, input: str(Path(input.tables[0]).parent),
    shell:
        "python {input.script:q} {params.tables:q} --output {output:q} > {log:q} 2>&1"


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
    localrule: True
    conda:
        "../envs/publish.yaml"
    container:
        image("../envs/publish.yaml")
    params:
        code=code("export_results"),
        tables=lambda wildcards, input: str(Path(input.tables[0]).parent),
        results=lambda wildcards, output: str(Path(output[0]).parent),
    shell:
        "python {input.script:q} {params.tables:q} --output {params.results:q} > {log:q} 2>&1"


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
    localrule: True
    conda:
        "../envs/publish.yaml"
    container:
        image("../envs/publish.yaml")
    params:
        code=code("draw_figures"),
        tables=lambda wildcards, input: str(Path(input.tables[0]).parent),
    shell:
        "python {input.script:q} {params.tables:q} --output {output:q} > {log:q} 2>&1"
