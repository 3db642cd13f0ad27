"""Costs: jobs are those of the inputs, each is priced by the table, and what is not known is said."""

import math
import re
import subprocess
from collections import Counter
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from effort import examples
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from made_up import inputs_of
from warm_python import warm_python

from cellgauge.plan import config as settings
from cellgauge.plan.cost import STAGES, TERMS, downloads, evaluate, jobs, measured_speeds, read_costs, urls
from cellgauge.plan.cost import report as report_on
from cellgauge.plan.planned import PlannedJob

ROOT = Path(__file__).resolve().parents[3]
CATALOGUE = settings.read()
COSTS = read_costs()
LAWS = ("cpu_seconds", "gflop", "memory_mb")


def inputs(models=("random",), tasks=("clustering",), datasets=("baron_pancreas",), **changes):
    """Return the inputs of a selection; `changes` are made to entries of models and datasets."""
    config = deepcopy(CATALOGUE)
    config["run"] |= {"models": list(models), "datasets": list(datasets), "tasks": list(tasks)}
    for dataset in config["datasets"].values():  # sizes are those that a test gives
        for known in (dataset, *dataset["splits"].values()):
            known.pop("n_cells", None) if isinstance(known, dict) else None
    for name, change in changes.items():
        config["models" if name in config["models"] else "datasets"][name] |= change
    return inputs_of(config)


def every_job(inputs):
    """Return all jobs of a run as Snakemake plans them in an empty folder, without their reasons."""
    needed = {(rule, result) for cell in inputs.grid.cells for rule, result, _ in inputs.jobs(cell)}
    return [PlannedJob(rule, wildcards(rule, result), [result], "") for rule, result in sorted(needed)]


def wildcards(rule, result):
    folder, _, name = result.partition("/")[2].partition("/")[2].partition("/")
    return {"download": {"dataset": folder, "object": name}, "download_weights": {"file": f"{folder}/{name}"}}.get(
        rule, {}
    )


def report(inputs, *arguments):
    return report_on(every_job(inputs), inputs, *arguments)


def only(found, stage, model=None):
    return [job for job in found if job.stage == stage and model in (None, job.model)]


@hypothesis_settings(max_examples=examples(25), deadline=None)
@given(
    st.sets(st.sampled_from(sorted(CATALOGUE["models"])), min_size=1, max_size=6),
    st.sets(st.sampled_from(sorted(CATALOGUE["datasets"])), min_size=1, max_size=3),
    st.sets(st.sampled_from(sorted(CATALOGUE["tasks"])), min_size=1),
)
def test_the_jobs_are_those_of_the_grid(models, datasets, tasks):
    chosen = inputs(sorted(models), sorted(tasks), sorted(datasets))
    needed = {(rule, result) for cell in chosen.grid.cells for rule, result, _ in chosen.jobs(cell) if rule in STAGES}
    planned = list(jobs(chosen, COSTS, 1000))
    assert Counter(job.stage for job in planned) == Counter(rule for rule, _ in needed)
    assert all(job.cpu_hours > 0 for job in planned)
    assert {job.model for job in planned if job.gpu_hours} == {
        cell.model for cell in chosen.grid.cells if CATALOGUE["models"][cell.model].get("gpus")
    }


def test_a_job_costs_what_the_table_says():
    laws = {"cpu_seconds": {"job": 2, "products": 1e-3}, "memory_mb": {"values": 0.5}}
    costs = {**COSTS, "tasks": {"clustering": laws}}
    human, mouse = only(jobs(inputs(), costs, 100), "score")
    assert human[1:] == mouse[1:] and human.result != mouse.result
    assert human.cpu_hours * 3600 == pytest.approx(2 + 1e-3 * 100**2 * 50)  # its params say 50 dimensions
    assert human.memory_mb == 0.5 * 100 * 50


