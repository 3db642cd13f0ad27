"""A task's name is its own affair: the same scores under other names give the same tables, pages, exports and figures."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import made_up
import pandas as pd
import pytest
from made_up import inputs_of

from cellgauge.files.score import read_scores, write_scores
from cellgauge.plan.inputs import Inputs
from cellgauge.plan.manifest import catalogue
from cellgauge.report import render
from cellgauge.results.export import export
from cellgauge.results.figures import draw_figures
from cellgauge.results.tables import collect

AGAIN = "_again"


def _config() -> dict:
    of_screens = ("no_change", "no_change_median", "training_mean", "matching_mean", "linear_responses", "additive")
    return made_up.few("linear", "random", "oracle", *of_screens, "ceiling")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    """Folders of two runs of the demo's inputs: as it is, and with every task under another name."""
    config, folder = _config(), tmp_path_factory.mktemp("named")
    inputs = made_up.write_files(folder, config)
    renamed = tmp_path_factory.mktemp("renamed")
    shutil.copytree(folder, renamed, dirs_exist_ok=True)
    for root in ("results/scores", "benchmarks/score"):
        for path in (renamed / root).iterdir():
            path.rename(path.with_name(path.name + AGAIN))
    for path in (renamed / "results/scores").rglob("*.tsv"):
        write_scores(path, [replace(score, task=score.task + AGAIN) for score in read_scores(path)])
    about = catalogue(inputs.grid)
    about["tasks"] = {name + AGAIN: entry for name, entry in about["tasks"].items()}
    about["skipped"] = [[task + AGAIN, *rest] for task, *rest in about["skipped"]]
    _publish(folder, inputs, [cell.path for cell in inputs.grid.cells], catalogue(inputs.grid))
    cells = [replace(cell, task=cell.task + AGAIN) for cell in inputs.grid.cells]
    _publish(renamed, inputs, [cell.path for cell in cells], about)
    return folder, renamed


def _publish(folder: Path, inputs: Inputs, scores: list[str], catalogue: dict) -> None:
    collect(
        [folder / path for path in scores],
        folder / "tables",
        benchmarks=folder / "benchmarks",
        catalogue=catalogue,
        layouts=[folder / path for path in inputs.layouts()],
    )
    render(folder / "tables", folder / "report.html")
    export(folder / "tables", folder)
    draw_figures(folder / "tables", folder / "figures")


def _text(path: Path) -> str:
    """The text of a file, tasks under their first names."""
    return path.read_text(encoding="utf-8").replace(AGAIN, "").replace(AGAIN.replace("_", "-"), "")


def _names(folder: Path) -> dict[str, Path]:
    return {_plain(path.relative_to(folder).as_posix()): path for path in folder.rglob("*") if path.is_file()}


def _plain(name: str) -> str:
    return name.replace(AGAIN.replace("_", "-"), "")


def test_every_table_is_the_same(runs):
    names = {path.name for path in (runs[0] / "tables").glob("*.csv")}
    assert {"scores.csv", "conditions.csv", "intervals.csv", "summary.csv", "comparisons.csv", "ranks.csv"} < names
    for name in names:
        first, second = (_text(folder / "tables" / name) for folder in runs)
        assert first == second, name


def test_no_table_of_screens_is_empty(runs):
    for name in ("conditions", "comparisons", "ranks"):
        tables = [pd.read_csv(folder / f"tables/{name}.csv") for folder in runs]
        assert {"perturbation"} <= set(tables[0]["task"]), name
        assert {"perturbation" + AGAIN} <= set(tables[1]["task"]), name


def test_the_report_is_the_same(runs):
    first, second = (_text(folder / "report.html") for folder in runs)
    assert "Stratum by stratum" in first and "Condition by condition" in first
    assert first == second


def test_leaderboards_and_results_are_the_same(runs):
    for name in ("leaderboard.md", "leaderboard.tex", "leaderboard.csv"):
        first, second = (_text(folder / "tables" / name) for folder in runs)
        assert first == second, name
    first, second = (json.loads(_text(folder / "czbenchmarks.json"))["task_results"] for folder in runs)
    assert first == second and {result["task_name"] for result in first} > {"perturbation", "embedding"}


def test_figures_are_the_same(runs):
    first, second = (_names(folder / "figures") for folder in runs)
    assert set(first) == set(second)
    for name, path in first.items():
        if path.suffix == ".svg":
            assert _text(path) == _text(second[name]), name


def test_two_screen_tasks_in_one_run_do_not_mix(runs, tmp_path):
    """The same scores under both names: what stands of the one stands of the other."""
    folder, renamed = runs
    inputs = inputs_of(_config())
    about = catalogue(inputs.grid)
    about["tasks"]["perturbation" + AGAIN] = about["tasks"]["perturbation"]
    own = [cell for cell in inputs.grid.cells if cell.task == "perturbation"]
    paths = [folder / cell.path for cell in own]
    paths += [renamed / replace(cell, task=cell.task + AGAIN).path for cell in own]
    collect(paths, tmp_path / "tables", benchmarks=folder / "benchmarks", catalogue=about)
    for name in ("scores", "conditions", "intervals", "summary", "comparisons", "ranks"):
        table = pd.read_csv(tmp_path / f"tables/{name}.csv", keep_default_na=False)
        first, second = (table[table["task"] == task] for task in ("perturbation", "perturbation" + AGAIN))
        first, second = (part.drop(columns="task").reset_index(drop=True) for part in (first, second))
        assert len(first) and first.equals(second), name
    render(tmp_path / "tables", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    first, second = (
        text.split(f'<section class="page" id="task-{slug}"')[1].split("</section>")[0]
        for slug in ("perturbation", "perturbation-again")
    )
    assert first == second.replace("-again", "")
