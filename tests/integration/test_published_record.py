"""The published record of cz-benchmarks, as it lies in the package index: what is used of it, and what it says."""

import json
import os
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import made_up
import pandas as pd
import pytest
from made_up import inputs_of

from cellgauge.files.score import read_scores
from cellgauge.plan.manifest import catalogue
from cellgauge.plan.sources import SCRIPTS
from cellgauge.report import render
from cellgauge.results.published import import_published
from cellgauge.results.tables import collect

SOURCE = "czbenchmarks_2025_05"
FIVE = {"blood", "bone_marrow", "lung", "mammary", "thymus"}


@pytest.fixture(scope="module")
def inputs():
    return inputs_of(made_up.demo())


@pytest.fixture(scope="module")
def imported(published_record, inputs, tmp_path_factory):
    path = tmp_path_factory.mktemp("record") / f"results/published/{SOURCE}.tsv"
    import_published(published_record, path, **json.loads(inputs.published_options(SimpleNamespace(source=SOURCE))))
    return path


@pytest.fixture(scope="module")
def tables(imported, inputs):
    folder = imported.parents[2] / "tables"
    collect([], folder, catalogue=catalogue(inputs.grid), published=[imported])
    return folder


def read(tables, name):
    return pd.read_csv(tables / f"{name}.csv", keep_default_na=False)


def mean(tables, model, metric, n_splits, classifier=""):
    found = read(tables, "published_summary")
    found = found[(found["model"] == model) & (found["metric"] == metric) & (found["classifier"] == classifier)]
    (row,) = found[found["n_splits"] == n_splits].to_dict("records")
    return row["mean"]


def pair(tables, metric, first, second, classifier="", n_units=26):
    found = read(tables, "published_comparisons")
    found = found[(found["metric"] == metric) & (found["classifier"] == classifier) & (found["n_units"] == n_units)]
    found = found[[{first, second} == {*both} for both in zip(found["first"], found["second"], strict=True)]]
    (row,) = found.to_dict("records")
    return row


def test_what_is_used_and_why_the_rest_is_not(published_record, imported):
    rows = read_scores(imported)
    assert len(json.loads(published_record.read_text())) == 281 and len(rows) == 2546
    assert Counter(row.status for row in rows) == {"ok": 1902, "not_applicable": 644}
    unused = [row for row in rows if row.status != "ok"]
    assert all(row.reason and row.value is None for row in unused)
    assert {row.source for row in rows} == {SOURCE} and {row.profile for row in rows} == {"reference"}
    assert sum(row.metric == "auroc" for row in unused) == 452 == sum(row.metric == "auroc" for row in rows)
    suspect = [row for row in unused if row.model in ("scvi_census_2023_12_15", "geneformer_12l_95m")]
    assert len(suspect) == 230 == sum(row.model in ("scvi_census_2023_12_15", "geneformer_12l_95m") for row in rows)
    rest = [row for row in unused if row.metric != "auroc" and row not in suspect]
    assert [(row.model, row.split) for row in rest] == [("tf_metazoa_reference", "common")] * 2
    assert all("second record" in row.reason for row in rest)


def test_which_models_were_run_on_what(imported):
    covered = {}
    for row in read_scores(imported):
        if row.status == "ok":
            covered.setdefault((row.dataset, row.model), set()).add(row.split)
    tissues = {model: splits for (dataset, model), splits in covered.items() if dataset == "tabula_sapiens_v2"}
    tf = {"tf_sapiens_reference", "tf_exemplar_reference", "tf_metazoa_reference"}
    assert {model for model, splits in tissues.items() if len(splits) == 26} == tf
    others = {"aido_cell_3m", "linear", "scgpt_human", "uce_4l_reference", "uce_33l_reference"}
    assert {model for model, splits in tissues.items() if splits == FIVE} == others
    species = {
        model for (dataset, model), splits in covered.items() if (dataset, splits) == ("spermatogenesis", {"common"})
    }
    assert species == {"uce_4l_reference", "uce_33l_reference", "tf_exemplar_reference", "tf_metazoa_reference"}


