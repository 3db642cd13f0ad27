"""UCE equals what snap-stanford/UCE computes: sentences, both kinds of padding, trained and added species."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from vectors import GOLDEN, embedding, same, split_of, tokens

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.organisms import organism
from cellgauge.files.split import Split
from cellgauge.models.uce.new_species import build_species
from cellgauge.models.uce.tokens import Sentences, read_species

CASES = ("case_a", "case_c")
TOLERANCE = 2e-6  # additive and hidden padding are 3e-4 apart in case_a


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    folder = GOLDEN / "uce" / request.param
    config = json.loads((folder / "config.json").read_text())
    split = split_of(folder, tmp_path_factory.mktemp("uce") / "split.h5ad", config["species"])
    with np.load(folder / "intermediate.npz") as arrays:
        return folder, config, split, dict(arrays)


def options(config, **changes):
    return {
        "seed": config["np_seed"],
        "heads": config["nhead"],
        "sample_size": config["sample_size"],
        "batch_size": config["batch_size"],
        "min_cells": 10,
        "min_genes": 25,
        "random_stream": "official",
        **changes,
    }


def test_sentences_are_those_of_the_official_code(case):
    folder, config, path, expected = case
    split = Split.open(path)
    genes = read_species(folder / "model_files", organism(config["species"]))
    places = genes.loci_of(split.symbols)
    kept = np.flatnonzero(split.counts().getnnz(axis=0) >= 10)
    assert genes.n_chromosomes == config["n_chrom_rows"]
    sentences = Sentences(
        places, config["CHROM_TOKEN_OFFSET"], kept, config["sample_size"], 25, config["np_seed"], "official"
    )
    np.testing.assert_array_equal(split.symbols[sentences.columns], expected["kept_genes"])
    np.testing.assert_array_equal(sentences.tokens, expected["gene_token_idx"])
    np.testing.assert_array_equal(places[sentences.columns, 1], expected["gene_chrom_code"])
    np.testing.assert_array_equal(places[sentences.columns, 2], expected["gene_start"])
    records = tokens(sentences, path)
    dropped = np.flatnonzero([record is None for record in records])
    assert split.cells[dropped].tolist() == [config["dropped_cell"]]
    found = [record for record in records if record is not None]
    for record, sentence, length in zip(found, expected["tokens"], expected["seq_len"], strict=True):
        assert record.length == length
        np.testing.assert_array_equal(record.arrays[0], sentence[:length])


@pytest.mark.parametrize(("padding", "file"), [("additive", "embedding"), ("hidden", "embedding_bs1")])
def test_embeddings_are_those_of_the_official_code(case, padding, file):
    folder, config, path, expected = case
    found = embedding("uce", path, folder, **options(config, padding=padding))
    kept = np.isin(found.cells.astype(str), expected["kept_cells"])
    same(found.matrix[kept], np.load(folder / f"{file}.npy"), TOLERANCE)
    assert np.isnan(found.matrix[~kept]).all() and found.uns["unembedded"] == 1


def test_hidden_padding_in_one_batch_equals_cells_alone(case):
    """Lengths differ, so most cells are padded."""
    folder, config, path, expected = case
    found = embedding("uce", path, folder, **options(config, tokens_per_batch=10**9))
    kept = np.isin(found.cells.astype(str), expected["kept_cells"])
    same(found.matrix[kept], np.load(folder / "embedding_bs1.npy"), TOLERANCE)


def test_heads_are_asked_for_where_they_cannot_be_those_of_the_released_models(case):
    folder, config, path, _ = case
    with pytest.raises(CellgaugeError, match=r"number of attention heads is unknown: its width 40 .* set `heads`"):
        embedding("uce", path, folder, **options(config, heads=None))


@pytest.mark.parametrize("padding", ["additive", "hidden"])
def test_bf16_is_near(case, padding):
    folder, config, path, _ = case
    exact, found = (
        embedding("uce", path, folder, **options(config, padding=padding, precision=p)) for p in ("fp32", "bf16")
    )
    embedded = ~np.isnan(exact.matrix[:, 0])
    same(found.matrix[embedded], exact.matrix[embedded], 0.05)


def test_an_added_species_beside_the_trained_ones(tmp_path):
    """Its vectors come from its own folder; the checkpoint's table has other rows."""
    folder = GOLDEN / "uce" / "case_c"
    config = json.loads((folder / "config.json").read_text())
    split = split_of(folder, tmp_path / "split.h5ad", "chicken")
    state = torch.load(folder / "tiny_uce.torch")
    state["pe_embedding.weight"] = torch.randn(1000, config["token_dim"])
    torch.save(state, tmp_path / "tiny_uce.torch")
    shutil.copytree(GOLDEN / "uce" / "case_a" / "model_files", tmp_path / "model_files")
    own = options(config, species_files={"Gallus gallus": str(folder / "model_files")})
    found = embedding("uce", split, tmp_path, **own)
    embedded = ~np.isnan(found.matrix[:, 0])
    same(found.matrix[embedded], np.load(folder / "embedding_bs1.npy"), TOLERANCE)


def test_files_of_an_added_species_are_those_of_the_official_recipe(tmp_path):
    """From protein vectors and headers of FASTA; the chromosomes' vectors are drawn from the taxon."""
    folder = GOLDEN / "uce" / "case_c"
    config, files = json.loads((folder / "config.json").read_text()), folder / "model_files"
    with (files / "species_chrom.csv").open() as file:
        headers = [
            f">P pep primary_assembly:GRCg7b:{row['chromosome']}:{row['start']}:{int(row['start']) + 9}:1 gene:G"
            f" gene_symbol:{row['gene_symbol']}\nMA\n"
            for row in csv.DictReader(file)
        ]
    (tmp_path / "pep.fa").write_text("".join(headers))
    proteins = files / "protein_embeddings/Gallus_gallus_ESM2.pt"
    built = tmp_path / "chicken"
    build_species(folder / "tiny_uce.torch", proteins, tmp_path / "pep.fa", organism("chicken"), built)
    assert torch.equal(torch.load(built / "all_tokens.torch"), torch.load(files / "all_tokens.torch"))
    split = split_of(folder, tmp_path / "split.h5ad", "chicken")
    shutil.copy(folder / "tiny_uce.torch", tmp_path)
    found = embedding("uce", split, tmp_path, **options(config, species_files={"chicken": str(built)}))
    embedded = ~np.isnan(found.matrix[:, 0])
    same(found.matrix[embedded], np.load(folder / "embedding_bs1.npy"), TOLERANCE)
