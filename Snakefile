"""Measure single-cell foundation models: download -> split -> embed -> score -> tables -> report."""

from snakemake.utils import min_version

min_version("9.20")


configfile: f"{workflow.basedir}/config/models.yaml"
configfile: f"{workflow.basedir}/config/datasets.yaml"
configfile: f"{workflow.basedir}/config/tasks.yaml"
configfile: f"{workflow.basedir}/config/published.yaml"
configfile: f"{workflow.basedir}/config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/weights.smk"
include: "workflow/rules/embed.smk"
include: "workflow/rules/perturb.smk"
include: "workflow/rules/neighbors.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/published.smk"
include: "workflow/rules/publish.smk"


localrules:
    all,
    download,
    download_published,
    download_weights,
    layout,
    manifest,
    tables,
    report,
    exports,
    figures,


rule all:
    default_target: True
    input:
        inputs.embeddings,  # named here too, so that what is removed is made again
        inputs.scores,
        f"{paths.TABLES}/scores.csv",
        paths.REPORT,
        EXPORTS,
        f"{paths.TABLES}/leaderboard.csv",
        paths.FIGURES,
    message:
        "Gather all results"


onstart:
    if workflow.is_main_process:
        outputs = {job.jobid: [str(file) for file in job.output] for job in workflow.dag.needrun_jobs()}
        results = {file for files in outputs.values() for file in files}
        check_jobs(inputs, results, keep_going=workflow.execution_settings.keep_going)
        seconds = expected_seconds(inputs, outputs)
        logger.info(forecast(seconds, workflow.resource_settings.cores))
        Progress(logger, seconds)


onerror:
    tables_wanted = any(job.rule.name == "tables" for job in workflow.dag.jobs)
    (publish_partial_results if tables_wanted else report_failures)(inputs)
