"""The SLURM profile on SLURM: one machine, two made-up GPUs, no accounting (tests/helpers/slurm_machine.py).

A minute and a half of CPU, most of it the starts of Snakemake. CELLGAUGE_RELIABILITY=1 adds a job that meets its time limit:
three minutes, hardly any CPU.
"""

import copy
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import slurm_machine
import yaml
from project import CONFIG, ROOT, Project, make_project

PROFILE = ROOT / "profiles/slurm"
FLAGS = ("--profile", str(PROFILE), "--slurm-init-seconds-before-status-checks", "2", "--slurm-keep-successful-logs")
ADAPTER = "workflow/scripts/cellgauge/models/oracle.py"
FIRST_LINE = "    labels, codes = np.unique("
RECORD = """
    import os, time
    from pathlib import Path

    Path("gpus").mkdir(exist_ok=True)
    attempts = Path("gpus", cells.name)
    with attempts.open("a") as file:
        print(os.environ["CUDA_VISIBLE_DEVICES"], os.environ["SLURM_JOB_ID"], file=file, flush=True)
    first = len(attempts.read_text().splitlines()) == 1
    until = time.monotonic() + 120
    while len(list(Path("gpus").iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    if first and cells.name == "mouse":
        import numpy

        numpy.ones(2_700 * 2**17), time.sleep(30)  # 2.7 GB of the 2 GB that it asked for: SLURM ends it
"""
"""What the two jobs of a model on a GPU do: say which GPU they see, wait for each other, and one needs more memory."""


