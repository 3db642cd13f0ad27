"""TranscriptFormer equals what the package transcriptformer 0.6.1 computes: tokens, and both ways to replace a vocabulary."""

import shutil

import numpy as np
import pytest
import torch
from vectors import GOLDEN, embedding, same, tokens, transcriptformer_split

from cellgauge.files.split import Split
from cellgauge.models.transcriptformer.tokens import Proteins, Sentences, Special

CASE = GOLDEN / "transcriptformer" / "case_a"
RELEASED = ("unknown", "[PAD]", "[START]", "[END]", "[RD]", "[CELL]", "[MASK]")
HUMAN_GENES = 60  # they come first in the vocabulary of the checkpoint
TOLERANCE = 2e-6  # the README gives 2e-5; the two ways to replace a vocabulary are 3 apart


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return transcriptformer_split(CASE, tmp_path_factory.mktemp("transcriptformer") / "split.h5ad")


def sentences(path, special):
    split = Split.open(path)
    places = Proteins.open(CASE / "checkpoint/vocabs/mus_musculus_gene.h5").indices_of(split.genes)
    return Sentences(places, special, 255, 30, {cell: np.zeros(1, dtype=int) for cell in split.cells})


@pytest.mark.parametrize(
    ("surgery", "file", "first"), [("fixed", "tokens", HUMAN_GENES), ("official", "tokens_second_run", 0)]
)
def test_tokens_are_those_of_the_official_code(split, surgery, file, first):
    special = Special.of(RELEASED, surgery)
    n_special = len(special.order)
    with np.load(CASE / f"{file}.npz") as arrays:
        expected, counts = arrays["gene_token_indices"], arrays["gene_counts"]
    for record, genes, values in zip(tokens(sentences(split, special), split), expected, counts, strict=True):
        found, clipped, _ = record.arrays
        assert found[0] == RELEASED.index("[START]") and clipped[0] == 1
        moved = np.where(found >= n_special, found + first, found)
        n = len(found) - 1
        np.testing.assert_array_equal(moved[1:], genes[:n])
        np.testing.assert_array_equal(clipped[1:], values[:n])
        assert (genes[n:] == special.padding).all() and (values[n:] == 0).all()


@pytest.mark.parametrize(
    ("options", "file", "tolerance"),
    [
        ({}, "embedding", TOLERANCE),
        ({"tokens_per_batch": 1}, "embedding", TOLERANCE),
        ({"species_files": {"mouse": "all_embeddings"}}, "embedding_with_pretrained_fixed", TOLERANCE),
        ({"surgery": "official"}, "embedding_with_pretrained_official", 1e-5),  # values are 5 times as large
    ],
)
def test_embeddings_are_those_of_the_official_code(split, options, file, tolerance):
    if "species_files" in options:
        options = {"species_files": {"Mus musculus": str(CASE / "all_embeddings/mus_musculus_gene.h5")}}
    found = embedding("transcriptformer", split, CASE / "checkpoint", **options)
    same(found.matrix, np.load(CASE / f"{file}.npy"), tolerance)
    assert found.uns["matched_genes"] == 380 and found.uns["cells_of_unknown_assay"] == 13


def test_another_species_is_read_beside_the_checkpoint(split, tmp_path):
    """Where the checkpoint has no file of the species, that of all_embeddings is equal: its vectors are the same."""
    copy = shutil.copytree(CASE, tmp_path / "case") / "checkpoint"
    (copy / "vocabs/mus_musculus_gene.h5").unlink()
    found = embedding("transcriptformer", split, tmp_path / "case", checkpoint="checkpoint")
    same(found.matrix, np.load(CASE / "embedding.npy"), TOLERANCE)
    assert found.uns["proteins"] == "all_embeddings/mus_musculus_gene.h5"


def test_the_checkpoint_holds_the_vectors_of_the_files():
    """So a species' own file serves in the place of its rows, and the other species need not be read."""
    table = torch.load(CASE / "checkpoint/model_weights.pt")["gene_embeddings.embedding.weight"].numpy()
    mouse = Proteins.open(CASE / "checkpoint/vocabs/mus_musculus_gene.h5")
    vectors = mouse.vectors(np.arange(len(mouse.index)), table.shape[1])
    np.testing.assert_array_equal(table[len(RELEASED) + HUMAN_GENES :], vectors)


def test_bf16_is_near(split):
    found = embedding("transcriptformer", split, CASE / "checkpoint", precision="bf16")
    same(found.matrix, np.load(CASE / "embedding.npy"), 0.05)
