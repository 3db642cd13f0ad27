"""Tables from score files."""

import json
import warnings

import h5py
import pandas as pd
import pytest

from cellgauge.files.checked import checked_path
from cellgauge.files.score import Score, write_scores
from cellgauge.results.tables import OF_NETWORKS, SCORES_COLUMNS, _layouts, collect, headline
from cellgauge.results.umap import COLUMNS


def score(metric="ari", value=0.5, **fields):
    return Score(metric, value, **{"task": "clustering", "model": "m", "dataset": "d", "profile": "corrected"} | fields)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def collect_all(files, **options):
        paths = []
        for name, scores in files.items():
            if scores is not None:
                write_scores(tmp_path / name, scores)
            paths.append(name)
        collect(paths, "results/tables", **options)
        return {path.name: path for path in (tmp_path / "results/tables").iterdir()}

    return collect_all


def path_of(model="m", split="s", task="clustering"):
    return f"results/scores/{task}/{model}/d/{split}.tsv"


def test_every_row_of_every_file_in_csv_and_parquet(run):
    files = run({path_of(split=s): [score(split=s, seed=42), score("nmi", 1 / 3, split=s)] for s in ("a", "b")})
    table = pd.read_csv(files["scores.csv"])
    assert list(table) == SCORES_COLUMNS and len(table) == 4
    assert table["value"][1] == 1 / 3
    assert pd.read_parquet(files["scores.parquet"])["value"].tolist() == table["value"].tolist()


def test_headline_prefers_the_mean_and_leaves_folds_out(run):
    rows = [
        score(seed=42, value=0.1, split="s"),
        score(seed=43, value=0.3, split="s"),
        score(value=0.2, split="s"),
        score("f1", 0.9, fold=0, split="s"),
        score("ari", 0.7, seed=42, profile="reference", split="s"),
    ]
    files = run({path_of(): rows})
    best = headline(
        pd.read_csv(files["scores.csv"], keep_default_na=False, na_values={"value": "", "fold": "", "seed": ""})
    )
    assert sorted(best["value"]) == [0.2, 0.7]


def test_summary_over_splits(run):
    files = run(
        {path_of(split=s): [score(split=s, value=v)] for s, v in (("a", 0.2), ("b", 0.4))} | {path_of(split="c"): None}
    )
    summary = pd.read_csv(files["summary.csv"])
    assert summary[["mean", "n_splits", "n_failed", "n_not_applicable"]].to_numpy().tolist() == [
        [pytest.approx(0.3), 2, 1, 0]
    ]
    assert summary["sd"][0] == pytest.approx(0.1414, abs=1e-4)


def test_what_one_subset_lacks_is_not_counted_against_the_others(run):
    rows = [
        score("f1", 0.5, subset="random_folds", split="s"),
        score("f1", 0.5, subset="donor_folds", split="t"),
        score("", None, subset="donor_folds", split="s", status="not_applicable", reason="one donor"),
    ]
    summary = pd.read_csv(run({path_of(): rows})["summary.csv"]).set_index("subset")
    assert summary["n_not_applicable"].to_dict() == {"random_folds": 0, "donor_folds": 1}


def test_missing_scores_are_failed_rows_and_the_others_stay(run):
    files = run({path_of(): [score(split="s")], path_of(model="lost"): None})
    table = pd.read_csv(files["scores.csv"], keep_default_na=False).set_index("model")
    assert table["status"].to_dict() == {"m": "ok", "lost": "failed"}
    assert table.loc["lost", ["value", "reason"]].tolist() == ["", "there is no score file"]


def test_a_score_of_an_earlier_run_does_not_hide_a_failure(run):
    files = run({path_of(): [score(split="s")]}, failed={path_of(): "embed: out of memory"})
    table = pd.read_csv(files["scores.csv"])
    assert table[["status", "reason"]].to_numpy().tolist() == [["failed", "embed: out of memory"]]