@pytest.fixture(scope="session")
def plugin(unavailable) -> Path:
    """The folder of the executor's plugin as `make setup-slurm` installs it: beside the environment, which it would slow."""
    folder, lock = ROOT / ".cache/slurm-plugin", (ROOT / "requirements-slurm.lock").read_text(encoding="utf-8")
    if not (folder / "lock").exists() or (folder / "lock").read_text() != lock:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(folder)]
        command += ["--requirement", str(ROOT / "requirements-slurm.lock")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            unavailable(f"{' '.join(command)}: {done.stderr[-500:]}")
        (folder / "lock").write_text(lock)
    return folder


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """SLURM, started for this module."""
    if why := slurm_machine.missing():
        if os.environ.get("CELLGAUGE_REQUIRE_SLURM") == "1":
            pytest.fail(f"CELLGAUGE_REQUIRE_SLURM=1, but: {why}")
        pytest.skip(f"no SLURM: {why}")
    machine = slurm_machine.SlurmMachine(tmp_path_factory.mktemp("slurm"))
    yield machine
    machine.stop()


def beginning_with(lines: str, adapter: str) -> str:
    """Return the text of an adapter whose `embed` begins with some lines."""
    assert FIRST_LINE in adapter
    return adapter.replace(FIRST_LINE, f"{lines}{FIRST_LINE}", 1)


def on_slurm(project: Project, plugin: Path, *flags: str, check: bool = True) -> subprocess.CompletedProcess:
    return project.run(*FLAGS, *flags, check=check, real=True, PYTHONPATH=str(plugin))


@pytest.fixture(scope="module")
def finished(slurm, plugin, tmp_path_factory):
    """A project that SLURM ran, from downloads to report, and what Snakemake said."""
    config = copy.deepcopy(CONFIG)
    config["run"] = {**CONFIG["run"], "models": ["oracle"], "tasks": ["clustering"], "published": []}
    config["models"] = {"oracle": {"gpus": 1}}
    project = make_project(tmp_path_factory.mktemp("on_slurm") / "project", config)
    project.show_details()
    adapter = project.folder / ADAPTER
    text = adapter.read_text(encoding="utf-8")
    adapter.write_text(beginning_with(RECORD, text), encoding="utf-8")
    done = on_slurm(project, plugin, "results/report.html")
    adapter.write_text(text, encoding="utf-8")
    return project, done.stdout


def logs_of_jobs(project: Project) -> dict[str, str]:
    files = (project.folder / ".snakemake/slurm_logs").rglob("*.log")
    return {file.stem: file.read_text(encoding="utf-8", errors="replace") for file in files}


@pytest.mark.slow
@pytest.mark.reliability(
    fault="a SLURM cluster without accounting",
    provoked="slurmctld and slurmd started with accounting_storage/none",
    outcome="the run ends with its report: status by squeue",
    tries=1,
)
def test_a_run_without_accounting_ends_with_a_report(finished):
    project, said = finished
    assert (project.folder / "results/report.html").is_file()
    table = project.table()
    assert set(table["status"]) == {"ok"} and set(table["split"]) == {"human", "mouse"}
    assert "Complete log(s)" in said


@pytest.mark.slow
def test_jobs_of_seconds_share_a_slurm_job(finished, slurm):
    """Two splits, two embeddings and one that was tried again; neighbors, scores and pictures in one."""
    project, said = finished
    logs = logs_of_jobs(project)
    submitted = re.findall(r"has been submitted with SLURM jobid (\d+)", said)
    assert len(submitted) == len(logs) == 2 + 3 + 1
    group = next(log for log in logs.values() if "localrule score:" in log)
    assert {
        rule: len(re.findall(rf"^localrule {rule}:", group, re.M)) for rule in ("neighbors", "score", "layout")
    } == {
        "neighbors": 2,
        "score": 2,
        "layout": 2,
    }


@pytest.mark.slow
def test_a_job_builds_few_graphs_of_its_own_rules(finished):
    """The plugin starts Snakemake once a SLURM job, and once more a job of ours: 2 for one alone, 7 for a group of six."""
    for log in logs_of_jobs(finished[0]).values():
        jobs = len(re.findall(r"^localrule ", log, re.M))
        assert log.count("Building DAG of jobs...") == jobs + 1
        assert log.count("--allowed-rules") == jobs + 1


@pytest.mark.slow
@pytest.mark.reliability(
    fault="a SLURM job over its memory limit",
    provoked="2.7 GB in a job that asked for 2 GB",
    outcome="the next attempt asks for twice the memory and time, and ends well",
    tries=1,
)
def test_a_job_that_met_its_memory_limit_asks_for_more_memory_and_time(finished, slurm):
    project, _ = finished
    attempts = [line.split()[1] for line in (project.folder / "gpus/mouse").read_text().splitlines()]
    first, second = ({row["JobId"]: row for row in slurm.ended()}[job] for job in attempts)
    assert first["JobState"] in ("FAILED", "OUT_OF_MEMORY", "CANCELLED") and second["JobState"] == "COMPLETED"
    assert int(second["TimeLimit"]) == 2 * int(first["TimeLimit"])
    memory = [re.search(r"mem_mb=(\d+)", logs_of_jobs(project)[job]).group(1) for job in attempts]
    assert int(memory[1]) == 2 * int(memory[0])


@pytest.mark.slow
def test_two_jobs_at_once_have_a_gpu_each(finished):
    """They waited for each other, so they ran at once."""
    human, mouse = ((finished[0].folder / "gpus" / name).read_text().split()[0] for name in ("human", "mouse"))
    assert {human, mouse} == {"0", "1"}


@pytest.mark.slow
@pytest.mark.reliability(
    fault="kill -9 of Snakemake while a SLURM job runs",
    provoked="kill -9, then the same command",
    outcome="it names the job and its scancel and submits nothing; when the job has ended, its result is kept",
    tries=1,
)
def test_after_kill_9_nothing_is_submitted_twice(finished, slurm, plugin):
    project, _ = finished
    adapter = project.folder / ADAPTER
    text = adapter.read_text(encoding="utf-8")
    target = "results/embeddings/oracle@7/tiny/human.h5ad"
    wait = "    import time\n\n    from pathlib import Path\n\n    while not Path('go').exists():\n        time.sleep(0.2)\n"
    adapter.write_text(beginning_with(wait, text), encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "--configfile", "tiny.yaml", *FLAGS, target]
    environment = {**os.environ, "HOME": str(project.folder), "PYTHONPATH": str(plugin)}
    with (project.folder / "killed.log").open("w") as log:
        snakemake = subprocess.Popen(command, cwd=project.folder, env=environment, stdout=log, stderr=log)
        wait_until(lambda: slurm.queue("%T") == ["RUNNING"], project.folder / "killed.log")
        time.sleep(1)  # let Snakemake write down what it has submitted
        os.kill(snakemake.pid, signal.SIGKILL)
        snakemake.wait()

    refused = on_slurm(project, plugin, target, check=False)
    run = slurm.queue("%j")
    assert len(run) == 1, "a second job was submitted"
    assert refused.returncode and f"scancel --name={run[0]}" in refused.stdout
    assert "has been submitted" not in refused.stdout

    (project.folder / "go").touch()
    wait_until(lambda: not slurm.queue(), project.folder / "killed.log")
    again = on_slurm(project, plugin, target)
    assert "Nothing to be done" in again.stdout, again.stdout  # what the job finished by itself is kept


def wait_until(condition, log: Path, seconds: float = 180) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.2)


