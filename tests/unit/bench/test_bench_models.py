"""The verdict of `make bench-models`, and its full-size checkpoints: what is random about them and what is not."""

import importlib

import numpy as np
import pytest
from scipy.sparse import random

from cellgauge.plan.sources import SCRIPTS


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS.parents[1] / "bench")
    return importlib.import_module("bench_models")


@pytest.fixture
def real_size(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS.parents[1] / "bench")
    return importlib.import_module("real_size")


def line(bench, official=(10, 110), ours=(5, 35), memory=(1200, 500), difference=1e-6, largest=1.0):
    made = bench.Line(bench.BENCHES["scgpt"], "cpu", 400.0, difference=difference, largest_value=largest)
    for side, costs, peak in (("official", official, memory[0]), ("ours", ours, memory[1])):
        for cells, n, cost in zip(("few", "all"), (4, 28), costs, strict=True):
            getattr(made, side)[cells] = bench.Timed(n, cost, 7 * cost, peak)
    return made


def test_a_cell_costs_what_more_cells_cost_more(bench):
    good = line(bench)
    assert (good.per_cell("official"), good.per_cell("ours")) == (100 / 24, 30 / 24)
    assert good.ratio == pytest.approx(100 / 30) and good.memory_share == 100 / 800
    assert good.misses == []
    assert line(bench, difference=2e-5, largest=30).misses == []  # the difference counts in shares of the largest value


@pytest.mark.parametrize(
    "changes",
    [
        {"ours": (5, 65)},
        {"ours": (5, float("nan"))},
        {"ours": (35, 5)},
        {"difference": 2e-5},
        {"difference": float("nan")},
    ],
)
def test_goals_that_are_missed(bench, changes):
    assert len(line(bench, **changes).misses) == 1


def test_cells_of_the_runs(bench):
    assert bench.sizes("scgpt", 0) == {"official": (4, 28), "ours": (4, 28)}
    assert bench.sizes("transcriptformer", 0) == {"official": (1, 2), "ours": (1, 12)}
    assert bench.sizes("transcriptformer", 100) == {"official": (1, 100), "ours": (1, 100)}
    assert bench.sizes("scgpt", 2)["ours"] == (4, 5)


def test_every_family_has_full_size_inputs_and_an_official_path(bench, real_size):
    official = importlib.import_module("official.__main__").FAMILIES
    assert set(bench.BENCHES) == set(real_size.FAMILIES) == set(official)


def test_vocabularies_know_a_share_of_the_genes(real_size):
    symbols = [f"S{i}" for i in range(100)]
    names = real_size._vocabulary(symbols, 150, 0.9)
    assert len(set(names)) == 150 and len(set(names) & set(symbols)) == 90
    assert len(real_size._vocabulary(symbols, 50, 0.9)) == 50


def test_cells_are_as_deep_as_their_models_are_measured(real_size):
    counts = random(40, 20_000, 0.1, format="csr", dtype=np.float32, random_state=0)
    generator = np.random.default_rng(0)
    deep = real_size.deep_cells(counts, 3, generator)
    assert deep.shape == (3, 20_000) and (np.diff(deep.indptr) > 5500).all()
    shallow = real_size.shallow_cells(counts, 3, generator)
    assert np.diff(shallow.indptr).tolist() == [667] * 3
