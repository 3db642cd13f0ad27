include: "workflow/Snakefile"


<<<<<<< HEAD
workflow.default_target = "all"  # Snakemake forgets that of an included file
=======
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


onstart:
    if workflow.is_main_process:
        results = {str(file) for job in workflow.dag.needrun_jobs() for file in job.output}
        check_jobs(inputs, results, keep_going=workflow.execution_settings.keep_going)


onerror:
    tables = [file for job in workflow.dag.jobs if job.rule.name == "tables" for file in job.output]
    (publish_partial_results if tables else report_failures)(inputs)
    # else inputs with the checksums of an earlier run would let partial tables pass for whole ones
    for file in tables:
        workflow.persistence.cleanup_metadata(file)
>>>>>>> faults
