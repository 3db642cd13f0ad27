"""The scIB suite: our rows are what scib-metrics' Benchmarker reports on the same cells, in the environment of the task.

`make setup-scib` makes that environment; CELLGAUGE_REQUIRE_SCIB=1, as CI sets it where there is a fitting Python, fails what
would be skipped.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from project import ROOT

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.make_split import make_split
from cellgauge.files.embedding import Embedding, write_embedding
from cellgauge.files.score import read_scores
from cellgauge.files.split import Split
from cellgauge.metrics.silhouette import batch_silhouettes, bras_widths
from cellgauge.plan.interpreter import require
from cellgauge.tasks.scib import scores as scib

RUNNER = ROOT / "tests" / "scib" / "run_scib.py"
LOCK = "requirements-scib.lock"
THEIRS = {
    "total": "Total",
    "bio_conservation": "Bio conservation",
    "batch_correction": "Batch correction",
    "isolated_labels": "Isolated labels",
    "nmi_kmeans": "KMeans NMI",
    "ari_kmeans": "KMeans ARI",
    "silhouette_label": "Silhouette label",
    "clisi": "cLISI",
    "bras": "BRAS",
    "ilisi": "iLISI",
    "kbet": "KBET",
    "graph_connectivity": "Graph connectivity",
    "pcr_comparison": "PCR comparison",
}
KEPT = {"pancreatic A cell": 150, "type B pancreatic cell": 150, "pancreatic ductal cell": 120, "T cell": 4}


@pytest.fixture(scope="module")
def scib_python() -> Path:
    """The interpreter of .venv-scib."""
    try:
        require("scib", "this test")
    except CellgaugeError as reason:
        if os.environ.get("CELLGAUGE_REQUIRE_SCIB") == "1":
            pytest.fail(f"CELLGAUGE_REQUIRE_SCIB=1, but: {reason}")
        pytest.skip(str(reason))
    return ROOT / ".venv-scib" / "bin" / "python"


def job(folder, cells, name, batch):
    """Write a split of some cells and an embedding of it that knows their labels and a little of their donors."""
    cells.write_h5ad(folder / f"{name}_published.h5ad")
    options = {
        "dataset": "baron",
        "split": name,
        "organism": "human",
        "label": "cell_ontology_class",
        "symbol": "index",
    }
    make_split(folder / f"{name}_published.h5ad", folder / f"{name}.h5ad", {**options, "donor": "donor", **batch})
    split = Split.open(folder / f"{name}.h5ad")
    labels, donors = (np.unique(split.column(column), return_inverse=True)[1] for column in ("label", "donor"))
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(len(labels), 12))
    matrix[:, :4] += 2 * np.eye(4)[labels]
    matrix[:, 4] += 0.7 * donors
    uns = {"model": "made", "dataset": "baron", "split": name}
    write_embedding(folder / f"{name}_embedding.h5ad", matrix, split.cells, [split], uns)
    files = {"embedding": f"{name}_embedding.h5ad", "split": f"{name}.h5ad", "output": f"{name}.tsv"}
    return {key: str(folder / file) for key, file in files.items()}


@pytest.fixture(scope="module")
def results(tmp_path_factory, baron, scib_python):
    """(rows of all donors, what the Benchmarker reports of the same, rows of a single donor, files of all donors)."""
    import anndata

    folder = tmp_path_factory.mktemp("scib")
    data = anndata.read_h5ad(baron.human)
    types = data.obs["cell_ontology_class"].astype(str).to_numpy()
    generator = np.random.default_rng(0)
    chosen = [generator.choice(np.flatnonzero(types == name), n, replace=False) for name, n in KEPT.items()]
    cells = data[np.sort(np.concatenate(chosen))].copy()
    single = cells[cells.obs["donor"] == "human3"].copy()
    jobs = [job(folder, cells, "donors", {"batch": "donor"}), job(folder, single, "donor", {})]
    (folder / "jobs.json").write_text(json.dumps(jobs))
    command = [scib_python, RUNNER, folder / "jobs.json", folder / "theirs.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    theirs = json.loads((folder / "theirs.json").read_text())
    return read_scores(jobs[0]["output"]), theirs, read_scores(jobs[1]["output"]), jobs[0]


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.xdist_group("scib")
def test_rows_are_what_the_benchmarker_reports(results):
    rows, theirs, *_ = results
    found = {row.metric: row.value for row in rows if row.status == "ok" and not row.condition}
    assert {name: found[name] for name in THEIRS} == pytest.approx(
        {name: theirs[their] for name, their in THEIRS.items()}, rel=0, abs=1e-6
    )
    assert set(theirs) == set(THEIRS.values())
    assert 0.05 < found["pcr_comparison"] < 0.999  # no bound, where any embedding would agree
    assert 0.05 < found["kbet"] < 0.95
    assert {row.profile for row in rows} == {"corrected"}


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.xdist_group("scib")
def test_our_bras_is_that_of_the_benchmarker(results):
    _, theirs, _, files = results
    split = Split.open(files["split"])
    labels, matrix = split.column("label"), Embedding.read(files["embedding"]).rows_of(split)
    ours = batch_silhouettes(bras_widths(matrix, labels, split.column("batch")), labels)
    assert np.mean(list(ours.values())) == pytest.approx(theirs["BRAS"], abs=1e-6)
    assert 0.2 < theirs["BRAS"] < 0.99


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.xdist_group("scib")
def test_every_label_that_kbet_can_test_has_a_row(results):
    rows, theirs, *_ = results
    by_label = {row.condition: row.value for row in rows if row.metric == "kbet" and row.condition}
    assert set(by_label) == set(KEPT) - {"T cell"}
    assert np.mean(list(by_label.values())) == pytest.approx(theirs["KBET"], abs=1e-9)


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.xdist_group("scib")
def test_one_batch_leaves_the_metrics_of_biology(results):
    rows = {row.metric: row for row in results[2] if not row.condition}
    scored = {name for name in scib.METRICS if rows[name].status == "ok"}
    assert scored == set(scib.BIO_CONSERVATION) - {"isolated_labels"}
    for name in {*scib.BATCH_CORRECTION, "isolated_labels"}:
        assert rows[name].status == "not_applicable" and rows[name].value is None
        assert (
            rows[name].reason
            == "several batches must be known: there is no column 'batch', all cells are of one 'donor'"
        )
    assert rows["bio_conservation"].reason.endswith("without a value: isolated_labels")
    assert rows["total"].status == rows["batch_correction"].status == "not_applicable"


# --- the environment -------------------------------------------------------------------------------------------------


@pytest.mark.xdist_group("workflow")
def test_without_its_environment_the_task_stops_the_run_with_one_sentence(fresh_project):
    """Before any job: in a run of other tasks nobody needs the environment, and with conda nobody makes it by hand."""
    project, config = fresh_project, fresh_project.config
    shutil.copy2(ROOT / LOCK, project.folder)
    config["run"] |= {"models": ["random"], "tasks": ["clustering", "scib"]}
    project.configure(config)
    project.run("--dry-run")  # a plan needs no packages
    done = project.run(check=False)
    assert done.returncode == 1 and "Traceback" not in done.stdout
    assert (
        "task scib runs in a separate environment, .venv-scib, which has not been made yet:"
        f" type `make setup-scib` in {project.folder}, or use conda" in done.stdout
    )
    assert not (project.folder / "results").exists()

    (project.folder / ".venv-scib").mkdir()
    shutil.copy2(ROOT / LOCK, project.folder / ".venv-scib/.installed")
    planned = project.run("--dry-run", "--printshellcmds").stdout
    commands = re.findall(r"(\S+) \S+/score_task.py (\w+) --embeddings", planned)
    assert {task: python for python, task in commands} == {"clustering": "python", "scib": ".venv-scib/bin/python"}


def test_a_python_without_the_library_says_what_to_do():
    code = "from cellgauge.tasks.scib.scores import load_library; from cellgauge.core.errors import run_cli; "
    code += "run_cli(load_library)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow/scripts")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "task scib needs scib-metrics, which this Python lacks" in done.stderr
    assert "`make setup-scib`" in done.stderr
