"""scGenePT predicts what the official class predicts, for every control and for the bootstrap of them."""

import json

import numpy as np
import pytest
import torch
from vectors import GOLDEN, same, scgenept_panel, scgenept_screen, scgenept_weights

from cellgauge.inference.checkpoints import Checkpoint, find_file
from cellgauge.predictors.scgenept import bootstrap, predict
from cellgauge.predictors.scgenept.network import load_scgenept
from cellgauge.screens.screen import Screen

CASE = GOLDEN / "scgenept" / "case_a"
CONFIG = json.loads((CASE / "config.json").read_text())
ORDER = json.loads((CASE / "gene_order.json").read_text())
FOLDERS = ("scgenept_go_all", "scgenept_go_c", "scgenept_ncbi+uniprot")
TOLERANCE = 1e-5  # the README allows 1e-4; typical mistakes move values by 0.017 and more


def expected(folder, condition, kind):
    return np.load(CASE / f"pred__{folder}__{condition.replace('+', '_')}__{kind}.npy")


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    return Screen.open(scgenept_screen(CASE, tmp_path_factory.mktemp("scgenept") / "screen.h5ad"))


@pytest.fixture(scope="module", params=FOLDERS)
def model(request, tmp_path_factory):
    """A checkpoint in a folder of its own beside the vocabulary."""
    return request.param, scgenept_weights(CASE, request.param, tmp_path_factory.mktemp("model"))


def test_the_network_predicts_every_control(screen, model):
    name, folder = model
    network = load_scgenept(
        Checkpoint.open(find_file(folder, "*.pt")), torch.from_numpy(np.load(CASE / "gene_ids.npy")), CONFIG["nhead"]
    )
    columns = [screen.column_of[gene] for gene in ORDER["ensembl"]]
    values = torch.from_numpy(screen.controls()[:, columns].toarray())
    for condition in CONFIG["perts"]:
        flags = torch.tensor([int(symbol in condition.split("+")) for symbol in ORDER["symbol"]])
        with torch.inference_mode():
            same(network(values, flags).numpy(), expected(name, condition, "all_ctrl"), TOLERANCE)


@pytest.mark.parametrize(("draw", "kind"), [("each", "all_ctrl"), ("bootstrap", "bootstrap")])
def test_predictions_are_those_of_the_official_code(screen, model, tmp_path, draw, kind):
    name, folder = model
    panel = scgenept_panel(CASE, tmp_path / "panel.txt")
    options = {"heads": CONFIG["nhead"], "draw": draw, "panel": str(panel)}
    predicted = predict(screen, folder, device="cpu", seed=CONFIG["seed"], **options)
    assert list(predicted.genes) == ORDER["ensembl"]
    found = {response.condition: response.cells for response in predicted.responses}
    for condition in CONFIG["perts"]:
        same(found[condition], expected(name, condition, kind), TOLERANCE)
    assert predicted.facts["controls"] == predicted.facts["controls_available"] == CONFIG["n_ctrl"]


def test_the_draws_are_those_of_the_official_code():
    np.testing.assert_array_equal(bootstrap(CONFIG["n_ctrl"], CONFIG["seed"]), np.load(CASE / "bootstrap_idx.npy"))


def test_the_panel_may_be_the_data_that_the_model_was_tuned_on(screen, model):
    """Genes that it lacks would be attended to, and change what is predicted."""
    _, folder = model
    with_panel, without = (
        predict(screen, folder, device="cpu", seed=0, heads=CONFIG["nhead"], panel=panel)
        for panel in (str(CASE / "ref_adata.h5ad"), "")
    )
    assert list(with_panel.genes) == ORDER["ensembl"] and len(without.genes) == len(screen.genes)
    places = [screen.column_of[gene] for gene in ORDER["ensembl"]]
    first, second = next(iter(with_panel.responses)), next(iter(without.responses))
    assert np.abs(first.cells - second.cells[:, places]).max() > 1e-3
