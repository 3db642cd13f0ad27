"""The scIB suite around its library: what is asked of it, and what becomes of what it cannot give.

tests/integration/test_scib.py compares the numbers with scib-metrics itself, which lives in an environment of its own.
"""

import numpy as np
import pandas as pd
import pytest
import tiny

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.expression import components_of
from cellgauge.files.embedding import Embedding, write_embedding
from cellgauge.files.split import Split
from cellgauge.models.base import embed_files
from cellgauge.tasks.cells import CellsToScore, NotScorable
from cellgauge.tasks.run import score_files
from cellgauge.tasks.scib import scores as scib
from cellgauge.tasks.scib_species import scores as scib_species

VALUES = {name: 0.1 * place for place, name in enumerate(scib.METRICS, 1)}


@pytest.fixture
def library(monkeypatch):
    """Let every metric be VALUES, or the error or number that the returned dict names."""
    answers = dict(VALUES)

    def compute(metric, suite):
        if isinstance(answers[metric], Exception):
            raise answers[metric]
        return answers[metric]

    monkeypatch.setattr(scib, "load_library", lambda: None)
    monkeypatch.setattr(scib, "_compute", compute)
    by_label = pd.DataFrame({"cluster": ["a", "b", "c"], "kBET": [0.5, 1.0, np.nan]})  # of c there are too few cells
    monkeypatch.setattr(scib._Suite, "kbet", (0.75, by_label))
    return answers


def cells(n=120, **columns):
    labels = np.asarray([f"type {i % 3}" for i in range(n)], dtype=object)
    batches = np.asarray([f"batch {i % 2}" for i in range(n)], dtype=object)
    return CellsToScore(np.zeros((n, 4), dtype=np.float32), {"label": labels, "batch": batches, **columns})


def score(cells, **params):
    rows = list(scib.score(cells, profiles=["corrected"], seed=42, **params))
    return {row.metric: row for row in rows if not row.condition}, rows


def test_the_total_weighs_biology_over_batches(library):
    rows, everything = score(cells())
    assert list(rows) == ["total", "bio_conservation", "batch_correction", *scib.METRICS]
    biology, batches = np.mean(list(VALUES.values())[:5]), np.mean(list(VALUES.values())[5:])
    assert rows["bio_conservation"].value == pytest.approx(biology)
    assert rows["batch_correction"].value == pytest.approx(batches)
    assert rows["total"].value == pytest.approx(0.6 * biology + 0.4 * batches)
    assert {row.condition: row.value for row in everything if row.condition} == {"a": 0.5, "b": 1.0}


def test_a_metric_that_fails_is_a_row_and_takes_its_means_along(library):
    library["kbet"] = ValueError("the graph fell\napart")
    rows, everything = score(cells())
    assert (rows["kbet"].status, rows["kbet"].reason) == ("failed", "scib-metrics: the graph fell apart")
    for name in ("total", "batch_correction"):
        assert rows[name].status == "not_applicable" and rows[name].reason.endswith("without a value: kbet")
    assert rows["bio_conservation"].status == "ok"
    assert not any(row.condition for row in everything)


def test_no_number_is_no_score(library):
    library["kbet"] = float("nan")
    row = score(cells())[0]["kbet"]
    assert (row.status, row.reason) == ("not_applicable", "no label has 10 cells of several batches")


def test_a_comparison_of_zero_says_what_it_hides(library):
    library["pcr_comparison"] = 0.0
    assert "explain no less" in score(cells())[0]["pcr_comparison"].reason


def test_donors_stand_in_for_batches_that_tell_no_cells_apart(library):
    donors = np.asarray([f"donor {i % 4}" for i in range(120)], dtype=object)
    one = np.full(120, "lane", dtype=object)
    rows, _ = score(cells(batch=one, donor=donors))
    assert rows["ilisi"].reason == "batches are those of column 'donor'" and rows["clisi"].reason == ""
    found, column, _ = scib.known_batches({"batch": one, "donor": donors}, ["batch", "donor"])
    assert column == "donor" and found is donors


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({}, "there is no column 'batch', there is no column 'donor'"),
        ({"batch": np.array(["x", "", "y"], dtype=object)}, "1 cells have no 'batch'"),
        ({"batch": np.array(["x", "x"], dtype=object)}, "all cells are of one 'batch'"),
    ],
)
def test_why_there_are_no_batches(columns, words):
    found, column, why = scib.known_batches(columns, scib.BATCH_COLUMNS)
    assert found is None and column == "" and words in why


def test_means_need_all_their_parts_to_be_asked_for(library):
    rows, _ = score(cells(), metrics=["ilisi", "clisi"])
    assert set(rows) == {"ilisi", "clisi"}


def test_fewer_cells_than_neighbors(library):
    rows, _ = score(cells(n=89))
    assert {name for name in scib.METRICS if rows[name].status != "ok"} == set(scib.N_NEIGHBORS)
    assert rows["ilisi"].reason == "there are 89 cells, the search is for 90 neighbors of each, itself included"


def test_batches_that_share_no_label_have_no_silhouette(library):
    labels = np.asarray(["a", "b"] * 60, dtype=object)
    rows, _ = score(cells(label=labels))
    assert rows["bras"].reason == "no label has cells of two batches, and more than one of some"


