"""Figures: one of each kind, with the numbers of the tables and with names as they are."""

import re

import made_up
import pandas as pd
import pytest

from cellgauge.files.score import Score, write_scores
from cellgauge.results.figures import draw_figures
from cellgauge.results.tables import collect

EVIL = "cost $5 <b>\\frac{1}{2}"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The figures of a small run with two datasets, a strange name among the models."""
    config = made_up.few("linear", "hvg", "oracle", "training_mean", "matching_mean")
    config["models"]["hvg"]["title"] = EVIL
    config["run"]["profiles"] = ["corrected"]
    folder = tmp_path_factory.mktemp("figures")
    tables = made_up.write_tables(folder, config)
    return tables, {path.name: path for path in draw_figures(tables, folder / "figures")}


def words(path):
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())


def test_each_kind_is_drawn_as_svg_and_png(drawn):
    names = {name.rpartition(".")[0] for name in drawn[1]}
    assert {name for name in names if name.endswith(".corrected")} == {
        "scores.baron_pancreas.corrected", "scores.planted_pancreas.corrected",
        "summary.baron_pancreas.corrected", "heatmap.clustering.baron_pancreas.corrected",
        "heatmap.label-prediction.baron_pancreas.corrected", "summary.planted_pancreas.corrected",
    }  # fmt: skip
    assert len(drawn[1]) == 2 * len(names)
    for name, path in drawn[1].items():
        start = path.read_bytes()[:8]
        assert start == b"\x89PNG\r\n\x1a\n" if name.endswith(".png") else start.startswith(b"<?xml")


def test_the_numbers_are_those_of_the_tables(drawn):
    tables, figures = drawn
    summary = pd.read_csv(tables / "summary.csv", keep_default_na=False)
    own = summary[(summary["metric"] == "ari") & (summary["profile"] == "corrected")]
    said = words(figures["summary.baron_pancreas.corrected.svg"])
    assert {f"{mean:.3f}" for mean in own["mean"]} <= set(said)


def test_small_values_keep_their_digits(tmp_path):
    paths = []
    for model, value in {"a": 0.0012, "b": 0.5}.items():
        for split in "st":
            path = tmp_path / "results/scores/perturbation" / model / "d" / f"{split}.tsv"
            own = {"task": "perturbation", "model": model, "dataset": "d", "split": split}
            write_scores(path, [Score("mse", value, "corrected", **own)])
            paths.append(path)
    metrics = {"mse": {"title": "MSE", "higher_is_better": False, "range": [0, None]}}
    catalogue = {"tasks": {"perturbation": {"title": "Perturbation", "metrics": metrics}}}
    collect(paths, tmp_path / "tables", catalogue=catalogue)
    (heatmap,) = [p for p in draw_figures(tmp_path / "tables", tmp_path / "figures") if p.match("heatmap.*.svg")]
    assert {"0.00120", "0.500"} <= set(words(heatmap))


def test_a_score_of_part_of_the_cells_has_a_star_and_no_color(tmp_path):
    paths = []
    for model, value in {"a": 0.31, "b": 0.42, "easy": 0.97}.items():
        for split in "st":
            path = tmp_path / "results/scores/clustering" / model / "d" / f"{split}.tsv"
            own = {"task": "clustering", "model": model, "dataset": "d", "split": split, "profile": "reference"}
            left_out = 40.0 if model == "easy" else 0.0
            counts = {"n_cells": 100 - left_out, "n_unembedded": left_out}
            write_scores(path, [Score("ari", value, **own), *(Score(name, n, **own) for name, n in counts.items())])
            paths.append(path)
    metrics = {"ari": {"title": "ARI", "higher_is_better": True, "range": [-0.5, 1]}}
    collect(
        paths, tmp_path / "tables", catalogue={"tasks": {"clustering": {"title": "Clustering", "metrics": metrics}}}
    )
    drawn = {path.name: path for path in draw_figures(tmp_path / "tables", tmp_path / "figures")}
    said = words(drawn["heatmap.clustering.d.reference.svg"])
    assert (
        said.count("0.970*") == 2 and "0.420" in said and "* of part of the cells, conditions, genes or folds" in said
    )
    assert "0.970" not in words(drawn["summary.d.reference.svg"])


def test_strange_names_are_drawn_as_they_are(drawn):
    text = (drawn[1]["heatmap.clustering.baron_pancreas.corrected.svg"]).read_text()
    assert "cost $5 &lt;b&gt;\\frac{1}{2}" in text


def test_the_same_tables_give_the_same_figures(drawn, tmp_path):
    again = {path.name: path for path in draw_figures(drawn[0], tmp_path)}
    for name, path in drawn[1].items():
        if name.endswith(".svg"):
            assert again[name].read_bytes() == path.read_bytes()
