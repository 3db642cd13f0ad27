"""What every rules file shares: the checked configuration, wildcard constraints, the grid."""

import gc
import os
import shlex
import sys
from errno import ENOENT
from inspect import isfunction, signature
from pathlib import Path
from tempfile import TemporaryDirectory

from snakemake.common import overwrite_function_params
from snakemake.exceptions import WorkflowError
from snakemake.io import IOFile
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod

# The modules of Snakemake, some 200,000 objects, stay until the process ends. The garbage collector need not search them each
# time that the plan of a large run has grown by a quarter.
gc.freeze()


def checkout(here):
    """Return the folder of the workflow: where this file lies, or, if Snakemake reads it from GitHub or GitLab, a clone.

    The clone has one place in the working directory, whatever its version: jobs whose code means the same do not re-run.
    """
    if here.is_local:
        return Path(here.get_path_or_uri(secret_free=False)).parents[1]
    from git import Repo

    here.fetch_if_required()
    hosted, folder = here.hosted_repo.repo, Path(".snakemake/cellgauge").absolute()
    commit = hosted.commit(here.ref).hexsha
    if not (folder.exists() and Repo(folder).head.commit.hexsha == commit):
        folder.parent.mkdir(exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as temporary:
            hosted.clone(Path(temporary, "clone"), no_checkout=True).git.checkout(commit)
            if folder.exists():
                folder.rename(Path(temporary, "old"))
            Path(temporary, "clone").rename(folder)
    return folder


sys.path.insert(0, str(checkout(workflow.current_basedir) / "workflow" / "scripts"))

from cellgauge.plan import config as settings, paths, sources
from cellgauge.core.errors import CellgaugeError
from cellgauge.plan.check import check_jobs, require_files
from cellgauge.plan.grid import Grid
from cellgauge.plan.inputs import Inputs
from cellgauge.plan.interpreter import prefer_this_python, python_of
from cellgauge.plan.on_error import publish_partial_results, report_failures
from cellgauge.plan.progress import Progress, expected_seconds, forecast
from cellgauge.plan.stale_lock import remove_stale_lock
from cellgauge.plan.slurm import stop_beside_running_jobs
from cellgauge.plan.storage import Places

WITH_CONDA = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
WITH_CONTAINERS = DeploymentMethod.APPTAINER in workflow.deployment_settings.deployment_method

try:
    # the modifier of paths of now: later Snakemake may have that of another module
    inputs = Inputs(Grid(settings.completed(config)), Places(workflow.modifier.modify_path))
    outputs, divided_jobs = inputs.run.outputs, inputs.divided.values()
    prefer_this_python()
    if workflow.is_main_process:
        remove_stale_lock()
    if WITH_CONTAINERS:
        inputs.check_images(WITH_CONDA)
        workflow.deployment_settings.apptainer_args += f" --bind {shlex.quote(str(sources.ROOT))}"
    elif not WITH_CONDA and workflow.modifier.parent_modifier:  # Snakemake runs no onstart of a module
        inputs.check_environments()
except CellgaugeError as error:
    sys.exit(f"error: {error}")  # as a WorkflowError it would name a line of this file


def with_parameters(function):
    """Return a function with its parameters attached, which Snakemake otherwise reads from its signature at every call."""
    overwrite_function_params(function, signature(function).parameters)
    return function


for method in filter(isfunction, vars(Inputs).values()):
    overwrite_function_params(method, dict([*signature(method).parameters.items()][1:]))  # without `self`


# Whether tasks compute on a GPU at all. A constant 0 saves Snakemake a call for each of thousands of jobs.
TASKS_USE_GPUS = inputs.run.score_device == "cuda"

# What Snakemake writes down of rules without jobs, no function can tell it.
CONTAINERIZED = inputs.rules() if "--containerize" in sys.argv else None


def environment(rule, choose):
    """Return the environment of a rule, a function of its wildcards; for `snakemake --containerize` only if it has jobs."""
    return choose if CONTAINERIZED is None or rule in CONTAINERIZED else None


def image(environment):
    """Return the container of a rule with this environment file, or this function of its wildcards; none without apptainer."""
    if not WITH_CONTAINERS:
        return None
    return (
        (lambda wildcards: inputs.image(environment(wildcards))) if callable(environment) else inputs.image(environment)
    )


def script(name):
    """Return workflow/scripts/`name`.py as a job's input, which no storage holds."""
    return local(sources.script(name))


def users_files(function, result, *arguments):
    """Return an input function that ends the run, with a sentence for each, where files of the user's are not there.

    Files that an existing result was made from may be gone. `arguments` are the function's, by default the wildcards.
    """

    @with_parameters
    def files(wildcards):
        def used():
            output = result.format(**dict(wildcards.items()))
            return inputs.places.exists(output) and workflow.persistence.input(IOFile(inputs.at(output))) or []

        paths_of_job = function(*(arguments or (wildcards,)))
        paths_of_job = [paths_of_job] if isinstance(paths_of_job, str) else paths_of_job
        if workflow.is_main_process:
            try:
                require_files(inputs, paths_of_job, used)
            except CellgaugeError as error:
                sys.exit(f"error: {error}")
        return [local(path) if isinstance(path, paths.UsersFile) else path for path in paths_of_job]

    return files


def code(*modules, data=""):
    """Return a function of wildcards that gives the digests of what a job runs.

    On a cluster each job reads the workflow once more, and needs those of its own rule alone.
    """
    return with_parameters(lambda wildcards: sources.code(*modules, data=data))


def of(job, function):
    """Return what `function` says of a shared job as a function of wildcards, which it has none of."""
    return with_parameters(lambda wildcards: function(job))


def schedule_as_jobs_end(scheduler):
    """Take Snakemake's own limit, 100 jobs a second, away from its scheduler; one that the user gives stays.

    With a limit each job that ends leaves a timer behind that looks through all ready jobs every second, to the end of the
    run (Snakemake 9.27): after some hundred jobs it does nothing else.
    """
    limit = getattr(scheduler, "job_rate_limiter", None)
    if limit and (limit.max_jobs, limit.timespan) == (100, 1):
        scheduler.job_rate_limiter = None


@with_parameters
def task_python(wildcards):
    """Return the Python that scores a task: with conda or containers that of the rule's environment."""
    return "python" if WITH_CONDA or WITH_CONTAINERS else python_of(inputs.run.task_env(wildcards.task))


def sizes_mb(files):
    """Return the size of each file; raise FileNotFoundError where one is yet to be made, which Snakemake shows as <TBD>.

    A look at each path is all that it takes; Snakemake asks for sizes in a loop of events for each job.
    """
    for file in files:
        if not (file.is_storage or os.path.exists(file)):
            raise FileNotFoundError(ENOENT, "not made yet", str(file))
    try:
        return files.size_files_mb
    except WorkflowError as error:  # made by another run since Snakemake looked
        raise FileNotFoundError(ENOENT, str(error)) from None


def memory(base_mb, times, held_mb=lambda wildcards, input: sum(sizes_mb(input))):
    """Return a function that gives the memory of a job: a base and a multiple of what it holds, more at each attempt.

    `held_mb` says what it holds, by default its whole input. Where the multiple itself depends on the job, `held_mb`
    applies it and `times` is 1.
    """

    @with_parameters
    def mem_mb(wildcards, input, attempt):
        return int((base_mb + times * held_mb(wildcards, input)) * attempt)

    return mem_mb


def mb_of(input, *names):
    """Return the sizes of the files of each of these inputs."""
    size_mb = dict(zip(input, sizes_mb(input)))
    return [[size_mb[file] for file in input.get(name)] for name in names]


def score_mb(wildcards, input):
    """Return the size of the input of a scoring job, as many times as its task holds it."""
    return inputs.task_memory_times(wildcards) * sum(sizes_mb(input))


def embed_mb(wildcards, input):
    """Return the size of the input of an embedding job, as many times as it is held: with a checkpoint cells are streamed."""
    times = 2 if input.get("weights", []) else 20
    return times * sum(sizes_mb(input))


def shard_mb(wildcards, input):
    """Return the size of the checkpoint and of a shard's share of the split."""
    splits, weights = mb_of(input, "splits", "weights")
    return sum(splits) / int(wildcards.n_shards) + sum(weights)


def largest_split_mb(wildcards, input):
    """Return the size of the checkpoint and of the largest split: splits are read one after the other."""
    splits, weights = mb_of(input, "splits", "weights")
    return max(splits) + sum(weights)


wildcard_constraints:
    **inputs.patterns(),
