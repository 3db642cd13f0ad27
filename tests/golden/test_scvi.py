"""scVI equals what scvi-tools computes with a model that was saved."""

import json

import numpy as np
import pytest
from vectors import GOLDEN, embedding, same, split_of, tokens

from cellgauge.files.split import Split
from cellgauge.models.scvi import Encoder, _read_model
from cellgauge.models.scvi.network import load_scvi

CASE = GOLDEN / "scvi" / "case_a"
CONFIG = json.loads((CASE / "config.json").read_text())
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return split_of(CASE, tmp_path_factory.mktemp("scvi") / "case_a.h5ad")


def test_the_model_is_read_without_running_anything_of_it():
    checkpoint, genes = _read_model(CASE / "scvi.model" / "model.pt")
    assert genes == json.loads((CASE / "reference_var_names.json").read_text())
    assert len(checkpoint.tensors) > 40


def test_counts_are_ordered_as_the_model_wants_them(split):
    checkpoint, genes = _read_model(CASE / "scvi.model" / "model.pt")
    place = {gene: position for position, gene in enumerate(genes)}
    places = np.asarray([place.get(gene, -1) for gene in Split.open(split).genes])
    encoder = Encoder(load_scvi(checkpoint), places, len(genes))
    (counts,) = encoder.collate(tokens(encoder, split))
    np.testing.assert_array_equal(counts, np.load(CASE / "prepared_counts.npy"))


def test_embeddings_are_those_of_the_official_code(split):
    found = embedding("scvi", split, CASE / "scvi.model")
    same(found.matrix, np.load(CASE / "embedding_qzm.npy"), TOLERANCE)
    assert found.uns["missing_genes"] == CONFIG["n_missing"] and found.uns["unembedded"] == 0
    assert found.uns["matched_genes"] == CONFIG["n_ref_genes"] - CONFIG["n_missing"]
