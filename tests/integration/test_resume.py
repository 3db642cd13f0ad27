"""A run that is killed goes on by the same command, to the same tables."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from copy import deepcopy
from pathlib import Path

import psutil
import pytest
from project import CONFIG, ROOT, Project, make_project
from reliability import IN_FULL
from servers import ObjectServer

MOMENTS = 20 if IN_FULL else 1
TABLES = (
    "scores.csv",
    "scores.parquet",
    "summary.csv",
    "conditions.csv",
    "intervals.csv",
    "ranks.csv",
    "layouts.parquet",
)
DATASET = "tiny" if IN_FULL else "tiny/human"
SMALL = {"models": ["random"], "datasets": [DATASET], "tasks": ["clustering"], "published": []}
COMMAND = [sys.executable, "-m", "snakemake", "--cores", "2", "results/tables/scores.csv", "--configfile", "tiny.yaml"]


def tables(project: Project) -> dict[str, bytes]:
    return {name: (project.folder / "results/tables" / name).read_bytes() for name in TABLES}


def output_of(project: Project) -> Path:
    return project.folder.with_suffix(".txt")


def start(project: Project) -> psutil.Popen:
    """Start the run as a user does, its output in a file."""
    with output_of(project).open("w") as output:
        return psutil.Popen(COMMAND, cwd=project.folder, stdout=output, stderr=subprocess.STDOUT)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A checkout that has not run and fetches its data from a server, one that has, and the seconds that the run took."""
    project, config = make_project(tmp_path_factory.mktemp("killed") / "project"), deepcopy(CONFIG)
    shutil.copy2(ROOT / ".gitignore", project.folder)
    with ObjectServer() as server:
        for species, split in config["datasets"]["tiny"]["splits"].items():
            server.objects[f"/{species}.h5ad"] = (project.folder / split["url"]).read_bytes()
            split["url"] = server.url(f"/{species}.h5ad")
        project.configure({**config, "run": SMALL})
        for command in (["init"], ["add", "."], ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-m", "x"]):
            subprocess.run(["git", *command], cwd=project.folder, check=True, capture_output=True)
        done = Project(project.folder.with_name("done"))
        shutil.copytree(project.folder, done.folder)
        began = time.monotonic()
        assert start(done).wait() == 0, output_of(done).read_text()
        yield project, done, time.monotonic() - began
        server.shutdown()


def jobs_of(run: psutil.Popen) -> list[psutil.Process]:
    """Return the processes of a run that work in scripts of ours."""
    processes = []
    for process in run.children(recursive=True):
        with suppress(psutil.Error):  # it may have ended just now
            if "workflow/scripts" in " ".join(process.cmdline()[1:2]):
                processes.append(process)
    return processes


def kill(run: psutil.Popen, what: str, rng: random.Random) -> bool:
    """Kill -9 Snakemake, a job, or everything; return whether there was something to kill."""
    if what == "a job":
        victims: list[psutil.Process] = []
        while not victims and run.poll() is None:  # a run that has ended and was waited for has no children to ask for
            time.sleep(0.01)
            victims = jobs_of(run)
        victims = victims and [rng.choice(victims)]
    else:
        victims = [run, *(run.children(recursive=True) if what == "everything" else ())] if run.poll() is None else []
    killed = []
    for victim in victims:
        with suppress(psutil.NoSuchProcess):  # it ended just now
            victim.kill()
            killed.append(victim)
    return bool(killed)


@pytest.mark.reliability(
    fault="kill -9 of Snakemake, of a job, of everything",
    provoked="at random moments of a run on tiny data that fetches its data (seeds from 0 on for each)",
    outcome="the same command goes on, to byte-identical tables; no temporary file is left",
    tries=1,
)
@pytest.mark.parametrize("seed", range(MOMENTS))
@pytest.mark.parametrize(
    "what",
    [pytest.param("Snakemake", marks=pytest.mark.slow), pytest.param("a job", marks=pytest.mark.slow), "everything"],
)
def test_a_killed_run_goes_on_by_the_same_command(undisturbed, tmp_path, what, seed):
    fresh, done, seconds = undisturbed
    rng, hit = random.Random(f"{what} {seed}"), False
    while not hit:
        project = Project(tmp_path / "project")
        shutil.rmtree(project.folder, ignore_errors=True)
        shutil.copytree(fresh.folder, project.folder)
        run = start(project)
        time.sleep(rng.random() * seconds)
        processes = run.children(recursive=True) if run.poll() is None else []
        hit = kill(run, what, rng)
        run.wait()
    again = start(project)
    assert again.wait() == 0, output_of(project).read_text()
    assert tables(project) == tables(done)
    psutil.wait_procs(processes, timeout=60)  # jobs outlive Snakemake
    assert [path for path in project.folder.glob("re*s/**/.*") if path.suffix == ".part"] == []


@pytest.mark.reliability(
    fault="a run in a git checkout",
    provoked="git status after a run that fetched its data",
    outcome="clean: what was fetched and its checksums lie in resources/",
    tries=1,
)
def test_a_run_leaves_the_checkout_clean(undisturbed):
    _, done, _ = undisturbed
    n_objects = 2 if IN_FULL else 1
    assert (done.folder / "resources/checksums.yaml").read_text().count("http://127.0.0.1") == n_objects
    status = ["git", "status", "--porcelain"]
    assert subprocess.run(status, cwd=done.folder, check=True, capture_output=True, text=True).stdout == ""


@pytest.mark.reliability(
    fault="two runs at once in one folder",
    provoked="a second run, and a dry run, while a job of the first is held",
    outcome="the second ends with a sentence that names the folder; the first ends whole",
    tries=1,
)
def test_a_second_run_does_not_disturb_the_first(undisturbed, tmp_path):
    fresh, done, _ = undisturbed
    project = Project(tmp_path / "project")
    shutil.copytree(fresh.folder, project.folder)
    first = start(project)
    while not (jobs := jobs_of(first)):
        assert first.poll() is None
        time.sleep(0.02)
    working = [psutil.Process(first.pid), *jobs]
    for process in working:
        process.suspend()  # so that the first is at work as long as the second asks
    for dry in (["--dry-run"], []):
        second = subprocess.run([*COMMAND, *dry], cwd=project.folder, capture_output=True, text=True, check=False)
        assert (second.returncode == 0) == bool(dry), second.stderr
    assert "Directory cannot be locked" in second.stderr and str(project.folder) in second.stderr
    assert "Traceback" not in second.stderr
    for process in working:
        process.resume()
    assert first.wait() == 0 and tables(project) == tables(done)


def test_make_resume_is_the_same_command(undisturbed, tmp_path):
    shown = subprocess.run(
        ["make", "--dry-run", "--old-file=.venv/.installed", "resume", "ARGS=--configfile tiny.yaml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "snakemake" in shown and "--configfile tiny.yaml" in shown and "unlock" not in shown
