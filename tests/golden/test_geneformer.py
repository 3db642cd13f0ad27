"""Geneformer equals what the official tokeniser and embedding extractor compute."""

import json

import numpy as np
import pytest
from vectors import GOLDEN, embedding, geneformer_split, same, tokens

from cellgauge.files.split import Split
from cellgauge.models.geneformer.tokens import Ranker, read_dictionaries

CASE = GOLDEN / "geneformer" / "case_a"
CONFIG = json.loads((CASE / "config.json").read_text())
TOLERANCE = 2e-6  # the README allows 2e-5; typical mistakes move values by much more


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return geneformer_split(CASE, tmp_path_factory.mktemp("geneformer") / "case_a.h5ad")


def test_tokens_are_those_of_the_official_code(split):
    ranker = Ranker(Split.open(split), read_dictionaries(CASE), CONFIG["model_input_size"])
    expected = json.loads((CASE / "input_ids.json").read_text())
    for record, ids in zip(tokens(ranker, split), expected, strict=True):
        assert record.arrays[0].tolist() == ids and record.length == len(ids)


@pytest.mark.parametrize("pooling", ["cell", "cls"])
def test_embeddings_are_those_of_the_official_code(split, pooling):
    found = embedding("geneformer", split, CASE, pooling=pooling)
    same(found.matrix, np.load(CASE / f"embedding_{pooling}.npy"), TOLERANCE)
    assert found.uns["unembedded"] == 0


def test_padding_changes_nothing(split):
    """One batch of all cells: the shortest has 3 tokens of 192."""
    found = embedding("geneformer", split, CASE, tokens_per_batch=10**9)
    same(found.matrix, np.load(CASE / "embedding_cell.npy"), TOLERANCE)


def test_other_layers_are_others(split):
    official = np.load(CASE / "embedding_cell.npy")
    for layer in (0, -2):
        assert np.abs(embedding("geneformer", split, CASE, layer=layer).matrix - official).max() > 0.01
