"""What `make bench-models` calls official is: the paths of bench/official equal the vectors of the official codes."""

import importlib
import json

import anndata
import numpy as np
import pytest
from test_aido_cell import weights as aido_cell_weights  # noqa: F401
from test_geneformer import split as geneformer_split  # noqa: F401
from test_transcriptformer import split as transcriptformer_split  # noqa: F401
from vectors import GOLDEN, same, split_of

from cellgauge.plan.sources import SCRIPTS

pytestmark = pytest.mark.filterwarnings("ignore:.*[Nn]ested.tensor")


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS.parents[1] / "bench")


def official(family, split, weights, **options):
    return importlib.import_module(f"official.{family}").embed(split, weights, **options)


@pytest.mark.parametrize("mode", ["full", "short"])
def test_scgpt(tmp_path, mode):
    case = GOLDEN / "scgpt" / "case_a"
    config = json.loads((case / "config.json").read_text())
    options = {"seed": config["seed_run"], "batch_size": config["batch"], "max_length": config[f"max_length_{mode}"]}
    found = official("scgpt", split_of(case, tmp_path / "split.h5ad"), case / "model", **options)
    same(found, np.load(case / f"embedding_{mode}.npy"), 2e-6)


@pytest.mark.parametrize(("batched", "file"), [(True, "embedding"), (False, "embedding_bs1")])
def test_uce(tmp_path, batched, file):
    case = GOLDEN / "uce" / "case_a"
    config = json.loads((case / "config.json").read_text())
    found = official(
        "uce",
        split_of(case, tmp_path / "split.h5ad"),
        case,
        seed=config["np_seed"],
        heads=config["nhead"],
        sample_size=config["sample_size"],
        batch_size=config["batch_size"] if batched else 1,
        chromosome_offset=config["CHROM_TOKEN_OFFSET"],
    )
    cells = anndata.read_h5ad(case / "input.h5ad").obs_names
    assert cells[np.isnan(found[:, 0])].tolist() == [config["dropped_cell"]]
    same(found[np.isfinite(found[:, 0])], np.load(case / f"{file}.npy"), 2e-6)


def test_aido_cell(tmp_path, aido_cell_weights):  # noqa: F811
    case = GOLDEN / "aido_cell" / "case_a"
    split = split_of(case, tmp_path / "split.h5ad", rows=slice(1))
    found = official("aido_cell", split, aido_cell_weights, unread_mask=False)  # it is not read, and takes 3 GB
    same(found, np.load(case / "embedding_czb.npy")[:1], 5e-6)


@pytest.mark.parametrize("mode", ["cell", "cls"])
def test_geneformer(geneformer_split, mode):  # noqa: F811
    case = GOLDEN / "geneformer" / "case_a"
    found = official("geneformer", geneformer_split, case, mode=mode)
    same(found, np.load(case / f"embedding_{mode}.npy"), 2e-6)


def test_transcriptformer(transcriptformer_split):  # noqa: F811
    case = GOLDEN / "transcriptformer" / "case_a"
    found = official("transcriptformer", transcriptformer_split, case / "checkpoint")
    same(found, np.load(case / "embedding.npy"), 2e-6)
