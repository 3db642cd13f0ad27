"""The benchmark's verdict: a goal that is missed is said and fails."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[3] / "bench" / "bench_scorers.py"


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


@pytest.mark.parametrize(
    ("changes", "n_missed"),
    [
        ({}, 0),
        ({"cpu": (29, 1)}, 1),
        ({"memory": (1000, 400)}, 1),
        ({"silhouette": 2e-6}, 1),
        ({"silhouette": float("nan")}, 1),
        ({"name": "clustering", "n_cells": 8191, "ari": 1e-3}, 1),
        (
            {"name": "clustering", "n_cells": 8192, "ari": 1e-3},
            0,
        ),  # from here on the anchor's neighbors are approximate
        ({"name": "label_prediction", "cpu": (2, 1), "n_cells": 30_000}, 0),  # a goal at other shapes
        ({"name": "label_prediction", "cpu": (2, 1), "n_cells": 10_000}, 1),
    ],
)
def test_what_misses_a_goal(bench, changes, n_missed):
    assert len(line(bench, **changes).misses) == n_missed


def test_what_the_workflow_runs_is_timed(bench, tmp_path):
    """With the search of neighbors where the workflow has one."""
    for name, expected in (
        ("clustering", 2),
        ("silhouette", 1),
        ("cross_species", 2),
        ("label_prediction", 1),
        ("expression", 1),
        ("pca_baseline", 1),
    ):
        chosen = bench.BENCHES[name]
        commands = bench.our_commands(chosen, tmp_path, tmp_path / "ours.tsv", ["reference"], **chosen.options)
        assert len(commands) == expected
    find, score = bench.our_commands(bench.BENCHES["cross_species"], tmp_path, tmp_path / "ours.tsv", ["reference"])
    assert find[1].endswith("find_neighbors.py") and score[1].endswith("score_task.py")
    assert find[find.index("--output") + 1] == score[score.index("--neighbors") + 1]
    both = bench.run([sys.executable, "-c", "pass"], [sys.executable, "-c", "x = bytearray(2 * 10**8)"])
    assert both.memory_mb > 180
    assert both.cpu > bench.run([sys.executable, "-c", "pass"]).cpu


def test_processes_are_measured_and_failures_end_the_benchmark(bench):
    # measured from a small process: a child's peak begins with what its parent held when it was forked
    program = (
        f"import sys; sys.path.insert(0, {str(Path(bench.__file__).parent)!r}); import {Path(bench.__file__).stem} as bench\n"
        "idle = bench.run([sys.executable, '-c', 'pass'])\n"
        "busy = bench.run([sys.executable, '-c', 'x = bytearray(60_000_000); [i * i for i in range(3_000_000)]'])\n"
        "print(busy.cpu > idle.cpu and busy.memory_mb > idle.memory_mb + 55, idle, busy)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("True"), done.stdout
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

    from cellgauge.files.embedding import write_embedding
    from cellgauge.files.split import Split

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
