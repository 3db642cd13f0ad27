"""What every rules file shares: the checked configuration, wildcard constraints, the grid."""

import sys
from errno import ENOENT
from pathlib import Path
from types import SimpleNamespace

from snakemake.io import IOFile
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod

sys.path.insert(0, str(Path(workflow.basedir) / "workflow" / "scripts"))

from cellgauge.plan import config as settings, paths
from cellgauge.core.errors import CellgaugeError
from cellgauge.plan.check import check_jobs, require_files
from cellgauge.plan.grid import Grid
from cellgauge.plan.inputs import Inputs
from cellgauge.plan.interpreter import prefer_own_python
from cellgauge.plan.on_error import publish_partial_results, report_failures
from cellgauge.plan.progress import Progress, expected_seconds, forecast
from cellgauge.plan.sources import code, digest, project_file, script

WITH_CONDA = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method

try:
    settings.check(config)
    inputs = Inputs(Grid(config))
    prefer_own_python()
    if not WITH_CONDA:
        inputs.check_environments()
except CellgaugeError as error:
    sys.exit(f"error: {error}")  # as a WorkflowError it would name a line of this file


def users_files(function, result, *arguments):
    """Return an input function that ends the run, with a sentence for each, where files of the user's are not there.

    Files that an existing result was made from may be gone. `arguments` are the function's, by default the wildcards.
    """

    def files(wildcards):
        paths_of_job = function(*(arguments or (wildcards,)))
        if workflow.is_main_process:
            output = Path(result.format(**dict(wildcards.items())))
            used = output.exists() and workflow.persistence.input(IOFile(str(output))) or []
            try:
                require_files(inputs, {*([paths_of_job] if isinstance(paths_of_job, str) else paths_of_job)} - {*used})
            except CellgaugeError as error:
                sys.exit(f"error: {error}")
        return paths_of_job

    return files


def task_python(wildcards):
    """Return the Python that scores a task: with conda that of the rule's environment."""
    return "python" if WITH_CONDA else inputs.task_python(wildcards)


def same_for_all(kind, function):
    """Return what a function says of all models or tasks of the catalogue where that is one value, else the function.

    Snakemake reads the signature of a function anew for each of its jobs.
    """
    answers = [function(SimpleNamespace(**{kind: name})) for name in inputs.run.entries[f"{kind}s"]]
    return function if any(answer != answers[0] for answer in answers) else answers[0]


def sized(files):
    """Return files that have sizes: raise FileNotFoundError where one is yet to be made, which Snakemake shows as <TBD>.

    A look at each path is all that it takes; Snakemake asks for sizes in a loop of events for each job.
    """
    for file in files:
        if not (file.is_storage or Path(file).exists()):
            raise FileNotFoundError(ENOENT, "not made yet", str(file))
    return files


def memory(base_mb, times):
    """Return the memory that a job asks for: a base and a multiple of its input, more at each attempt."""

    def mem_mb(wildcards, input, attempt):
        return int((base_mb + times * sized(input).size_mb) * attempt)

    return mem_mb


def score_memory(wildcards, input, attempt):
    """Return the memory that a scoring job asks for, by its task."""
    return memory(base_mb=1500, times=inputs.task_memory_times(wildcards))(wildcards, input, attempt)


def largest_memory(base_mb, times):
    """Return the memory that a job asks for that reads one input after the other: a multiple of the largest."""

    def mem_mb(wildcards, input, attempt):
        largest_mb = max(Path(file).stat().st_size for file in input) / 2**20
        return int((base_mb + times * largest_mb) * attempt)

    return mem_mb


def embed_memory(wildcards, input, attempt):
    """Return the memory that an embedding job asks for: with a checkpoint the cells are streamed."""
    weights_mb = sum(Path(file).stat().st_size for file in input.get("weights", [])) / 2**20
    times = 2 if weights_mb else 20
    return int((2000 + times * sized(input).size_mb) * attempt)


def shared_memory(wildcards, input, attempt):
    """Return the memory that an embedding job of several splits asks for: that of the checkpoint and the largest split."""
    splits_mb, weights_mb = (
        [Path(file).stat().st_size / 2**20 for file in files] for files in (input.splits, input.weights)
    )
    return int((2000 + 2 * (max(splits_mb) + sum(weights_mb))) * attempt)


wildcard_constraints:
    model=inputs.pattern("model"),
    dataset=inputs.pattern("dataset"),
    task=inputs.pattern("task"),
    split=inputs.pattern("split"),
    object=inputs.pattern("object"),
    file=inputs.pattern("file"),
    species=inputs.pattern("species"),
    source=inputs.pattern("source"),
