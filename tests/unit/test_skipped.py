"""Runs of the tests: what was skipped is said in one line at the end, and tests of a group share a worker."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cellgauge.plan.sources import SCRIPTS

TESTS = """
import pytest

@pytest.mark.parametrize("n", range(3))
def test_of_scib(n):
    pytest.skip("task scib runs in an environment of its own, .venv-scib, which is not there")

def test_of_something(shared_data):
    pytest.skip("the moon is not full")

def test_that_runs():
    pass

@pytest.mark.slow
@pytest.mark.parametrize("n", range(2))
def test_of_a_cluster(n):
    pass
"""


def run(folder, *arguments):
    shutil.copy(Path(__file__).parents[1] / "conftest.py", folder)
    (folder / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), *arguments]
    helpers = Path(__file__).parents[1] / "helpers"
    environment = {**os.environ, "PYTHONPATH": f"{SCRIPTS}{os.pathsep}{helpers}"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout


def test_what_was_skipped_is_said_in_one_line(tmp_path):
    (tmp_path / "tests").mkdir()
    skipped = "3 of task scib: `make setup-scib`; 1 of other kinds: see the reasons above"
    *_, line, result = run(tmp_path / "tests", "-ra", "-n", "2").splitlines()
    assert line == f"Not run: {skipped}." and "4 skipped" in result and "3 passed" in result
    assert "Not run" not in run(tmp_path / "tests", "-k", "runs")


@pytest.mark.parametrize("processes", ["0", "2"])
def test_slow_tests_that_were_left_out_are_said(tmp_path, processes):
    (tmp_path / "tests").mkdir()
    *_, line, result = run(tmp_path / "tests", "-n", processes, "-m", "not slow", "-k", "not scib").splitlines()
    assert line == "Not run: 2 of the slow tests: `make test-all`; 1 of other kinds: see the reasons above."
    assert "1 passed" in result and "1 skipped" in result


def test_tests_of_a_group_share_a_worker(tmp_path):
    """A release of pytest once ignored the groups of pytest-xdist, without a word."""
    (tmp_path / "test_it.py").write_text(GROUPED)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadgroup"]
    subprocess.run([*command, "--rootdir", str(tmp_path)], cwd=tmp_path, capture_output=True, check=True)
    assert len({path.read_text() for path in tmp_path.glob("worker.*")}) == 1
    assert len([*tmp_path.glob("worker.*")]) == 8


GROUPED = """
import os, pathlib, pytest

@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("n", range(8))
def test_of_a_group(n):
    pathlib.Path(f"worker.{n}").write_text(os.environ["PYTEST_XDIST_WORKER"])
"""