TIMEOUT = """
rule layout:  # of the rules that the profile names the one with the least time
    output: "done.txt"
    resources: mem_mb=500
    shell: "scontrol show job $SLURM_JOB_ID | grep -o 'TimeLimit=[^ ]*' >> limits.txt; sleep 100; touch {output}"
"""


@pytest.mark.slow
@pytest.mark.skipif(
    os.environ.get("CELLGAUGE_RELIABILITY") != "1", reason="three minutes of waiting: set CELLGAUGE_RELIABILITY=1"
)
@pytest.mark.reliability(
    fault="a SLURM job over its time limit",
    provoked="100 seconds in a job that asked for one minute",
    outcome="the next attempt asks for two minutes, and ends well",
    tries=1,
)
def test_a_job_that_met_its_time_limit_gets_more(slurm, plugin, tmp_path):
    (tmp_path / "Snakefile").write_text(TIMEOUT)
    flags = ["--set-resources", "layout:runtime=1 * attempt", "--groups", "layout=alone"]
    command = [sys.executable, "-m", "snakemake", "done.txt", *FLAGS, *flags]
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(plugin)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "limits.txt").read_text().split() == ["TimeLimit=00:01:00", "TimeLimit=00:02:00"]


# --- without SLURM ---------------------------------------------------------------------------------------------------


def test_the_profile_names_rules_that_there_are():
    facts = yaml.safe_load((PROFILE / "config.yaml").read_text(encoding="utf-8"))
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "workflow/rules").glob("*.smk"))
    rules = {name for text in texts for name in re.findall(r"^(?:rule|use rule \w+ as) (\w+)\b", text, re.M)}
    assert {*facts["set-resources"], *facts["groups"]} <= rules
    assert set(facts["group-components"]) == set(facts["groups"].values())


@pytest.mark.parametrize(("gpu", "partition"), [(0, "cpu"), (1, "gpu")])
def test_one_file_sends_jobs_to_partitions(gpu, partition, plugin, monkeypatch):
    monkeypatch.syspath_prepend(str(plugin))
    from snakemake_executor_plugin_slurm.partitions import get_best_partition, read_partition_file

    for attempt in (1, 2, 3):  # the longest of the profile
        resources = {"gpu": gpu, "mem_mb": 2000 * attempt, "runtime": 480 * attempt}
        job = SimpleNamespace(name="embed", threads=4, resources=resources, is_group=lambda: False)
        best = get_best_partition(read_partition_file(PROFILE / "partitions.yaml"), job, logging.getLogger())
        assert best == partition


def test_the_lock_names_the_executor_alone():
    """It adds to the environment and replaces nothing."""
    slurm, others = (
        {line.partition("==")[0] for line in (ROOT / name).read_text().splitlines() if "==" in line}
        for name in ("requirements-slurm.lock", "requirements.lock")
    )
    assert slurm and not slurm & others
