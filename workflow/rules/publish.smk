"""Lay cells out for pictures, collect the scores into tables, render the report."""

TABLES = collect(
    f"{outputs.tables}/{{table}}",
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
    outputs.czbenchmarks,
    *collect(f"{outputs.tables}/{{kind}}.parquet", kind=["summary", "runtime", "models", "datasets"]),
    *collect(f"{outputs.tables}/{{name}}", name=["leaderboard.md", "leaderboard.tex"]),
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
    container:
        image("../envs/score.yaml")
    resources:
        mem_mb=memory(1000, 2, lambda wildcards, input: max(sizes_mb(input))),
    params:
        code=code("lay_out_cells"),
    message:
        "Lay out the cells of {wildcards.dataset}/{wildcards.split}, embedded by {wildcards.model}"
    shell:
        "python {input.script:q} --embeddings {input.embedding:q} --splits {input.splits:q} --output {output:q}"
        " > {log:q} 2>&1"


rule manifest:
    input:
        template=local(sources.project_file("workflow/templates/manifest.json")),
    output:
        outputs.manifest,
    log:
        "logs/manifest.log",
    localrule: True
    params:
        text=inputs.manifest,  # grows with the run, as a command may not: Snakemake itself writes it
    message:
        "Write the manifest of the run"
    template_engine:
        "jinja2"


rule tables:
    input:
        script=ancient(script("collect_tables")),
        manifest=outputs.manifest,
        scores=inputs.scores,
        layouts=inputs.layouts,
        published=inputs.published_rows,
        costs=inputs.costs,
    output:
        TABLES,
        provenance=outputs.provenance,
    log:
        "logs/tables.log",
    localrule: True
    conda:
        "../envs/publish.yaml"
    container:
        image("../envs/publish.yaml")
    params:
        folder=lambda wildcards, output: str(Path(output[0]).parent),
        code=code("collect_tables"),
        ledger=paths.LEDGER,  # no input: every download writes to it
        results=lambda wildcards: inputs.at(paths.RESULTS),
        benchmarks=inputs.at(paths.BENCHMARKS),
    message:
        "Write the tables"
    shell:
        "python {input.script:q} --manifest {input.manifest:q} --results {params.results:q} --benchmarks {params.benchmarks:q}"
        " --ledger {params.ledger:q} --provenance {output.provenance:q} --output {params.folder:q} > {log:q} 2>&1"


rule report:
    input:
        script=ancient(script("render_report")),
        tables=TABLES,
        provenance=outputs.provenance,
    output:
        report(
            outputs.report,
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
        folder=lambda wildcards, input: str(Path(input.tables[0]).parent),
        output=lambda wildcards, output: str(output[0]),
    message:
        "Write the report"
    shell:
        "python {input.script:q} {params.folder:q} --output {params.output:q} > {log:q} 2>&1"


use rule report as exports with:
    input:
        script=ancient(script("export_results")),
        tables=TABLES,
        provenance=outputs.provenance,
    output:
        EXPORTS,
        leaderboard=report(
            f"{outputs.tables}/leaderboard.csv",
            caption="../report/leaderboard.rst",
            category="Tables",
            labels={"what": "leaderboard"},
        ),
    log:
        "logs/exports.log",
    localrule: True  # `use rule` does not inherit it
    params:
        code=code("export_results"),
        output=lambda wildcards, output: str(Path(output[0]).parent),
    message:
        "Write the tables in other formats"


use rule report as figures with:
    input:
        script=ancient(script("draw_figures")),
        tables=TABLES,
        provenance=outputs.provenance,
    output:
        report(
            directory(outputs.figures),
            patterns=["{kind}.{data}.svg"],
            caption="../report/figures.rst",
            category="Figures",
            labels={"figure": "{kind}", "of": "{data}"},
        ),
    log:
        "logs/figures.log",
    localrule: True  # `use rule` does not inherit it
    params:
        code=code("draw_figures"),
    message:
        "Draw the figures"
