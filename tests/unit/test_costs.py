"""Costs: fitted weights predict, sizes come from files, and what is not known is said."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import yaml

from cellgauge import config as settings
from cellgauge.costs import TERMS, Cost, Measured, Sizes, fit, jobs, predict, read_benchmark, summary
from cellgauge.grid import Grid

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = {
    "clustering": {"cpu_seconds": {"job": 2.0, "pairs": 1e-3}, "memory_mb": {"job": 100.0, "values": 0.01}},
}
BENCHMARK = "s\tmax_rss\tcpu_time\n{0}\t{1}\t{0}\n"


def grid(models=("random",), tasks=("clustering",)):
    config = settings.read()
    config["run"] |= {"models": list(models), "datasets": ["baron_pancreas"], "tasks": list(tasks)}
    return Grid(config)


def planned(folder, cells=100, dims=1024, **chosen):
    chosen_grid = grid(**chosen)
    return list(jobs(chosen_grid, WEIGHTS, Sizes(chosen_grid, folder, cells, dims), folder))


def test_planted_weights_are_found_again():
    planted = {
        "cpu_seconds": {"job": 0.5, "values": 2e-6, "pair_values": 3e-10},
        "memory_mb": {"job": 80.0, "values": 1e-5},
    }
    shapes = [(500, 50), (2000, 50), (2000, 512), (8000, 512), (4000, 2048), (20_000, 100), (50_000, 20)]
    measured = [Measured(*shape, predict(planted, *shape)) for shape in shapes]
    found = fit(measured)
    for cells, dims in [*shapes, (60_000, 1280)]:
        assert predict(found, cells, dims) == pytest.approx(predict(planted, cells, dims), rel=1e-6)


def test_no_weight_is_negative():
    """More cells cost less here, so every term that grows stays 0: relative errors are least for a cost per job alone."""
    truth = np.arange(9, 3, -1)
    measured = [Measured(1000 * (10 - seconds), 10, Cost(seconds, 100.0)) for seconds in truth]
    assert fit(measured)["cpu_seconds"] == pytest.approx({"job": (1 / truth).sum() / (1 / truth**2).sum()})


def test_jobs_of_known_size_are_predicted(tmp_path):
    found = {(job.rule, job.name): job for job in planned(tmp_path)}
    score = found["score", "clustering/random/baron_pancreas/human"]
    assert score.predicted == Cost(2 + 1e-3 * 100**2, 100 + 0.01 * 100 * 50)  # its params say 50 dimensions
    embed = found["embed", "random/baron_pancreas/human"]
    assert embed.bytes == 4 * 100 * 50
    assert (embed.predicted, embed.lacking) == (None, "the model has not been measured yet")


def test_sizes_are_read_from_files_where_they_are_there(tmp_path):
    folder = tmp_path / "results" / "splits" / "baron_pancreas"
    folder.mkdir(parents=True)
    tiny.split_file(tmp_path, n_cells=60).rename(folder / "human.h5ad")
    sizes = Sizes(grid(), tmp_path, cells=0, dims=9)
    assert sizes.cells("baron_pancreas", ["human"]) == 60
    assert sizes.genes("baron_pancreas", "human") > 1
    assert sizes.cells("baron_pancreas", ["human", "mouse"]) == 0


def test_what_is_not_known_is_said(tmp_path):
    lines = "\n".join(summary(planned(tmp_path, cells=0, tasks=["clustering", "label_prediction"])))
    assert "not in these numbers: 4 jobs" in lines
    assert "the number of cells is not known before the split is made: say it with --cells" in lines
    unmeasured = planned(tmp_path, tasks=["label_prediction"], models=["linear"])
    reasons = {job.lacking for job in unmeasured if job.rule == "score"}
    assert reasons == {"the task has not been measured (bench/fit_costs.py measures tasks that score embeddings)"}


def test_predictions_are_compared_with_what_ran(tmp_path):
    for rule, name, cpu in (("score/clustering", "human", 24), ("embed", "mouse", 5)):
        path = tmp_path / "benchmarks" / rule / "random" / "baron_pancreas" / f"{name}.tsv"
        path.parent.mkdir(parents=True)
        path.write_text(BENCHMARK.format(cpu, 300))
    found = planned(tmp_path)
    lines = list(summary(found))
    assert any(
        "1 scoring jobs have run: 24 CPU s, 12 predicted" in line and "is 2.00 in the middle" in line for line in lines
    )
    (other,) = [job for job in found if (job.rule, job.name) == ("embed", "random/baron_pancreas/human")]
    assert other.predicted.cpu_seconds == pytest.approx(5)  # as many cells as the split that was measured
    assert math.isnan(other.predicted.memory_mb)


def test_a_benchmark_that_measured_nothing_is_none(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("s\tmax_rss\tcpu_time\n0.1\t-\t-\n")
    assert read_benchmark(path) is None
    assert read_benchmark(tmp_path / "absent.tsv") is None


def test_the_catalogues_costs_are_of_known_terms_and_grow():
    weights = yaml.safe_load((ROOT / "config" / "costs.yaml").read_text())["score"]
    assert {"clustering", "cross_species", "label_prediction", "label_prediction on counts"} == set(weights)
    for kind in weights.values():
        assert set(kind) == set(Cost._fields)
        assert all(term in TERMS for terms in kind.values() for term in terms)
        small, large = predict(kind, 1000, 100), predict(kind, 50_000, 1000)
        assert 0 < small.cpu_seconds < large.cpu_seconds
        assert 20 < small.memory_mb < large.memory_mb


def test_the_command_line(tmp_path):
    command = [sys.executable, str(ROOT / "workflow" / "scripts" / "estimate_run.py"), "--cells", "40000"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "score label_prediction" in result.stdout
    assert "downloads of datasets" in result.stdout
    (tmp_path / "bad.yaml").write_text("run: [")
    result = subprocess.run([*command, "--configfile", "bad.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("error: bad.yaml cannot be read as a configuration")