def test_mistakes(library):
    with pytest.raises(CellgaugeError, match="scib: unknown metric 'lisi'; there are isolated_labels"):
        score(cells(), metrics=["lisi"])
    with pytest.raises(CellgaugeError, match="scib: unknown batch column 'assay'; there are batch, donor"):
        score(cells(), batch_columns=["assay"])
    with pytest.raises(NotScorable, match="all 120 cells have the label 'x'"):
        score(cells(label=np.full(120, "x", dtype=object)))


def test_an_older_library_is_refused(monkeypatch):
    import sys
    from types import ModuleType

    monkeypatch.setattr(scib.os, "environ", {})  # which the function changes, for every test after this one
    monkeypatch.setattr(scib.metadata, "version", lambda name: "0.5.10")
    monkeypatch.setitem(sys.modules, "scib_metrics", ModuleType("scib_metrics"))
    with pytest.raises(CellgaugeError, match=r"needs scib-metrics 0\.6 or newer, this Python has 0\.5\.10"):
        scib.load_library()


def test_the_task_has_rows_in_profile_corrected_alone(library, tmp_path):
    path = tiny.split_file(tmp_path)
    split = Split.open(path)
    matrix = np.random.default_rng(0).normal(size=(len(split.cells), 3))
    write_embedding(tmp_path / "e.h5ad", matrix, split.cells, [split], {"model": "m", "split": split.name})
    rows = list(score_files("scib", [tmp_path / "e.h5ad"], [path]))
    assert {row.profile for row in rows} == {"corrected"} and {row.metric for row in rows} >= {"n_cells", "total"}
    (row,) = score_files("scib", [tmp_path / "e.h5ad"], [path], profiles=["reference"])
    assert (row.status, row.profile) == ("not_applicable", "reference")
    assert row.reason == "task scib is scored in profile corrected alone, the run asks for others"


def test_the_unintegrated_components_are_those_of_the_linear_baseline(tmp_path):
    split = Split.open(tiny.split_file(tmp_path))
    embed_files("linear", [split.path], tmp_path / "linear.h5ad", options={"n_top_genes": 30, "n_components": 10})
    linear = Embedding.read(tmp_path / "linear.h5ad").matrix
    of_all = CellsToScore(linear, {}, splits=[split])
    np.testing.assert_array_equal(scib._Suite(of_all, [], None, "", 30, 10, 42).unintegrated(), linear)
    kept = np.arange(120) % 5 > 0
    of_some = CellsToScore(linear[kept], {}, splits=[split], has_row=kept)
    assert scib._Suite(of_some, [], None, "", 30, 10, 42).unintegrated().shape == (96, 10)


# --- species ---------------------------------------------------------------------------------------------------------


def two_species(tmp_path):
    table = tiny.orthologue_table(tmp_path / "orthologues.csv")
    tables = tiny.orthologues(table)
    splits = [
        Split.open(tiny.split_file(tmp_path, organism=name, n_cells=60, orthologues=tables))
        for name in ("human", "mouse")
    ]
    organism = np.concatenate([np.full(len(s.cells), s.organism, dtype=object) for s in splits])
    embedded = np.arange(len(organism)) % 7 > 0
    columns = {"label": np.concatenate([s.column("label") for s in splits]), "organism": organism}
    obs = {name: column[embedded] for name, column in columns.items()}
    matrix = np.random.default_rng(0).normal(size=(embedded.sum(), 4)).astype(np.float32)
    return CellsToScore(matrix, obs, int((~embedded).sum()), splits, embedded)


def test_over_species_each_is_a_batch(library, monkeypatch, tmp_path):
    suites = []
    monkeypatch.setattr(scib, "_compute", lambda metric, suite: suites.append(suite) or VALUES[metric])
    cells = two_species(tmp_path)
    rows = {s.metric: s for s in scib_species.score(cells, profiles=["corrected"], seed=42) if not s.condition}
    assert list(rows) == ["total", "bio_conservation", "batch_correction", *scib.METRICS]
    assert rows["bras"].value == VALUES["bras"] and rows["bras"].reason == ""
    assert (suites[0].batches == cells.obs["organism"]).all()


def test_pcr_over_species_is_compared_with_the_joint_components(tmp_path):
    cells = two_species(tmp_path)
    suite = scib._Suite(cells, cells.obs["label"], cells.obs["organism"], "", 20, 5, 42)
    _, joint = components_of(cells.splits, 20, 5, 42)
    np.testing.assert_array_equal(suite.unintegrated(), joint[cells.has_row])


def test_without_orthologs_pcr_over_species_is_not_applicable(library, monkeypatch, tmp_path):
    def compute(metric, suite):
        if metric == "pcr_comparison":
            suite.unintegrated()
        return VALUES[metric]

    monkeypatch.setattr(scib, "_compute", compute)
    cells = two_species(tmp_path)
    for split in cells.splits:
        split.__dict__["orthologues"] = np.full(len(split.genes), "", dtype=object)
    rows = {s.metric: s for s in scib_species.score(cells, profiles=["corrected"], seed=42) if not s.condition}
    assert rows["pcr_comparison"].status == "not_applicable" and "orthologue" in rows["pcr_comparison"].reason
    assert rows["batch_correction"].reason.endswith("without a value: pcr_comparison")
    assert rows["bras"].status == "ok"
