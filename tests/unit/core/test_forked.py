"""Parts of a job in processes of their own: they see the caller's memory, return what they find, and fail aloud."""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cellgauge.core.errors import CellgaugeError
from cellgauge.core.forked import FORKS, run_apart
from cellgauge.core.threads import n_threads

SCRIPTS = Path(__file__).resolve().parents[3] / "workflow" / "scripts"

pytestmark = pytest.mark.skipif(
    not FORKS, reason="processes are forked on Linux only; elsewhere functions run in place"
)


def test_parts_inherit_and_answer_in_order():
    data = np.arange(10)
    answers = run_apart([lambda part=part: (data[part].sum(), os.getpid()) for part in (slice(5), slice(5, 10))], 2)
    assert [total for total, _ in answers] == [10, 35]
    assert os.getpid() not in {process for _, process in answers}


def test_parts_run_side_by_side():
    """Each waits for all others: one after the other they would wait in vain."""
    met = multiprocessing.get_context("fork").Barrier(4)
    assert sorted(run_apart([partial(met.wait, timeout=60)] * 4, 4)) == [0, 1, 2, 3]


def test_each_part_has_one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert n_threads() == 4
    assert run_apart([n_threads]) == [1]


@pytest.mark.parametrize("value, expected", [("", 1), ("3", 3), ("4,2", 4), ("0", 1), ("many", 1)])
def test_threads_granted(monkeypatch, value, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert n_threads() == expected


def test_errors_come_back():
    def wrong():
        raise CellgaugeError("no labels")

    with pytest.raises(CellgaugeError, match="no labels"):
        run_apart([wrong])


def test_a_part_that_is_ended_from_outside_says_what_to_do():
    with pytest.raises(CellgaugeError, match="memory ran out: give the job more memory"):
        run_apart([lambda: os.kill(os.getpid(), signal.SIGKILL)])


def test_what_a_part_allocates_is_gone():
    def allocate():
        return int(np.ones(50_000_000 // 8).sum())

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert run_apart([allocate]) == [6_250_000]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 25_000


def test_parts_end_with_their_job(tmp_path):
    """A cancelled job leaves nobody behind who computes on."""
    code = f"""
import sys, time, os
sys.path.insert(0, {str(SCRIPTS)!r})
from cellgauge.core.forked import run_apart
def wait():
    open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
    time.sleep(60)
run_apart([wait])
"""
    job = subprocess.Popen([sys.executable, "-c", code])
    path = tmp_path / "pid"
    deadline = time.monotonic() + 20
    while not (path.exists() and path.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    job.kill()
    job.wait()
    child = int(path.read_text())
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child)


def is_running(process: int) -> bool:
    """Return whether a process exists and is no zombie, which is what remains where nobody collects orphans."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