def test_what_does_not_apply_is_a_row(run):
    catalogue = {"skipped": [["cross_species", "linear", "d", "all", "axes of its own"]]}
    table = pd.read_csv(run({path_of(): [score(split="s")]}, catalogue=catalogue)["scores.csv"])
    assert table.iloc[-1][["task", "status", "reason"]].tolist() == [
        "cross_species",
        "not_applicable",
        "axes of its own",
    ]


def test_sets_are_kept_apart_and_named_with_their_species(run):
    splits = {"human": "human", "mouse_liver": "mouse", "pig": "pig"}
    catalogue = {
        "tasks": {"cross_species": {"scope": "dataset"}, "clustering": {"scope": "split"}},
        "datasets": {"d": {"splits": splits, "sets": {"common": ["human", "mouse_liver"], "all": list(splits)}}},
        "skipped": [["cross_species", "uce", "d", "all", "pig: the model does not take pig"]],
    }
    rows = {
        path_of(split=name, task="cross_species"): [score("entropy", value, task="cross_species", split=name)]
        for name, value in (("common", 0.2), ("all", 0.6))
    }
    files = run(rows | {path_of(split="pig"): [score(split="pig")]}, catalogue=catalogue)
    table = pd.read_csv(files["scores.csv"])
    species = {"common": "human+mouse", "all": "human+mouse+pig", "pig": "pig"}
    assert table["species"].tolist() == [species[name] for name in table["split"]]
    summary = pd.read_csv(files["summary.csv"], keep_default_na=False).set_index(["metric", "set"])
    assert summary["mean"].to_dict() == {("entropy", "common"): 0.2, ("entropy", "all"): 0.6, ("ari", ""): 0.5}
    assert set(summary["n_splits"]) == {1}
    assert json.loads(pd.read_csv(files["datasets.csv"])["sets"][0])["common"] == ["human", "mouse_liver"]


@pytest.mark.parametrize("embedded", [("human", "mouse"), ("common",)])
def test_the_cost_of_a_set_is_that_of_what_was_embedded_for_it(run, tmp_path, embedded):
    sets = {"common": ["human", "mouse"]}
    catalogue = {"tasks": {"t": {"scope": "dataset"}}, "datasets": {"d": {"splits": {}, "sets": sets}}}
    for name in embedded:
        cost = tmp_path / f"benchmarks/embed/m/d/{name}.tsv"
        cost.parent.mkdir(parents=True, exist_ok=True)
        cost.write_text("s\tmax_rss\tcpu_time\n1\t2\t3\n")
    path = path_of(split="common", task="t")
    runtime = pd.read_csv(run({path: [score(split="common", task="t")]}, catalogue=catalogue)["runtime.csv"])
    assert sorted(runtime["split"]) == sorted(embedded)


def test_ends_of_intervals_and_spreads_are_described_from_their_metric(run):
    about = {"title": "ARI", "range": [-0.5, 1], "higher_is_better": True}
    told = {"title": "Mine", "range": [0, 1], "higher_is_better": None}
    catalogue = {"tasks": {"clustering": {"title": "C", "metrics": {"ari": about, "nmi": about, "nmi_sd": told}}}}
    rows = [score(metric=name) for name in ("ari", "ari_without", "ari_sd", "nmi", "nmi_sd")]
    table = pd.read_csv(run({path_of(): rows}, catalogue=catalogue)["tasks.csv"]).set_index("metric")
    assert list(table.index) == ["ari", "ari_without", "ari_sd", "nmi", "nmi_sd"]
    assert table["title"].to_list()[1:3] == ["ARI without a donor", "ARI, standard deviation over seeds"]
    assert table["range"].to_list()[:3] == ["[-0.5, 1]"] * 2 + ["[0, null]"]
    assert pd.isna(table.loc["ari_without", "higher_is_better"]) and table.loc["nmi_sd", "title"] == "Mine"