@pytest.mark.parametrize(
    ("model", "dataset", "split", "metric", "value"),
    [
        ("uce_33l_reference", "spermatogenesis", "common", "entropy_per_cell", 0.108751),
        ("uce_4l_reference", "spermatogenesis", "common", "batch_silhouette", 0.844884),
        ("tf_exemplar_reference", "spermatogenesis", "common", "entropy_per_cell", 0.012749),
        ("tf_metazoa_reference", "spermatogenesis", "common", "batch_silhouette", 0.537178),
        ("uce_4l_reference", "tabula_sapiens_v2", "bone_marrow", "silhouette", 0.542881),
        ("tf_sapiens_reference", "tabula_sapiens_v2", "bladder", "ari", 0.1371),
        ("tf_sapiens_reference", "tabula_sapiens_v2", "bladder", "nmi", 0.5501),
    ],
)
def test_single_values(imported, model, dataset, split, metric, value):
    place = (model, dataset, split, metric)
    rows = [row for row in read_scores(imported) if (row.model, row.dataset, row.split, row.metric) == place]
    (ok,) = [row for row in rows if row.status == "ok"]
    assert ok.value == pytest.approx(value, abs=0.5 * 10 ** -len(str(value).partition(".")[2]))


def test_means_over_five_tissues(tables):
    ari = {"uce_4l_reference": 0.452, "linear": 0.398, "uce_33l_reference": 0.389, "tf_sapiens_reference": 0.371}
    ari |= {"scgpt_human": 0.351, "aido_cell_3m": 0.271}
    for model, value in ari.items():
        assert mean(tables, model, "ari", 5) == pytest.approx(value, abs=5e-4), model
    summary = read(tables, "published_summary")
    of_five = summary[(summary["n_splits"] == 5) & (summary["metric"] == "ari")].sort_values("mean", ascending=False)
    assert of_five["model"].tolist()[:2] == ["uce_4l_reference", "linear"] and len(of_five) == 8
    f1 = {"mean": 0.559, "logistic_regression": 0.799, "knn": 0.169}
    for classifier, value in f1.items():
        assert mean(tables, "linear", "f1", 5, classifier) == pytest.approx(value, abs=5e-4)


def test_what_26_tissues_tell_apart(tables):
    assert mean(tables, "tf_exemplar_reference", "f1", 26, "mean") == pytest.approx(0.8326, abs=5e-5)
    assert mean(tables, "tf_sapiens_reference", "f1", 26, "mean") == pytest.approx(0.8274, abs=5e-5)
    f1 = pair(tables, "f1", "tf_exemplar_reference", "tf_sapiens_reference", "mean")
    assert (
        f1["p"] == pytest.approx(1.13e-5, rel=0.01)
        and f1["better"] == "tf_exemplar_reference"
        and f1["units"] == "splits"
    )
    nmi = pair(tables, "nmi", "tf_exemplar_reference", "tf_sapiens_reference")
    assert nmi["p"] == pytest.approx(0.0056, abs=5e-5) and nmi["better"] == "tf_sapiens_reference"
    twins = pair(tables, "f1", "tf_exemplar_reference", "tf_metazoa_reference", "mean")
    assert twins["p"] == pytest.approx(0.317, abs=5e-4) and twins["better"] == ""


def test_five_tissues_tell_models_apart_that_differ_in_all_of_them_alone(tables):
    assert (
        set(read(tables, "published_comparisons")["n_units"])
        == {5, 26}
        == set(read(tables, "published_ranks")["n_units"])
    )
    f1 = pair(tables, "f1", "tf_exemplar_reference", "tf_sapiens_reference", "mean", 5)
    assert f1["p"] == pytest.approx(0.088, abs=5e-4) and f1["better"] == ""


def test_the_page_says_whose_numbers_these_are(tables, tmp_path):
    render(tables, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text().partition('id="published"')[2].partition("</section>")[0]
    said = (
        "not run here",
        "1,902 of 2,546 values are used",
        "cz-benchmarks 0.7.0 and 0.8.0",
        "2025-05-08",
        "MIT",
        "vcp-cli",
    )
    assert all(words in page for words in said)
    assert "This run scored none of these models on the same data: 1,902 published values are not compared" in page


def test_the_import_makes_one_row_per_value_and_loads_no_table_library(published_record, inputs, tmp_path):
    options = inputs.published_options(SimpleNamespace(source=SOURCE))
    program = """
import json, sys
from cellgauge.files.score import Score
from cellgauge.results.published import import_published
checked, made = Score.__post_init__, []
Score.__post_init__ = lambda row: made.append(1) or checked(row)
import_published(*sys.argv[1:3], **json.loads(sys.argv[3]))
print(len(made), sorted({"pandas", "pyarrow", "scipy", "h5py", "jinja2"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", program, str(published_record), str(tmp_path / "rows.tsv"), options]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(SCRIPTS)}
    )
    count, loaded = done.stdout.split(maxsplit=1)
    assert int(count) <= 2.5 * 2546 and loaded.strip() == "[]"  # read, named in our names, and some left out