def test_cells_are_those_of_the_catalogue_where_it_tells_them():
    laws = {"expression": {"cpu_seconds": {"cells": 3600}}}
    splits = {
        name: {**split, "n_cells": None} for name, split in CATALOGUE["datasets"]["baron_pancreas"]["splits"].items()
    }
    for change, expected in (
        ({}, [100, 100]),
        ({"n_cells": 1001}, [500, 500]),
        ({"n_cells": 1001, "splits": {**splits, "mouse": {**splits["mouse"], "n_cells": 7}}}, [500, 7]),
    ):
        chosen = inputs(baron_pancreas=change)
        assert [job.cpu_hours for job in only(jobs(chosen, {**COSTS, "splits": laws}, 100), "split")] == expected
    lines = "\n".join(report(chosen, COSTS, 100, {}))
    assert "Cells: the catalogue's n_cells for 2 of 2 splits." in lines
    assert "for 0 of 2 splits, 100 (--cells) for each of the other 2." in "\n".join(report(inputs(), COSTS, 100, {}))


def test_a_model_that_joins_species_embeds_the_cells_of_all_splits_at_once():
    costs = {**COSTS, "models": {"pca_joint": {"cpu_seconds": {"cells": 3600}}}}
    assert [job.cpu_hours for job in only(jobs(inputs(["pca_joint"], ["cross_species"]), costs, 100), "embed")] == [200]


@pytest.mark.parametrize(("max_epochs", "cells", "epochs"), [(None, 100, 400), (30, 100, 30), (None, 80_000, 100)])
def test_training_costs_by_epochs(max_epochs, cells, epochs):
    params = {**CATALOGUE["models"]["scvi_trained"]["params"], "max_epochs": max_epochs}
    costs = {**COSTS, "models": {"scvi_trained": {"cpu_seconds": {"passes": 3600}, "dims": 30}}}
    first, _ = only(jobs(inputs(["scvi_trained"], scvi_trained={"params": params}), costs, cells), "embed")
    assert first.cpu_hours == cells * epochs


def test_gpu_hours_are_the_operations_over_the_speed():
    for precision in (None, "fp32", "tf32", "bf16"):
        change = {"params": {"precision": precision} if precision else {}}
        first, *_ = only(jobs(inputs(["scgpt_human"], scgpt_human=change), COSTS, 1000), "embed")
        gflop = COSTS["models"]["scgpt_human"]["gflop"]["cells"] * 1000
        assert first.gpu_hours == pytest.approx(gflop / (1000 * COSTS["tflops"][precision or "auto"]) / 3600)
    small, *_ = only(jobs(inputs(["scvi_census_2023_12_15"]), COSTS, 1000), "embed")
    assert small.gpu_hours == small.cpu_hours > 0
    on_cpu = {"scgpt_human": {"gpus": 0}}
    assert not any(job.gpu_hours for job in jobs(inputs(["scgpt_human"], **on_cpu), COSTS, 1000))
    assert not any("Arithmetic" in line for line in report(inputs(["scgpt_human"], **on_cpu), COSTS, 1000, {}))


def test_gpu_hours_are_those_that_were_measured_where_a_model_has_run_on_a_gpu(tmp_path):
    runtime = tmp_path / "runtime.csv"
    assert measured_speeds(runtime) == {}
    lines = ["stage,model,device,network_seconds,cells_per_second"]
    lines += ["embed,scgpt_human,cuda,1,100", "embed,scgpt_human@7,cuda,3,500", "embed,uce_4l,cpu,9,2"]
    lines += ["embed,uce_33l,cuda,,", "score,uce_4l,cuda,1,5", "predict,scgenept_go_all_norman,cuda,1,5"]
    runtime.write_text("\n".join(lines) + "\n")
    speeds = measured_speeds(runtime)
    assert speeds == {"scgpt_human": 400}  # 1,600 cells in 4 seconds
    run = inputs(["scgpt_human", "uce_4l"])
    plain, measured = (list(jobs(run, COSTS, 1000, given)) for given in (None, speeds))
    first, *_ = only(measured, "embed", "scgpt_human")
    assert first.gpu_hours == pytest.approx(1000 / 400 / 3600)
    assert [job for job in measured if job.model == "uce_4l"] == [job for job in plain if job.model == "uce_4l"]
    lines = "\n".join(report(run, COSTS, 1000, {}, speeds))
    assert "* Arithmetic, not measured" in lines and "in cells per second: scgpt_human 400." in lines
    lines = "\n".join(report(inputs(["scgpt_human"]), COSTS, 1000, {}, speeds))
    assert "Arithmetic" not in lines and "* Measured in this folder's results" in lines