def test_catalogue_and_cost(run, tmp_path):
    catalogue = {
        "models": {"m": {"title": "<b>M</b>", "organisms": ["human"]}},
        "datasets": {"d": {"title": "D", "splits": {"s": "human"}}},
        "tasks": {"clustering": {"title": "C", "metrics": {"ari": {"title": "ARI", "range": [-0.5, 1]}}}},
    }
    cost = tmp_path / "benchmarks/embed/m/d/s.tsv"
    cost.parent.mkdir(parents=True)
    cost.write_text("s\th:m:s\tmax_rss\tcpu_time\n1.5\t0:00:01\t100.0\t-\n")
    files = run({path_of(): [score(split="s")]}, catalogue=catalogue)
    assert pd.read_csv(files["models.csv"])["title"][0] == "<b>M</b>"
    assert json.loads(pd.read_csv(files["datasets.csv"])["splits"][0]) == {"s": "human"}
    assert pd.read_csv(files["tasks.csv"])[["task", "metric", "title"]].to_numpy().tolist() == [
        ["clustering", "ari", "ARI"]
    ]
    runtime = pd.read_csv(files["runtime.csv"])
    assert runtime[["stage", "model", "split", "seconds", "max_rss_mb"]].to_numpy().tolist() == [
        ["embed", "m", "s", 1.5, 100.0]
    ]
    assert runtime["cpu_seconds"].isna().all()
    assert runtime[["device", "gpu_seconds", "max_gpu_mb"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (
            {"device": "cuda:1", "precision": "bf16", "gpu_seconds": 2.5, "peak_gpu_memory_mb": 1500.0}
            | {"network_seconds": 4.0, "cells_per_second": 10.5, "tokens_per_second": 2000.0}
            | {"host_wait_seconds": 0.25, "gpu_utilization": 0.625},
            ["cuda", "bf16", "2.5", "1500.0", "4.0", "10.5", "2000.0", "0.25", "0.625"],
        ),
        ({"device": "cuda:1", "gpu_seconds": 2.5}, ["cuda", "", "2.5", *[""] * 6]),
        (
            {"device": "cpu", "gpu_seconds": 0.0, "network_seconds": 2.0, "cells_per_second": 3.0},
            ["cpu", "", "", "", "2.0", "3.0", "", "", ""],
        ),
        ({"device": "cuda:0"}, ["cuda", *[""] * 8]),
        ({}, [""] * 9),
    ],
)
def test_what_a_gpu_did_is_what_the_embedding_says(run, tmp_path, facts, expected):
    cost = tmp_path / "benchmarks/embed/m/d/s.tsv"
    cost.parent.mkdir(parents=True)
    cost.write_text("s\th:m:s\tmax_rss\tcpu_time\n1.5\t0:00:01\t100.0\t1.0\n")
    embedding = tmp_path / "results/embeddings/m/d/s.h5ad"
    embedding.parent.mkdir(parents=True)
    with h5py.File(embedding, "w") as file:
        for group in ("obs", "var", "X"):
            file.create_group(group)
        for key, value in facts.items():
            file[f"uns/{key}"] = value
    runtime = pd.read_csv(run({path_of(): [score(split="s")]})["runtime.csv"], dtype=str, keep_default_na=False)
    assert runtime[["device", "precision", *OF_NETWORKS]].to_numpy().tolist() == [expected]


def test_an_empty_run_still_has_tables(run):
    files = run({})
    assert list(pd.read_csv(files["scores.csv"])) == SCORES_COLUMNS


def test_a_layout_without_cells_does_not_change_the_types(tmp_path):
    """Of a model that applies to none of the cells: pandas takes types from empty tables, and warns that it will."""
    paths = []
    for model, rows in (("a", ["s\tc\tl\tb\t0.1\t0.2"]), ("b", [])):
        paths.append(tmp_path / "layouts" / model / "d/s.tsv")
        paths[-1].parent.mkdir(parents=True)
        with checked_path(paths[-1]) as temporary:
            temporary.write_text("\n".join(["\t".join(COLUMNS), *rows, ""]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = _layouts(paths)
    assert table["model"].tolist() == ["a"] and table.dtypes["x"] == "float32"
