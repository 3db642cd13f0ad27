"""Processes that compute parts of a sequence: order, arrays, errors, and no process that stays."""

import os
import signal
import time

import numpy as np
import pytest

from cellgauge.core.errors import CellgaugeError, ContractError
from cellgauge.core.spawned import AVAILABLE, Spawned

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="processes are spawned on Linux alone")


def numbered(k, n):
    """Yield every n-th of seven parts: as many arrays as its number says."""
    for part in range(k, 7, n):
        yield [
            (part, position, np.full(1000 * position, part, dtype=np.int16), os.getpid()) for position in range(part)
        ]


def failing(k, n):
    yield [k]
    if k == 1:
        raise ContractError("what it says")
    yield [k + n]


class NoPickle(Exception):
    def __init__(self, first, second):
        super().__init__(first)


def odd(k, n):
    raise NoPickle("of which", "this is told")
    yield


def killed(k, n):
    yield [1]
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)


def endless(k, n):
    while True:
        yield [np.zeros(10**5)]


def threads_of_libraries(k, n):
    yield [os.environ["OMP_NUM_THREADS"]]


def run(parts, n):
    spawned = Spawned(parts, n)
    try:
        yield from spawned
    finally:
        spawned.close()
        assert not any(process.is_alive() for process, _ in spawned._workers)


@pytest.mark.parametrize("n", [1, 3])
def test_items_arrive_in_order_whichever_process_computed_them(n):
    items = list(run(numbered, n))
    assert [item[:2] for item in items] == [(part, position) for part in range(7) for position in range(part)]
    for part, position, array, _ in items:
        np.testing.assert_array_equal(array, np.full(1000 * position, part))
        assert array.flags.writeable
    assert len({pid for *_, pid in items}) == n and os.getpid() not in {pid for *_, pid in items}


def test_an_error_arrives_in_its_place_with_its_type():
    items = run(failing, 2)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ContractError) as caught:
        next(items)
    assert str(caught.value) == "what it says"
    assert "in failing" in caught.value.__notes__[0]


def test_an_error_that_cannot_be_pickled_is_its_traceback():
    with pytest.raises(RuntimeError, match="NoPickle: of which"):
        list(run(odd, 1))


def test_a_process_ended_from_outside_is_one_sentence():
    with pytest.raises(CellgaugeError, match=r"ended too early \(by signal 9\), .* more memory \(mem_mb\)"):
        list(run(killed, 1))


def test_who_stops_reading_leaves_no_process():
    items = run(endless, 2)
    next(items)
    items.close()


def test_libraries_of_a_process_use_one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    assert list(run(threads_of_libraries, 1)) == ["1"]
    assert os.environ["OMP_NUM_THREADS"] == "4" and "MKL_NUM_THREADS" not in os.environ
