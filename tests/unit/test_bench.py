"""The benchmark's verdict: a goal that is missed is said and fails."""

import importlib.util
import sys
from pathlib import Path

import pytest
import yaml

PATH = Path(__file__).resolve().parents[2] / "bench" / "bench_scorers.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_scorers", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_scorers"] = module  # its dataclasses look themselves up there
    before = list(sys.path)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = before
    del sys.modules["bench_scorers"]


def line(bench, name="silhouette", n_cells=2000, cpu=(40, 1), memory=(1000, 100), **differences):
    costs = [[bench.Cost(cpu[side], memory[side])] for side in (0, 1)]
    return bench.Line(name, n_cells, 512, *costs, differences, bench.BENCHES[name])


def test_goals_that_are_met(bench):
    good = line(bench, silhouette=1e-8)
    assert good.misses == []
    assert good.cells()["goal"] == "met"
    assert good.cells()["CPU ratio"] == "40.0"
    assert good.cells()["memory share"] == "0.100"


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"cpu": (29, 1)}, "CPU x29.00, goal x30"),
        ({"memory": (1000, 400)}, "memory 0.400, goal 0.333"),
        ({"silhouette": 2e-6}, "silhouette differs by 2.0e-06"),
        ({"silhouette": float("nan")}, "silhouette differs by nan"),
    ],
)
def test_goals_that_are_missed(bench, changes, reason):
    bad = line(bench, **{"silhouette": 0.0, **changes})
    assert bad.misses == [reason]
    assert bad.cells()["goal"] == f"MISSED: {reason}"


def test_the_ratio_is_the_median_over_pairs(bench):
    several = line(bench, silhouette=0.0)
    several.anchor = [bench.Cost(cpu, 1000) for cpu in (30, 50, 400)]
    several.ours = [bench.Cost(cpu, 100) for cpu in (1, 2, 4)]
    assert several.ratio("cpu") == 30


def test_partitions_must_be_identical_only_where_both_sides_search_exactly(bench):
    assert line(bench, "clustering", 8191, ari=1e-3).misses == ["ari differs by 1.0e-03"]
    assert line(bench, "clustering", 8192, ari=1e-3).misses == []


def test_classifiers_have_tolerances_of_their_own(bench):
    differences = {"f1/logistic_regression": 9e-4, "f1/knn": 0.0, "f1/random_forest": 1e-6}
    assert line(bench, "label_prediction", **differences).misses == ["f1/random_forest differs by 1.0e-06"]


def test_goals_hold_at_the_shapes_that_they_were_set_for(bench):
    slow = line(bench, "label_prediction", 30_000, cpu=(2, 1), **{"f1/knn": 0.0})
    assert slow.misses == []
    slow.n_cells = 10_000
    assert slow.misses == ["CPU x2.00, goal x6"]


def test_a_large_job_must_stay_below_the_memory_limit(bench):
    fits, bursts = (bench.Line("x", 120_000, 512, ours=[bench.Cost(1, mb)], note="large") for mb in (7999, 8001))
    assert fits.misses == []
    assert bursts.misses == ["8001 MB, limit 8000"]


def test_what_the_workflow_runs_is_timed(bench, tmp_path):
    """With the search of neighbours where the workflow has one."""
    tasks = yaml.safe_load((PATH.parents[1] / "config/tasks.yaml").read_text(encoding="utf-8"))["tasks"]
    assert {name: entry["neighbours"] for name, entry in tasks.items() if "neighbours" in entry} == bench.KEPT
    for name, expected in (
        ("clustering", 2),
        ("silhouette", 1),
        ("cross_species", 2),
        ("expression", 1),
        ("pca_baseline", 1),
    ):
        chosen = bench.BENCHES[name]
        commands = bench.our_commands(chosen, tmp_path, tmp_path / "ours.tsv", ["reference"], **chosen.options)
        assert len(commands) == expected
    find, score = bench.our_commands(bench.BENCHES["cross_species"], tmp_path, tmp_path / "ours.tsv", ["reference"])
    assert find[1].endswith("find_neighbours.py") and score[1].endswith("score_task.py")
    assert find[find.index("--output") + 1] == score[score.index("--neighbours") + 1]
    both = bench.run([sys.executable, "-c", "pass"], [sys.executable, "-c", "x = bytearray(2 * 10**8)"])
    assert both.memory_mb > 180
    assert both.cpu > bench.run([sys.executable, "-c", "pass"]).cpu


def test_processes_are_measured_and_failures_end_the_benchmark(bench):
    cost = bench.run([sys.executable, "-c", "x = bytearray(60_000_000); [i * i for i in range(3_000_000)]"])
    assert cost.cpu > 0.05
    assert cost.memory_mb > 60
    with pytest.raises(SystemExit, match="Boom"):
        bench.run([sys.executable, "-c", "raise RuntimeError('Boom')"])


# --- real checkpoints against shipped embeddings ---------------------------------------------------------------------


@pytest.fixture
def check_weights():
    spec = importlib.util.spec_from_file_location("check_weights", PATH.with_name("check_weights.py"))
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


@pytest.mark.parametrize(("noise", "wrong"), [(0.01, 0), (3.0, 1)])
def test_embeddings_of_real_checkpoints_are_compared_with_the_shipped_ones(
    check_weights, tmp_path, capsys, noise, wrong
):
    import numpy as np
    import tiny

    from cellgauge.contracts import Split, write_embedding

    for model, name in check_weights.PAIRS.items():
        split = Split.open(tiny.split_file(tmp_path, dataset="transcriptformer_tests", split=name, n_cells=20))
        shipped = np.random.default_rng(0).normal(size=(20, 8))
        ours = shipped + (noise if model == "tf_metazoa" else 0.01) * np.random.default_rng(1).normal(size=(20, 8))
        for key, matrix in ((model, ours), (f"{model}_precomputed", shipped)):
            path = tmp_path / key / "transcriptformer_tests" / f"{name}.h5ad"
            write_embedding(path, matrix, split.cells, [split], {"model": key})
    assert check_weights.main(tmp_path) == wrong
    said = capsys.readouterr().out.splitlines()
    assert [("DISAGREES" in line) for line in said] == [False, False, bool(wrong)] and len(said) == 3