def test_what_is_not_known_is_said_and_in_no_sum():
    costs = {**COSTS, "models": {name: entry for name, entry in COSTS["models"].items() if name != "scgpt_human"}}
    planned = list(jobs(inputs(["random", "scgpt_human"]), costs, 1000))
    assert {(job.stage, job.model) for job in planned if math.isnan(job.cpu_hours)} == {
        ("embed", "scgpt_human"),
        ("score", "scgpt_human"),  # nothing tells its dimensions
    }
    lines = list(report(inputs(["random", "scgpt_human"]), costs, 1000, {}))
    assert "Not known, and in no sum (embed: scgpt_human; score: scgpt_human)." in "\n".join(lines)
    assert next(line for line in lines if line.startswith("scgpt_human")).split()[2:] == ["?", "?", "?", "?"]
    assert "nan" not in "\n".join(lines)


def test_a_peak_that_is_not_known_is_marked():
    lines = "\n".join(report(inputs(["scgenept_go_all_norman"], ["perturbation"], ["norman"]), COSTS, 1000, {}))
    assert re.search(r"^scgenept_go_all_norman .*\d\+$", lines, re.MULTILINE)
    assert "+ At least: the memory of some jobs is not known (predict: scgenept_go_all_norman)." in lines


def test_the_sums_are_those_of_the_jobs():
    chosen = inputs(["random", "uce_4l"], ["clustering", "label_prediction"])
    planned = list(jobs(chosen, COSTS, 30_000))
    rows = {line.split()[0]: line.split() for line in report(chosen, COSTS, 30_000, {}) if line}
    hours = sum(job.cpu_hours for job in planned)
    gpu = sum(job.gpu_hours for job in planned)
    on_cpu = sum(job.cpu_hours for job in planned if not job.gpu_hours)
    expected = [str(len(planned)), f"{hours:,.2f}", f"{on_cpu + gpu:,.2f}", f"{gpu:,.2f}"]
    assert rows["all"] == ["all", *expected, f"{max(job.memory_mb for job in planned):,.0f}"]
    assert rows["uce_4l"][1] == str(len([job for job in planned if job.model == "uce_4l"]))


def test_downloads_are_counted_once_and_by_the_archive_that_is_fetched():
    ledger = {
        "pypi://came==0.1.13": 16_000_000,
        "pypi://came==0.1.13/came/sample_data.zip!raw-Baron_human.h5ad": 33_000_000,  # lies in it
    }

    def sentence(inputs, sizes):
        return downloads(urls(every_job(inputs), inputs), COSTS, sizes)

    assert sentence(inputs(), ledger).startswith("Downloads: 0.02 GB in 1 files of known size")
    assert sentence(inputs(), {}).endswith("; 1 files of unknown size.")
    both = sentence(inputs(["uce_4l", "uce_4l_reference"]), ledger)
    assert both.startswith("Downloads: 3.42 GB in 2 files of known size")  # they share their checkpoint


# --- the table -------------------------------------------------------------------------------------------------------


def test_every_model_and_task_of_the_catalogue_has_a_cost():
    models, tasks = CATALOGUE["models"], CATALOGUE["tasks"]
    assert {name for name, entry in models.items() if not {name, entry["adapter"]} & COSTS["models"].keys()} == set()
    assert set(tasks) == {name.removesuffix("_on_counts") for name in COSTS["tasks"]}
    assert set(COSTS["models"]) <= {*models, *(entry["adapter"] for entry in models.values()), "precomputed_responses"}
    urls = [
        url for entry in models.values() if isinstance(entry.get("weights"), dict) for url in entry["weights"].values()
    ]
    for end in COSTS["downloads_gb"]:
        assert any(url.partition("!")[0].endswith(end) for url in urls), end


def test_every_law_is_of_known_terms_and_grows():
    entries = [*COSTS["models"].values(), *COSTS["tasks"].values(), *COSTS["splits"].values(), COSTS["truth"]]
    for entry in entries:
        assert entry["cpu_seconds"]
        for law in (entry[quantity] for quantity in LAWS if quantity in entry):
            assert set(law) <= set(TERMS) and all(weight > 0 for weight in law.values())
            assert 0 < evaluate(law, 1000, 50, 20) <= evaluate(law, 50_000, 2048, 400)


