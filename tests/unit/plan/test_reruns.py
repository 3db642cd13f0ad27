"""A table of edits and of what they re-run: which module lies in which file is part of the design (docs/architecture.md)."""

from functools import cache
from types import SimpleNamespace

import made_up
import pytest

from cellgauge.plan.sources import code

PUBLISH = {
    "tables": code("collect_tables"),
    "report": code("render_report", data="cellgauge.report"),
    "exports": code("export_results"),
    "figures": code("draw_figures"),
    "layout": code("lay_out_cells"),
    "import_published": code("import_published"),
}
DATA = {"split": code("split_dataset"), "truth": code("measure_truth")}
CELL_SCORES = {f"score {task}" for task in ("clustering", "cross_species", "label_prediction", "scib", "scib_species")}
SEARCHES = {"neighbors clustering", "neighbors cross_species"}
NETWORKS = {f"embed {family}" for family in ("uce", "scgpt", "geneformer", "transcriptformer", "aido_cell", "scvi")}


@cache
def jobs():
    """Return the digests of our files by kind of job, for every model and task of the catalogue."""
    inputs = made_up.inputs_of(made_up.configuration())
    kinds = PUBLISH | DATA
    for model, entry in inputs.run.entries["models"].items():
        predicts = inputs.run.traits(model).modality == "perturbation"
        kinds[f"{'predict' if predicts else 'embed'} {entry['adapter']}"] = inputs.model_code(
            SimpleNamespace(model=model)
        )
        if inputs.run.traits(model).species_sources:
            kinds[f"build_species {entry['adapter']}"] = inputs.species_code(SimpleNamespace(model=model))
    for task in inputs.run.entries["tasks"]:
        kinds[f"score {task}"] = inputs.task_code(SimpleNamespace(task=task))
    for task in ("clustering", "cross_species"):
        kinds[f"neighbors {task}"] = inputs.neighbor_code(SimpleNamespace(task=task))
    return kinds


def rerun_by(file):
    """Return the kinds of jobs that an edit of a file re-runs."""
    return {kind for kind, files in jobs().items() if file in files}


def beginning(*starts):
    return {kind for kind in jobs() if kind.startswith(starts)}


@pytest.mark.parametrize(
    ("file", "kinds"),
    [
        ("plan/grid.py", set()),
        ("plan/inputs.py", set()),
        ("data/make_split.py", {"split"}),
        ("screens/from_cells.py", {"split"}),
        ("screens/ground_truth.py", {"truth", "score perturbation"}),
        ("models/uce/tokens.py", {"embed uce", "build_species uce"}),
        ("models/uce/network.py", {"embed uce", "build_species uce"}),
        ("models/transcriptformer/network.py", {"embed transcriptformer"}),
        ("models/pca_joint.py", {"embed pca_joint"}),
        ("models/harmony.py", {"embed harmony", "embed harmony_species"}),
        ("inference/several_splits.py", beginning("embed ")),
        ("tasks/clustering/scores.py", {"score clustering"}),
        ("tasks/clustering/neighbors.py", {"score clustering", "neighbors clustering"}),
        ("tasks/label_prediction/scores.py", {"score label_prediction"}),
        ("tasks/perturbation/de_genes.py", {"score perturbation"}),
        ("tasks/cross_species/transfer.py", {"score cross_species", "neighbors cross_species"}),
        ("metrics/classifiers.py", {"score label_prediction", "score cross_species", "neighbors cross_species"}),
        ("metrics/forest/__init__.py", {"score label_prediction"}),
        ("metrics/forest/kernel.py", {"score label_prediction"}),
        ("results/uncertainty.py", {"tables", "report", "exports", "figures"}),
        ("results/leaderboards.py", {"exports"}),
        ("report/pages/tasks.py", {"report"}),
        ("report/templates/cost.html", {"report"}),
        ("core/gpu.py", beginning("embed ", "predict ", "build_species ", "neighbors ", "score ")),
    ],
)
def test_an_edit_reruns_what_it_may_change(file, kinds):
    assert rerun_by(file) == kinds


def test_an_edit_of_the_score_contract_computes_no_embedding_anew():
    rerun = rerun_by("files/score.py")
    assert not rerun & beginning("embed ", "predict ", "build_species ", "layout", "split", "truth")
    assert rerun >= CELL_SCORES | {"score perturbation", "tables"}


def test_an_edit_of_how_networks_run_computes_no_baseline_anew():
    rerun = rerun_by("inference/run.py") | rerun_by("inference/device.py")
    assert rerun <= NETWORKS | {"predict scgenept", "build_species uce"} and rerun >= NETWORKS - {"embed scvi"}


def test_an_edit_of_a_search_scores_anew_what_it_is_made_of_alone():
    assert rerun_by("metrics/knn/exact.py") <= CELL_SCORES | SEARCHES | {"layout"}
