"""Whatever a run made, its tables, report, exports and figures are written, and the page holds every model that has a score."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from effort import examples
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from cellgauge.files.checked import add_checksums
from cellgauge.files.score import Score, write_scores
from cellgauge.report import render
from cellgauge.results.export import export
from cellgauge.results.figures import draw_figures
from cellgauge.results.tables import collect
from cellgauge.results.umap import COLUMNS

SCORES, COUNTS = ("up", "down", "open"), ("n_cells", "n_conditions", "up_sd", "confusion")
RANGES = {"up": [0, 1], "down": [0, None], "n_cells": [0, None], "up_sd": [0, None]}
RISING = {"up": True, "down": False, "open": True, "up_sd": False}
STRATA = ("unseen_single", "combo_seen1", "new kind")
KINDS = ("foundation", "baseline", "control", "precomputed", None)
VALUES = st.sampled_from([0.0, 1.0, 0.5, 0.25, 0.3, -2.0, 1e-12, 1e6]) | st.floats(0, 1, width=32)


@dataclass(frozen=True)
class Run:
    """A run in small: what stands in its manifest, and the rows of its score files by (task, model, dataset, split)."""

    catalogue: Mapping[str, Any]
    scores: Mapping[tuple[str, str, str, str], list[Score] | None]
    timed: bool
    drawn: bool


@st.composite
def catalogues(draw) -> dict[str, Any]:
    tasks = draw(st.lists(st.sampled_from(["screens", "screens_too", "cells", "species"]), unique=True, max_size=3))
    models = draw(st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), unique=True, max_size=4))
    datasets = draw(st.lists(st.sampled_from(["d1", "d2"]), unique=True, max_size=2))
    described = draw(st.sampled_from([SCORES + COUNTS, SCORES[:1], COUNTS, ()]))
    in_full = draw(st.sampled_from([[], ["all", ""], ["all", "top20_de", "donor_folds"]]))
    splits = draw(st.sampled_from([("s",), ("s", "t"), tuple(f"s{n}" for n in range(6))]))
    return {
        "tasks": {task: _task(task, described, in_full) for task in tasks},
        "models": {name: _model(name, draw(st.sampled_from(KINDS))) for name in models},
        "datasets": {name: {"title": name.upper(), "splits": dict.fromkeys(splits, "human")} for name in datasets},
        "skipped": [],
    }


def _task(name: str, metrics: tuple[str, ...], in_full: list[str]) -> dict[str, Any]:
    facts = {
        metric: {"title": metric.title(), "description": "What it is.", "higher_is_better": RISING.get(metric)}
        | ({"range": RANGES[metric]} if metric in RANGES else {})
        | ({"in_full": in_full} if in_full else {})
        | ({"of_pairs": "labels"} if metric == "confusion" else {})
        for metric in metrics
    }
    return {"title": name.title(), "modality": "perturbation" if "screens" in name else "expression", "metrics": facts}


def _model(name: str, kind: str | None) -> dict[str, Any]:
    return {"title": f"Model {name}"} | ({"kind": kind, "uninformed": kind == "control"} if kind else {})


@st.composite
def runs(draw) -> Run:
    catalogue = draw(catalogues())
    scores: dict[tuple[str, str, str, str], list[Score] | None] = {}
    shapes = {task: draw(_shapes("screens" in task)) for task in catalogue["tasks"]}
    for task in catalogue["tasks"]:
        for dataset, entry in catalogue["datasets"].items():
            for split in ("all",) if task == "species" else entry["splits"]:
                for model in catalogue["models"]:
                    fate = draw(st.sampled_from(["scored"] * 5 + ["failed", "skipped", "left out", "empty"]))
                    if fate == "skipped":
                        catalogue["skipped"].append([task, model, dataset, split, "does not apply"])
                    elif fate != "left out":
                        made = {"failed": None, "empty": []}.get(fate, shapes[task])
                        scores[task, model, dataset, split] = draw(_varied(made))
    if draw(st.booleans()):  # tables by hand, without a manifest
        catalogue = draw(st.sampled_from([catalogue, {**catalogue, "models": {}}, {**catalogue, "datasets": {}}, {}]))
    return Run(catalogue, scores, draw(st.booleans()), draw(st.booleans()))


@st.composite
def _shapes(draw, of_screens: bool) -> list[Score]:
    """Rows without values: those of every job of a task."""
    rows = []
    profiles = draw(st.sampled_from([("corrected",), ("reference",), ("reference", "corrected")]))
    labels = draw(st.sampled_from([(), ("A",), ("A", "B", "C", "D", "E", "F")]))
    metrics = draw(st.lists(st.sampled_from(SCORES + COUNTS[:2]), unique=True, max_size=3))
    metrics += ["up_sd"] * ("up" in metrics) + ["confusion"] * bool(labels and not of_screens)
    strata = draw(st.sampled_from([("",), STRATA[:1], STRATA[:2], STRATA]))
    subset = draw(st.sampled_from(["all", "top20_de"] if of_screens else ["", "donor_folds"]))
    classifier = draw(st.sampled_from(["", "mean", "knn"])) if not of_screens else ""
    units = draw(st.sampled_from([{}, {"fold": 3}, {"seed": 3}]))
    for profile in profiles:
        for metric in metrics:
            own = Score(metric, 0.0, profile, subset=subset, classifier=classifier)
            rows.append(own)
            for place, label in enumerate(labels):
                stratum = strata[place % len(strata)]
                tail = f"{subset}/{stratum}" if of_screens and stratum else subset
                pair = json.dumps([label, labels[place - 1]])
                rows.append(replace(own, condition=pair if metric == "confusion" else label, subset=tail))
            if of_screens and len(set(strata)) > 1:
                rows += [replace(own, subset=f"{subset}/{stratum}") for stratum in strata]
            rows += [replace(own, **{unit: place}) for unit, n in units.items() for place in range(n)]
    return rows


@st.composite
def _varied(draw, rows: list[Score] | None) -> list[Score] | None:
    """The rows of one job: each with a value, or with a reason, or not there."""
    if not rows:
        return rows
    values = draw(st.lists(VALUES, min_size=1, max_size=6))
    fates = draw(st.lists(st.sampled_from(["ok"] * 4 + ["not_applicable", "failed", "absent"]), min_size=1, max_size=9))
    made = []
    for place, row in enumerate(rows):
        fate, value = fates[place % len(fates)], values[place % len(values)]
        if fate == "ok":
            made.append(replace(row, value=abs(value) if row.metric in COUNTS else value))
        elif fate != "absent":
            made.append(replace(row, value=None, status=fate, reason="a reason"))
    return made


def published(run: Run, folder: Path, figures: bool = False) -> tuple[pd.DataFrame, str]:
    """Write all that a run publishes; return the table of scores and the page."""
    paths = []
    for (task, model, dataset, split), rows in run.scores.items():
        paths.append(folder / f"results/scores/{task}/{model}/{dataset}/{split}.tsv")
        if rows is not None:
            own = {"task": task, "model": model, "dataset": dataset, "split": split}
            write_scores(paths[-1], [replace(row, **own) for row in rows])
        if run.timed:
            stage = "predict" if "screens" in task else "embed"
            for tail in (f"{stage}/{model}/{dataset}/{split}", f"score/{task}/{model}/{dataset}/{split}"):
                path = folder / f"benchmarks/{tail}.tsv"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("s\tmax_rss\tcpu_time\n0.0\t-\t-\n")
    layouts = []
    if run.drawn:
        for model, dataset in {(model, dataset) for _, model, dataset, _ in run.scores}:
            layouts.append(folder / f"results/layouts/{model}/{dataset}.tsv")
            layouts[-1].parent.mkdir(parents=True, exist_ok=True)
            layouts[-1].write_text("\t".join(COLUMNS) + "\ns\tcell1\tT cell\t\t0.5\t0.5\n")
            add_checksums(layouts[-1])
    tables = folder / "results/tables"
    collect(paths, tables, benchmarks=folder / "benchmarks", catalogue=run.catalogue, layouts=layouts)
    render(tables, folder / "report.html")
    export(tables, folder / "results")
    if figures:
        draw_figures(tables, folder / "figures")
    scores = pd.read_csv(tables / "scores.csv", keep_default_na=False)
    return scores, (folder / "report.html").read_text(encoding="utf-8")


def check(scores: pd.DataFrame, page: str, catalogue: Mapping[str, Any]) -> None:
    """Every model with a value is on the page of its task."""
    titles = {name: entry["title"] for name, entry in catalogue.get("models", {}).items()}
    scored = scores[(scores["status"] == "ok") & (scores["condition"] == "") & (scores["fold"] == "")]
    scored = scored[scored["metric"] != "up_sd"]
    for task, model in dict.fromkeys(scored[["task", "model"]].itertuples(index=False, name=None)):
        slug = re.sub(r"[^a-z0-9]+", "-", task)
        section = page.split(f'<section class="page" id="task-{slug}"')[1].split("</section>")[0]
        text = re.sub(r"<[^>]+>", " ", section)
        assert titles.get(model, model) in text or "all models" in text, (task, model)


QUICK = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # an example takes long, and many of them to make one small
)
EMPTY = Run({}, {}, False, False)


@settings(QUICK, max_examples=examples(8))
@given(runs())
@example(EMPTY)
def test_tables_report_and_exports_are_always_written(run):
    with tempfile.TemporaryDirectory() as folder:
        scores, page = published(run, Path(folder))
    check(scores, page, run.catalogue)
    assert page.rstrip().endswith("</html>")


@settings(QUICK, max_examples=examples(4))
@given(runs())
def test_figures_are_always_drawn(run):
    with tempfile.TemporaryDirectory() as folder:
        published(run, Path(folder), figures=True)


# --- edges that a run has been seen at, or that the one above finds only now and then --------------------------------


def _row(metric: str, value: float, condition: str = "", subset: str = "", profile: str = "corrected") -> Score:
    return Score(metric, value, profile, condition=condition, subset=subset)


SINGLES = [_row("up", 0.5, subset="all"), *(_row("up", 0.5, gene, "all/unseen_single") for gene in "ABCDEFG")]
EDGES = {
    "a screen of one stratum": ("screens", SINGLES),
    "a screen with strata alone": ("screens", [_row("up", 0.5, subset="all/unseen_single"), SINGLES[1]]),
    "a screen without strata": ("screens", [_row("up", 0.5, subset="all"), _row("up", 0.5, "A", "all")]),
    "no cells": ("cells", [_row("n_cells", 0), _row("up", 0.5)]),
    "one label": ("cells", [_row("n_cells", 1, "A"), _row("up", 0.5), _row("up", 0.5, "A")]),
    "no cells of the only pair of labels": ("cells", [_row("up", 0.5), _row("confusion", 0, json.dumps(["A", "A"]))]),
    "values of labels alone": ("species", [_row("up", 0.5, "A"), _row("n_cells", 3, "A", "human")]),
    "counts alone": ("cells", [_row("n_cells", 3)]),
    "nothing": ("cells", []),
}


@pytest.mark.parametrize("models", ["a", "abc"])
@pytest.mark.parametrize("edge", EDGES)
def test_edges_are_published(tmp_path, edge, models):
    task, rows = EDGES[edge]
    kinds = ("foundation", "control", "baseline")
    catalogue = {
        "tasks": {task: _task(task, SCORES + COUNTS, ["all", ""])},
        "models": {name: _model(name, kind) for name, kind in zip(models, kinds, strict=False)},
        "datasets": {"d": {"title": "D", "splits": {"s": "human"}}},
    }
    split = "all" if task == "species" else "s"
    run = Run(catalogue, {(task, name, "d", split): rows for name in models}, timed=True, drawn=True)
    scores, page = published(run, tmp_path, figures=len(models) > 1)
    check(scores, page, catalogue)
    assert all(f"Model {name}" in page for name in models)


def test_a_screen_of_single_genes_shows_its_mean_beside_its_conditions(tmp_path):
    catalogue = {"tasks": {"screens": _task("screens", ("up",), ["all"])}, "models": {"a": _model("a", "baseline")}}
    run = Run(catalogue, {("screens", "a", "d", "s"): SINGLES}, timed=False, drawn=False)
    _, page = published(run, tmp_path)
    section = page.split('id="task-screens"')[1].split("</section>")[0]
    table = section.split("Stratum by stratum")[1].split("</figure>")[0]
    assert "all conditions" in table and "0.500" in table and 'data-key="mean"' not in table
    assert "mean 0.500 of 7 conditions" in table and "0.500 to 0.500" in table
