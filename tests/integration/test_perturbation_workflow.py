"""A screen through the workflow: predict, measure the truth once, score, tables; then only what changed."""

import shutil

import numpy as np
import pandas as pd
import pytest
import tiny
from project import TABLES, Project, make_project

CONFIG = {
    "run": {
        "models": ["no_change", "additive", "ceiling", "mine", "tuned_elsewhere"],
        "datasets": ["tiny_screen"],
        "tasks": ["perturbation"],
    },
    "models": {
        "mine": {"adapter": "precomputed_responses", "path": "mine/{dataset}.csv"},
        "tuned_elsewhere": {"adapter": "training_mean", "splits": ["norman"]},
    },
    "datasets": {
        "tiny_screen": {
            "modality": "perturbation",
            "organism": "human",
            "counts": "layers/counts",
            "expression": "X",
            "columns": {"label": "condition", "partition": "split", "ensembl": "index", "symbol": "feature_name"},
            "splits": {"k562": "published/screen.h5ad"},
        }
    },
}
MODELS = {"no_change", "additive", "ceiling", "mine"}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("perturbation"), CONFIG)
    data = tiny.screen(n_cells=600, n_genes=150)
    data.write_h5ad(project.folder / "published/screen.h5ad")
    rows = {
        name: data.X[(data.obs["condition"] == name).to_numpy()].toarray().mean(axis=0)
        for name in ("GENE4+ctrl", "GENE2+GENE0")
    }
    pd.DataFrame(rows, index=data.var["feature_name"]).T.to_csv(project.folder / "mine/tiny_screen.csv")
    project.run(*TABLES, real=True)
    project.run()
    return project


def test_every_model_has_scores_and_the_pair_that_does_not_fit_has_a_reason(project):
    table = project.table()
    assert set(table.loc[table["status"] == "ok", "model"]) == MODELS
    left_out = table[table["model"] == "tuned_elsewhere"]
    assert left_out["reason"].tolist() == ["the model is only for norman"]
    best = table[(table["metric"] == "mse") & (table["subset"] == "top20_de") & (table["profile"] == "corrected")]
    mse = best.set_index("model")["value"].astype(float)
    assert mse["mine"] < 1e-9 < mse["ceiling"] < mse["no_change"]
    assert set(table["condition"]) == {""}


def test_single_conditions_have_a_table_of_their_own(project):
    table = project.table("conditions")
    assert set(table["condition"]) == {"GENE2+GENE0", "GENE1+GENE4", "GENE4+ctrl", "GENE3+GENE1"}
    assert set(table["genes"]) == {"all", "top20_de", "top100_de", "de", "unmasked"}
    assert set(table["stratum"]) == {"unseen_single", "combo_seen1", "combo_seen2"}
    missing = table[(table["model"] == "mine") & (table["condition"] == "GENE1+GENE4") & (table["metric"] != "n_de")]
    assert set(missing["reason"]) == {"tiny_screen.csv has no row of this condition"}
    counts = project.table()
    counts = counts[(counts["metric"] == "n_conditions") & (counts["subset"] == "all")].set_index(["model", "profile"])
    values = counts["value"].astype(float)
    assert values["mine", "corrected"] == 2 and values["ceiling", "reference"] == 4


def test_jobs_left_their_cost_and_the_truth_was_measured_once(project):
    runtime = project.table("runtime")
    assert set(runtime["stage"]) == {"predict", "score"} and set(runtime["model"]) == MODELS
    assert [path.name for path in (project.folder / "results/truths").rglob("*.h5ad")] == ["k562.h5ad"]
    assert "<h" in (project.folder / "results/report.html").read_text()


def test_editing_a_predictor_re_runs_its_model_alone_and_not_the_truth(project):
    path = project.folder / "workflow/scripts/cellgauge/predictors/additive.py"
    before = path.read_text()
    path.write_text(before + "\nEDITED = True\n")
    planned = {
        p for p in project.planned() if p.startswith(("results/predictions", "results/truths", "results/scores"))
    }
    path.write_text(before)
    assert planned == {
        "results/predictions/additive/tiny_screen/k562.h5ad",
        "results/scores/perturbation/additive/tiny_screen/k562.tsv",
    }


def test_a_model_that_fails_is_a_row_with_its_reason(project, tmp_path):
    project = Project(shutil.copytree(project.folder, tmp_path / "project", symlinks=True))
    path = project.folder / "mine/tiny_screen.csv"
    frame = pd.read_csv(path, index_col=0)
    frame.iloc[0, 0] = np.inf
    frame.to_csv(path)
    done = project.run("--keep-going", *TABLES, check=False)
    assert done.returncode
    table = project.table()
    (row,) = table[table["model"] == "mine"].to_dict("records")
    assert row["status"] == "failed" and "the prediction contains a value that is not finite" in row["reason"]
    assert set(table.loc[table["status"] == "ok", "model"]) == MODELS - {"mine"}
