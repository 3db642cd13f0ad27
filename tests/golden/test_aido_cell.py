"""AIDO.Cell equals what the official code computes."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from vectors import AIDO_CELL_GENES as N_GENES
from vectors import GOLDEN, aido_cell_weights, embedding, same, split_of, tokens

from cellgauge.files.split import Split
from cellgauge.models.aido_cell import Encoder

CASE = GOLDEN / "aido_cell" / "case_a"
TOLERANCE = 5e-6  # poolings and roundings are 3e-4 and more apart


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return aido_cell_weights(CASE, tmp_path_factory.mktemp("aido_cell") / "checkpoint")


def test_the_networks_input_is_that_of_the_official_code(weights, tmp_path):
    split = split_of(CASE, tmp_path / "split.h5ad")
    lines = (weights / "OS_scRNA_gene_index.19264.tsv").read_text().splitlines()[1:]
    index = {symbol: int(position) for symbol, position in (line.split("\t") for line in lines)}
    positions = np.asarray([index.get(symbol, -1) for symbol in Split.open(split).symbols])
    network = torch.nn.Module()
    network.position_embedding, network.zeros = torch.nn.Embedding(N_GENES + 2, 1), torch.zeros(1)
    encoder = Encoder(network, positions, N_GENES, pool_depth=False, round_input=False)
    with np.load(CASE / "intermediate.npz") as arrays:
        expected = np.zeros((8, N_GENES + 2), np.float32)
        expected[tuple(arrays["pre_nonzero_idx"])] = arrays["pre_nonzero_val"]
        np.testing.assert_array_equal(np.flatnonzero(arrays["mask"]), encoder._pooled)
    found = np.zeros_like(expected)
    for row, record in zip(found, tokens(encoder, split), strict=True):
        row[record.arrays[0]] = record.arrays[1]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


# a cell takes more than a second, so all eight are embedded once
@pytest.mark.parametrize(
    ("file", "n_cells", "options"),
    [("czb", 8, {}), ("embedpy", 2, {"pool_depth": True}), ("czb_bf16input", 2, {"round_input": True})],
)
def test_embeddings_are_those_of_the_official_code(weights, tmp_path, file, n_cells, options):
    split = split_of(CASE, tmp_path / "split.h5ad", rows=slice(n_cells))
    found = embedding("aido_cell", split, weights, **options)
    same(found.matrix, np.load(CASE / f"embedding_{file}.npy")[:n_cells], TOLERANCE)
    assert found.uns["matched_genes"] == 691


def test_names_without_prefix_and_a_file_of_torch(weights, tmp_path):
    shutil.copytree(weights, tmp_path / "checkpoint")
    state = load_file(tmp_path / "checkpoint" / "model.safetensors")
    torch.save(
        {name.removeprefix("bert."): t for name, t in state.items()}, tmp_path / "checkpoint" / "pytorch_model.bin"
    )
    (tmp_path / "checkpoint" / "model.safetensors").unlink()
    split = split_of(CASE, tmp_path / "split.h5ad", rows=slice(1))
    found = embedding("aido_cell", split, tmp_path / "checkpoint")
    same(found.matrix, np.load(CASE / "embedding_czb.npy")[:1], TOLERANCE)
