"""scGenePT predicts what the official class predicts, for every control and for the bootstrap of them."""

import json

import anndata
import numpy as np
import pytest
import torch
from vectors import GOLDEN, same

from cellgauge.checkpoints import Checkpoint, find_file
from cellgauge.networks.scgenept import load_scgenept

CASE = GOLDEN / "scgenept" / "case_a"
CONFIG = json.loads((CASE / "config.json").read_text())
FOLDERS = ("scgenept_go_all", "scgenept_go_c", "scgenept_ncbi+uniprot")
TOLERANCE = 1e-5  # the README allows 1e-4; typical mistakes move values by 0.017 and more


def expected(folder, condition, kind):
    return np.load(CASE / f"pred__{folder}__{condition.replace('+', '_')}__{kind}.npy")


@pytest.fixture(scope="module")
def controls():
    """Expression of the controls in the genes of the reference that the data have, and the symbols of these."""
    data = anndata.read_h5ad(CASE / "dataset.h5ad")
    order = json.loads((CASE / "gene_order.json").read_text())
    data = data[data.obs["condition"] == "ctrl", order["ensembl"]]
    return torch.from_numpy(data.X.toarray()), data.var["feature_name"].tolist()


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_network_predicts_every_control(controls, folder):
    values, symbols = controls
    path = find_file(CASE / "models" / "finetuned" / folder / "norman", "*.pt")
    network = load_scgenept(Checkpoint.open(path), torch.from_numpy(np.load(CASE / "gene_ids.npy")), CONFIG["nhead"])
    for condition in CONFIG["perts"]:
        flags = torch.tensor([int(symbol in condition.split("+")) for symbol in symbols])
        with torch.inference_mode():
            same(network(values, flags).numpy(), expected(folder, condition, "all_ctrl"), TOLERANCE)