def measured():
    """Yield (task, size, CPU seconds, MB) of the scores that docs/performance.md tells of; no law is fitted to them."""
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8").split("## Foundation models")[0]
    header = []
    for first, *cells in (line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")):
        header = cells if first == "task" else header
        task = first.replace("-", "_").replace(" ", "_")
        if task in COSTS["tasks"] and all(" x " in size for size in header):  # as the workflow runs them
            yield from ((task, size, *cell.split(", ")) for size, cell in zip(header, cells, strict=True))
        elif task in COSTS["tasks"] and header == ["cells x dims", "CPU s", "peak MB"]:  # large splits
            yield task, *cells


MEASURED = list(measured())


def test_the_measured_scores_are_read():
    assert len(MEASURED) == 15


@pytest.mark.parametrize(("task", "size", "seconds", "memory"), MEASURED)
def test_scores_cost_what_was_measured_within_a_factor_of_two(task, size, seconds, memory):
    cells, dims = (int(number.replace(",", "")) for number in size.split(" x "))
    laws = COSTS["tasks"][task]
    assert 0.5 < float(seconds.replace(",", "")) / evaluate(laws["cpu_seconds"], cells, dims) < 2
    assert 0.5 < float(memory.replace(",", "")) / evaluate(laws["memory_mb"], cells, dims) < 2


def test_planted_weights_are_fitted(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "bench")
    import fit_costs

    planted = {"job": 0.5, "values": 2e-6, "forest": 3e-6, "products": 3e-10}
    costs = [evaluate(planted, *size) for size in fit_costs.SHAPES]
    assert fit_costs.fit(fit_costs.SHAPES, costs, [*planted, "pairs"]) == pytest.approx(planted, rel=0.01)


# --- the command -----------------------------------------------------------------------------------------------------


def plan_run(folder, *arguments):
    """Run what `make plan` runs, in a folder."""
    command = [warm_python(), str(ROOT / "workflow" / "scripts" / "plan_run.py"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_the_command_line(tmp_path):
    """On some models and data; tests/integration/test_documentation.py plans the whole benchmark."""
    some = {"models": ["uce_33l", "additive"], "datasets": ["tabula_sapiens_v2/bladder", "norman"]}
    (tmp_path / "some.yaml").write_text(yaml.safe_dump({"run": {**some, "tasks": ["clustering", "perturbation"]}}))
    result = plan_run(tmp_path, "--configfile", "some.yaml", "--cells", "5000")
    assert result.returncode == 0, result.stderr
    for said in (
        "score ",
        "  new ",
        "uce_33l ",
        "additive ",
        "* Arithmetic, not measured",
        "5,000 (--cells)",
        "Downloads: ",
    ):
        assert said in result.stdout
    assert "Not known" not in result.stdout
    (tmp_path / "bad.yaml").write_text("run: [")
    result = plan_run(tmp_path, "--configfile", "some.yaml", "bad.yaml")
    assert result.returncode == 1
    assert result.stderr.startswith("error: bad.yaml, line 1: not YAML")
    result = plan_run(tmp_path, "--cells", "0")
    assert result.returncode == 2 and "0 is not above 0" in result.stderr
    result = plan_run(tmp_path, "--config", "a=1")
    assert result.returncode == 1 and result.stderr.startswith("error: --config is not supported here;")


def test_a_ledger_of_the_run_tells_sizes(tmp_path):
    """Of one split, by a target and a forced rule, which are Snakemake's to understand."""
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump({"run": {"models": ["random"], "datasets": ["tabula_sapiens_v2/bladder"]}}))
    arguments = ["results/splits/tabula_sapiens_v2/bladder.h5ad", "--forcerun", "split", "--configfile", str(mine)]
    (tmp_path / "empty").mkdir()
    (tmp_path / "resources").mkdir()
    ledger = {settings.read()["datasets"]["tabula_sapiens_v2"]["splits"]["bladder"]: {"size": 10**9}}
    (tmp_path / "resources" / "checksums.yaml").write_text(yaml.safe_dump(ledger))
    before, after = (plan_run(folder, *arguments).stdout for folder in (tmp_path / "empty", tmp_path))
    assert "split                  1  forced" in before and "split                  1  forced" in after
    assert "Downloads: 0.00 GB in 0 files" in before and "; 1 files of unknown size." in before, before
    assert "Downloads: 1.00 GB in 1 files" in after and "; 0 files of unknown size." in after, after
