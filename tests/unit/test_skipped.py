"""A run of the tests says at its end, in one line, what was skipped and how to have it run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

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
"""


def run(folder, *arguments):
    shutil.copy(Path(__file__).parents[1] / "conftest.py", folder)
    (folder / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout


def test_what_was_skipped_is_said_in_one_line(tmp_path):
    (tmp_path / "tests").mkdir()
    *_, line, result = run(tmp_path / "tests", "-ra", "-n", "2").splitlines()
    assert line == "Not run: 3 of task scib: `make setup-scib`; 1 of other kinds: see the reasons above."
    assert "4 skipped" in result
    assert "Not run" not in run(tmp_path / "tests", "-k", "runs")
