"""Mini-batches that processes prepare are those that a thread prepares; no process stays, whatever happens."""

import math
import multiprocessing
import threading

import numpy as np
import pytest
import tiny
import torch
from counting import Counting, expected_rows

from cellgauge.core import spawned
from cellgauge.core.errors import CellgaugeError
from cellgauge.files.split import Split
from cellgauge.inference.run import default_processes, embed_split, host_pipeline

spawns = pytest.mark.skipif(not spawned.AVAILABLE, reason="processes are spawned on Linux alone")


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return Split.open(tiny.split_file(tmp_path_factory.mktemp("tiny"), n_cells=150))


@pytest.fixture(scope="module")
def expected(split):
    return expected_rows(split)


@pytest.fixture
def two_processes(monkeypatch):
    monkeypatch.setattr("cellgauge.inference.run.default_processes", lambda device: 2)


def mini_batches(split, encoder, n_processes, budget=300, window=20):
    with host_pipeline(split, encoder, budget, window, n_processes) as batches:
        return list(batches)


@spawns
@pytest.mark.parametrize("n_processes", [1, 3])
def test_processes_prepare_the_mini_batches_of_a_thread(split, n_processes):
    encoder = Counting()
    encoder.network = torch.nn.Linear(2, 2)
    encoder.network.of_the_gpu = lambda: None  # cannot be pickled: the network must stay here
    expected = mini_batches(split, encoder, 0)
    batches = mini_batches(split, encoder, n_processes)
    assert len(expected) == len(batches) > 8
    for batch, other in zip(batches, expected, strict=True):
        np.testing.assert_array_equal(batch.rows, other.rows)
        assert batch.width == other.width
        for array, another in zip(batch.arrays, other.arrays, strict=True):
            np.testing.assert_array_equal(array, another)
            assert array.dtype == another.dtype and array.flags.writeable


@spawns
def test_windows_without_embeddable_cells_are_passed_over(split, expected, two_processes):
    skip = split.cells[[*range(10, 30), 149]]
    matrix, _ = embed_split(split, Counting(skip), device="cpu", cells_per_window=10)
    lost = np.isin(split.cells, skip)
    assert np.isnan(matrix[lost]).all()
    np.testing.assert_array_equal(matrix[~lost], expected[~lost])


@spawns
def test_an_error_in_a_process_is_its_sentence(split, two_processes):
    with pytest.raises(CellgaugeError) as caught:
        embed_split(split, Counting(fails_at=split.cells[100]), device="cpu", cells_per_window=20)
    assert str(caught.value) == f"cell {split.cells[100]} cannot be tokenized"


@spawns
@pytest.mark.parametrize("n_batches", [0, 1])
def test_nothing_stays_when_the_network_fails(split, n_batches):
    with pytest.raises(ZeroDivisionError), host_pipeline(split, Counting(), 100, 20, 2) as batches:
        for _ in range(n_batches):
            next(batches)
        raise ZeroDivisionError
    assert not multiprocessing.active_children()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tokenize")]


@pytest.mark.parametrize(("in_order", "budget"), [(True, 300), (False, math.inf)])
def test_cells_that_share_a_stream_or_a_batch_are_prepared_by_one_thread(split, in_order, budget):
    with host_pipeline(split, Counting(in_order=in_order), budget, 20, 3) as batches:
        assert not multiprocessing.active_children()
        assert sum(len(batch.rows) for batch in batches) == 150


def test_processes_are_for_gpus_and_leave_a_thread_to_the_network(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert default_processes("cpu") == default_processes("mps") == 0
    assert default_processes("cuda:1") == (3 if spawned.AVAILABLE else 0)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert default_processes("cuda") == 0
