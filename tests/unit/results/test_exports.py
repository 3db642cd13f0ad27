"""Exports: leaderboards say what the tables say, results are those of profile reference."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import made_up
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellgauge.core.version import VERSION
from cellgauge.files.score import Score, write_scores
from cellgauge.report import render
from cellgauge.results.compare import Result
from cellgauge.results.czbenchmarks import METRICS
from cellgauge.results.export import export
from cellgauge.results.read import Tables
from cellgauge.results.tables import collect
from cellgauge.results.to_czbenchmarks import cz_results


@pytest.fixture
def written(tmp_path):
    """Export the ARI of some models over eight donors, by {title: (value, by how much donors differ)}."""

    def write(models, kind="foundation"):
        paths, entries = [], {}
        for place, (title, (value, spread)) in enumerate(models.items()):
            own = {"task": "clustering", "model": f"m{place}", "dataset": "d", "split": "s"}
            path = tmp_path / "results/scores/clustering" / f"m{place}" / "d" / "s.tsv"
            donors = value + spread * np.random.default_rng(place).normal(size=8)
            others = {f"d{n}": (donors.sum() - of_one) / 7 for n, of_one in enumerate(donors)}
            rows = [Score("ari", float(donors.mean()), "corrected", **own)]
            rows += [Score("ari_without", float(v), "corrected", condition=d, **own) for d, v in others.items()]
            left_out = 752.0 if title == "Short" else 0.0
            counts = {"n_cells": 2142.0 - left_out, "n_unembedded": left_out}
            write_scores(path, [*rows, *(Score(name, n, "corrected", **own) for name, n in counts.items())])
            paths.append(path)
            entries[f"m{place}"] = {"title": title, "kind": "control" if title == "Oracle" else kind}
        metrics = {"ari": {"title": "ARI", "higher_is_better": True, "range": [-0.5, 1]}}
        catalogue = {"tasks": {"clustering": {"title": "Clustering", "metrics": metrics}}, "models": entries}
        collect(paths, tmp_path / "tables", catalogue=catalogue)
        export(tmp_path / "tables", tmp_path)
        return [(tmp_path / f"tables/leaderboard.{kind}").read_text() for kind in ("md", "tex")]

    write.folder = tmp_path / "tables"
    return write


def test_leaderboards_hold_the_means_of_the_summary(demo):
    text = (demo / "leaderboard.md").read_text()
    summary = pd.read_csv(demo / "summary.csv", keep_default_na=False)
    row = summary[
        (summary["model"] == "hvg") & (summary["metric"] == "nmi") & (summary["profile"] == "corrected")
    ].iloc[0]
    board = text.split("## Clustering, Baron pancreas, recommended scores")[1].split("##")[0]
    (line,) = [line for line in board.splitlines() if line.startswith("| Highly variable genes")]
    assert (
        f"{row['mean']:.3f}" in line
        and f"({float(row['low']):.3f} to {float(row['high']):.3f}, {row['resampled']})" in line
    )
    assert "Harmony (batches)" not in text and "cz-benchmarks scores" in text


def test_those_that_no_other_is_ahead_of_are_bold(written):
    models = {
        "First": (0.8, 0.05),
        "Second": (0.79, 0.05),
        "Third": (0.2, 0.05),
        "Oracle": (1.0, 0.0),
        "Short": (0.9, 0.0),
    }
    md, tex = written(models)
    bold = {line.split(" | ")[0].strip("| ") for line in md.splitlines() if "**" in line}
    assert bold == {"First", "Second"} and tex.count("\\textbf{") == 2
    assert "| Oracle (control) | 1.000 (1.000 to 1.000, donors) |" in md and r"\emph{Oracle} & 1.000" in tex
    assert "| Short | 0.900 (0.900 to 0.900, donors) over 1,390 of 2,142 cells |" in md
    assert r"& 0.900 {\scriptsize [0.900, 0.900, donors]} {\scriptsize over 1,390 of 2,142 cells} \\" in tex
    table = pd.read_csv(written.folder / "leaderboard.csv", keep_default_na=False).set_index("model")
    assert table["rank"].to_dict() == {"First": "1", "Second": "1", "Third": "3", "Oracle": "", "Short": ""}
    assert table["coverage"].to_dict()["Short"] == "1,390 of 2,142 cells"


def test_a_mean_over_fewer_folds_is_marked_in_every_export_and_in_the_report(tmp_path):
    paths = []
    for model, n_folds in {"whole": 3, "broken": 2}.items():
        own = {"task": "label_prediction", "model": model, "dataset": "d", "split": "s", "classifier": "mean"}
        single = {**own, "classifier": "knn", "profile": "reference"}
        rows = [Score("f1", 0.8, fold=fold, **single) for fold in range(n_folds)]
        rows += [Score("f1", fold=2, status="failed", reason="fold 2", **single)] * (3 - n_folds)
        paths.append(tmp_path / "results/scores/label_prediction" / model / "d" / "s.tsv")
        write_scores(paths[-1], [*rows, Score("f1", 0.8, **single), Score("f1", 0.8, "reference", **own)])
    cz = {"task": "label_prediction", "metric": "mean_fold_f1"}
    metrics = {"f1": {"title": "F1", "higher_is_better": True, "range": [0, 1], "czbenchmarks": cz}}
    collect(paths, tmp_path / "tables", catalogue={"tasks": {"label_prediction": {"title": "LP", "metrics": metrics}}})
    export(tmp_path / "tables", tmp_path)
    render(tmp_path / "tables", tmp_path / "report.html")
    for name in ("tables/leaderboard.md", "tables/leaderboard.tex", "tables/leaderboard.csv", "report.html"):
        text = (tmp_path / name).read_text()
        assert "2 of 3 folds" in text and "3 of 3 folds" not in text, name
    results = json.loads((tmp_path / "czbenchmarks.json").read_text())["task_results"]
    noted = {r["model"]["args"]["model"]: {m["params"].get("coverage") for m in r["metrics"]} for r in results}
    assert noted == {"whole": {None}, "broken": {"2 of 3 folds"}}


@given(st.dictionaries(st.sampled_from(["s0", "s1", "s2", "s3"]), st.sampled_from(["exact to .9", "exact to .8"])))
def test_a_mean_says_what_the_score_files_say_of_some_of_its_splits(texts):
    tables = SimpleNamespace(remarks={("m", split): text for split, text in texts.items()})
    remark = Result.remark(SimpleNamespace(tables=tables, _of=lambda values: values), "m", ["s0", "s1", "s2", "s3"])
    assert (remark is None) == (not texts)
    if remark:
        same = len(texts) == 4 and len(set(texts.values())) == 1
        where = "" if same else f"on {len(texts)} of 4 splits, for example: "
        assert remark.reason.startswith(where) and remark.reason.removeprefix(where) in texts.values()


def test_names_are_escaped(written):
    md, tex = written({r"a|b <script> *x* \ [y](z)": (0.5, 0.1), r"50% & $x_1^2$ {~} \input": (0.4, 0.1)})
    assert r"a\|b &lt;script&gt; \*x\* \\ \[y\](z)" in md
    assert r"50\% \& \$x\_1\textasciicircum{}2\$ \{\textasciitilde{}\} \textbackslash{}input" in tex
    (row,) = [line for line in md.splitlines() if "script" in line]
    assert len(re.findall(r"(?<!\\)\|", row)) == 3


def test_latex_tables_are_whole(demo):
    text = (demo / "leaderboard.tex").read_text()
    for table in text.split("\\begin{table}")[1:]:
        (columns,) = re.findall(r"\\begin\{tabular\}\{(lr+)\}", table)
        rows = [line for line in table.splitlines() if line.endswith(r" \\")]
        assert len(rows) > 1 and {line.replace(r"\&", "").count("&") for line in rows} == {len(columns) - 1}
        assert table.count("{") == table.count("}")
        assert all(rule in table for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\end{table}"))


def test_results_as_cz_benchmarks_writes_them(demo):
    found = json.loads((demo.parents[1] / "czbenchmarks.json").read_text())
    assert set(found) == {"czbenchmarks_version", "args", "task_results"}
    assert found["args"].startswith(f"cellgauge {VERSION} (")
    scores = pd.read_csv(demo / "scores.csv", keep_default_na=False)
    assert {result["task_name"] for result in found["task_results"]} == {
        "clustering", "embedding", "label_prediction", "cross_species", "perturbation",
    }  # fmt: skip
    (one,) = [
        result
        for result in found["task_results"]
        if result["task_name"] == "label_prediction"
        and result["model"]["args"] == {"model": "hvg"}
        and result["datasets"][0]["name"] == "baron_pancreas/mouse"
    ]
    assert one["datasets"][0]["organism"] == "mus_musculus" and one["model"]["type"] == "BASELINE"
    own = scores[(scores["model"] == "hvg") & (scores["metric"] == "f1") & (scores["profile"] == "reference")]
    own = own[(own["dataset"] == "baron_pancreas") & (own["split"] == "mouse") & (own["classifier"] == "knn")]
    (metric,) = [
        m for m in one["metrics"] if m["metric_type"] == "mean_fold_f1" and m["params"] == {"classifier": "knn"}
    ]
    assert metric["value"] == pytest.approx(float(own[own["fold"] == ""]["value"].iloc[0]))
    assert metric["values_raw"] == pytest.approx(own[own["fold"] != ""]["value"].astype(float).tolist())
    assert metric["n_values"] == 5 and metric["value_std_dev"] == pytest.approx(np.std(metric["values_raw"], ddof=1))
    (whole,) = [m for m in one["metrics"] if m["metric_type"] == "mean_fold_f1" and "MEAN" in m["params"]["classifier"]]
    assert whole["n_values"] == 15
    (mixed,) = [
        r
        for r in found["task_results"]
        if r["task_name"] == "cross_species" and r["model"]["args"] == {"model": "oracle"}
    ]
    assert [d["organism"] for d in mixed["datasets"]] == ["homo_sapiens", "mus_musculus"]


def test_models_that_cz_benchmarks_knows_carry_its_type(demo):
    tables = Tables.read(demo)
    known = replace(tables.models["random"], facts={"czbenchmarks": "AIDO"})
    tables = replace(tables, models={**tables.models, "random": known})
    types = {r["model"]["args"]["model"]: r["model"]["type"] for r in cz_results(tables)["task_results"]}
    assert types["random"] == "AIDO" and types["oracle"] == "ORACLE" and types["hvg"] == "BASELINE"


def test_the_catalogue_names_tasks_and_metrics_of_cz_benchmarks_each_once():
    metrics = [facts for task in made_up.configuration()["tasks"].values() for facts in task["metrics"].values()]
    named = [tuple(facts["czbenchmarks"].values()) for facts in metrics if "czbenchmarks" in facts]
    assert sorted(named) == sorted((task, metric) for task, names in METRICS.items() for metric in names.values())


def test_tables_are_there_as_parquet(demo):
    for name in ("summary", "runtime", "models", "datasets"):
        assert len(pd.read_parquet(demo / f"{name}.parquet")) == len(pd.read_csv(demo / f"{name}.csv"))
