"""Costs: fitted weights predict, and what was measured is judged by what it was not fitted to."""

import importlib.util
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from cellgauge.costs import TERMS, Cost, Measured, Size, fit, left_out, predict, read_benchmark, read_costs

ROOT = Path(__file__).resolve().parents[2]
PLANTED = {
    "cpu_seconds": {"job": 0.5, "values": 2e-6, "pair_values": 3e-10},
    "memory_mb": {"job": 80.0, "values": 1e-5},
    "disk_mb": {"values": 4 / 2**20},
}
SIZES = [Size(500, 50), Size(2000, 50), Size(2000, 512), Size(8000, 512), Size(4000, 2048), Size(20_000, 100)]
SIZES += [Size(50_000, 20), Size(30_000, 512)]


def test_planted_weights_are_found_again():
    found = fit([Measured(size, predict(PLANTED, size)) for size in SIZES])
    for size in [*SIZES, Size(60_000, 1280)]:
        assert predict(found, size) == pytest.approx(predict(PLANTED, size), rel=1e-6)


def test_planted_weights_of_screens_are_found_again():
    planted = {"cpu_seconds": {"job": 1.0, "values": 1e-8, "response_pairs": 2e-7}}
    sizes = [Size(1000, 500, 10), Size(4000, 500, 80), Size(4000, 2000, 30), Size(20_000, 5000, 116)]
    found = fit([Measured(size, predict(planted, size)) for size in sizes], ("job", "values", "response_pairs"))
    assert found["cpu_seconds"] == pytest.approx(planted["cpu_seconds"])
    assert set(found) == set(planted)  # of what no job has, nothing is fitted
    assert math.isnan(predict(found, sizes[0]).memory_mb)


def test_no_weight_is_negative():
    """More cells cost less here, so every term that grows stays 0: relative errors are least for a cost per job alone."""
    truth = np.arange(9, 3, -1)
    measured = [Measured(Size(1000 * (10 - seconds), 10), Cost(seconds, 100.0)) for seconds in truth]
    assert fit(measured)["cpu_seconds"] == pytest.approx({"job": (1 / truth).sum() / (1 / truth**2).sum()})


def test_each_job_is_predicted_by_the_others():
    measured = [Measured(size, predict(PLANTED, size)) for size in SIZES]
    assert left_out(measured)["cpu_seconds"] == pytest.approx([1, 1], rel=1e-5)
    slow = measured[3]._replace(cost=measured[3].cost._replace(cpu_seconds=2 * measured[3].cost.cpu_seconds))
    assert left_out([*measured[:3], slow, *measured[4:]])["cpu_seconds"][1] == pytest.approx(2, rel=0.05)


def test_a_benchmark_that_measured_nothing_is_none(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("s\tmax_rss\tcpu_time\n0.1\t-\t-\n")
    assert read_benchmark(path) is None
    assert read_benchmark(tmp_path / "absent.tsv") is None
    path.write_text("s\tmax_rss\tcpu_time\n0.1\t20\t3\n")
    (tmp_path / "made").write_bytes(bytes(2**19))
    assert read_benchmark(path, tmp_path / "made") == Cost(3, 20, 0.5)


# --- the catalogue's costs -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def costs():
    return read_costs(ROOT / "config")


def test_the_catalogues_costs_are_of_known_terms_and_grow(costs):
    entries = [(rule, kind, entry) for rule in costs if rule != "sizes" for kind, entry in costs[rule].items()]
    assert {"split", "embed", "truth", "predict", "score"} == {rule for rule, _, _ in entries}
    for rule, kind, entry in entries:
        weights = {quantity: entry[quantity] for quantity in Cost._fields if quantity in entry}
        assert "cpu_seconds" in weights, (rule, kind)
        assert all(term in TERMS and weight > 0 for terms in weights.values() for term, weight in terms.items())
        small, large = predict(weights, Size(1000, 100, 5, 20)), predict(weights, Size(50_000, 1000, 100, 400))
        assert 0 < small.cpu_seconds <= large.cpu_seconds, (rule, kind)
        if "memory_mb" in weights:
            assert 20 < small.memory_mb <= large.memory_mb, (rule, kind)


def test_every_cost_is_of_a_model_or_task_of_the_catalogue_and_says_where_it_is_from(costs):
    models = yaml.safe_load((ROOT / "config" / "models.yaml").read_text())["models"]
    tasks = yaml.safe_load((ROOT / "config" / "tasks.yaml").read_text())["tasks"]
    known = {*models, *(entry["adapter"] for entry in models.values()), "precomputed"}
    assert {*costs["embed"], *costs["predict"]} <= known
    priced = {*costs["embed"], *costs["predict"]}
    assert {name for name, entry in models.items() if not {name, entry["adapter"]} & priced} == set()
    assert set(tasks) == {kind.partition(" ")[0].rstrip(",") for kind in costs["score"]}
    for entry in yaml.safe_load((ROOT / "config" / "model_costs.yaml").read_text())["embed"].values():
        assert entry["source"] in ("measured", "scaled")
        assert entry["of"]


# --- the measurement -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench():
    before = list(sys.path)
    spec = importlib.util.spec_from_file_location("fit_costs", ROOT / "bench" / "fit_costs.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["fit_costs"] = module  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = before
    for name in ("fit_costs", "bench_perturbation", "bench_scorers"):
        sys.modules.pop(name, None)


def test_a_kind_is_measured_after_what_it_reads(bench, tmp_path, monkeypatch):
    kind = bench.KINDS["score perturbation"]
    small = replace(kind, sizes=[Size(800, 200, 60)])
    monkeypatch.setattr(bench, "KINDS", {**bench.KINDS, "score perturbation": small})
    (job,) = bench.measure(["score perturbation"], tmp_path)["score perturbation"]
    assert job.size[:2] == (800, 200)
    assert 0 < job.size.conditions < 60  # those that are held out
    assert job.cost.cpu_seconds > 0 and job.cost.memory_mb > 20 and job.cost.disk_mb > 0
    assert bench.from_row(bench.as_row(job)).cost == pytest.approx(job.cost, abs=1e-3)


def test_what_is_not_measured_again_is_kept(bench, tmp_path, monkeypatch):
    path = tmp_path / "costs.yaml"
    sizes = [(1000, 50), (4000, 512), (9000, 100)]
    rows = [[n, d, 0, 1.0 + 1e-7 * n * d, 90.0, None] for n, d in sizes]
    path.write_text(yaml.safe_dump({"measured": {"score clustering": rows}}))
    monkeypatch.setattr(bench, "COSTS", path)
    monkeypatch.setattr(sys, "argv", ["fit_costs.py", "--refit"])
    bench.main()
    written = yaml.safe_load(path.read_text())
    assert written["measured"] == {"score clustering": rows}
    entry = written["fitted"]["score"]["clustering"]
    assert entry["up_to"] == [9000, 512, 0]
    assert predict(entry, Size(4000, 512)).cpu_seconds == pytest.approx(1.2048, rel=1e-3)
    assert set(entry["left_out"]) == {"cpu_seconds", "memory_mb"}
