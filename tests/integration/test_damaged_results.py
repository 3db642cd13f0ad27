"""Damaged, full and read-only results: each is one sentence, and the same command mends what it can."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from project import CONFIG, Project, make_project
from reliability import IN_FULL

SMALL = {"models": ["linear"], "datasets": ["tiny"], "tasks": ["clustering"], "published": []}
TABLES = ("scores.csv", "scores.parquet", "summary.csv", "intervals.csv", "layouts.parquet")
DAMAGES = {
    "zeros": lambda content: content[: len(content) // 2] + bytes(len(content) - len(content) // 2),
    "a flipped bit": lambda content: (
        content[: len(content) // 3] + bytes([content[len(content) // 3] ^ 1]) + content[len(content) // 3 + 1 :]
    ),
    "a cut": lambda content: content[: len(content) // 2],
}
TARGET = ("--", "results/tables/scores.csv")
CHAIN = [  # a job reads the file before that which it makes
    "results/splits/tiny/human.h5ad",
    "results/embeddings/linear/tiny/human.h5ad",
    "results/neighbors/clustering/linear/tiny/human.npz",
    "results/scores/clustering/linear/tiny/human.tsv",
    "results/tables/scores.csv",
]
CASES = [(place, damage) for place in range(4) for damage in DAMAGES]
CASES = CASES if IN_FULL else CASES[3:4]


def tables(project: Project) -> dict[str, bytes]:
    return {name: (project.folder / "results/tables" / name).read_bytes() for name in TABLES}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Project:
    project = make_project(tmp_path_factory.mktemp("whole") / "project", {**CONFIG, "run": SMALL})
    project.run(*TARGET)
    return project


@pytest.mark.reliability(
    fault="a stage file is damaged on the disk",
    provoked="zeros in its second half, one flipped bit or a cut: split, embedding, neighbors, scores",
    outcome="the job that reads it says so in one sentence; the same command makes it again, to byte-identical tables",
    tries=1,
)
@pytest.mark.parametrize(("place", "damage"), CASES)
def test_the_same_command_makes_a_damaged_file_again(whole, tmp_path, place, damage):
    project = Project(tmp_path / "project")
    shutil.copytree(whole.folder, project.folder, symlinks=True)
    path, *later = CHAIN[place:]
    file, before = project.folder / path, tables(project)
    status = file.stat()
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    for name in later:
        (project.folder / name).unlink()
    said = project.run(*TARGET, check=False)
    assert said.returncode != 0 and f"{path}: this file is damaged" in said.stdout
    assert "Traceback" not in said.stdout
    project.run(*TARGET)
    assert tables(project) == before
    assert list(project.folder.glob("results/**/.*.damaged")) == []


@contextmanager
def mounted(folder: Path, options: str):
    """Mount a file system in memory; skip where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a file system can be mounted by root alone: run the test as root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.reliability(
    fault="the disk is full",
    provoked="results/ or a folder of it on a file system of some kB",
    outcome="one sentence that names the place and what to do; nothing half written; with room the same command goes on",
    tries=1,
)
@pytest.mark.parametrize(
    ("place", "size"),
    [("results/splits", "20k"), ("results/embeddings", "20k"), ("results/scores", "8k"), ("results", "200k")][
        : None if IN_FULL else 1
    ],
)
def test_a_full_disk_is_one_sentence_and_with_room_the_run_goes_on(whole, tmp_path, place, size):
    project = make_project(tmp_path / "project", whole.config)
    with mounted(project.folder / place, f"size={size}"):
        failed = project.run(*TARGET, check=False)
        left = [path for path in (project.folder / place).rglob("*") if path.is_file() and path.suffix != ".parquet"]
        assert failed.returncode != 0
        assert "No space left on device; make room there and run the same command again" in failed.stdout, failed.stdout
        assert f"{place}" in failed.stdout and "Traceback" not in failed.stdout
        assert not [path for path in left if path.name.startswith(".")]
        subprocess.run(["mount", "-o", "remount,size=50m", str(project.folder / place)], check=True)
        project.run(*TARGET)
        assert tables(project) == tables(whole)


@pytest.mark.reliability(
    fault="the results are read-only",
    provoked="results/ on a file system that is mounted read-only",
    outcome="Snakemake ends before the first job, and names the folder and the reason",
    tries=1,
)
def test_read_only_results_are_one_sentence(whole, tmp_path):
    project = make_project(tmp_path / "project", whole.config)
    with mounted(project.folder / "results", "size=50m,ro"):
        failed = project.run(*TARGET, check=False)
    assert failed.returncode != 0 and "Traceback" not in failed.stdout
    assert "Read-only file system: 'results" in failed.stdout, failed.stdout
