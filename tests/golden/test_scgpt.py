"""scGPT equals what `scgpt.tasks.embed_data` computes."""

import json
import shutil

import numpy as np
import pytest
import torch
from vectors import GOLDEN, embedding, same, split_of, tokens

from cellgauge.files.split import Split
from cellgauge.inference.checkpoints import Checkpoint
from cellgauge.models.scgpt import Encoder
from cellgauge.models.scgpt.network import load_scgpt
from cellgauge.models.scgpt.tokens import BINS

CASE = GOLDEN / "scgpt" / "case_a"
CONFIG = json.loads((CASE / "config.json").read_text())
MODES = {"full": CONFIG["max_length_full"], "short": CONFIG["max_length_short"]}
TOLERANCE = 2e-6  # typical mistakes move values by 0.03 and more


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return split_of(CASE, tmp_path_factory.mktemp("scgpt") / "case_a.h5ad")


def official(split, mode, **options):
    options = {"max_length": MODES[mode], "random_stream": "official", "seed": CONFIG["seed_run"], **options}
    return embedding("scgpt", split, CASE / "model", **options)


@pytest.mark.parametrize("mode", MODES)
def test_tokens_are_those_of_the_official_code(split, mode):
    vocabulary = json.loads((CASE / "model" / "vocab.json").read_text())
    ids = np.asarray([vocabulary.get(symbol, -1) for symbol in Split.open(split).symbols])
    np.testing.assert_array_equal(ids[ids >= 0], np.load(CASE / "gene_ids_kept.npy"))
    encoder = Encoder(1, None, ids, vocabulary["<cls>"], MODES[mode], CONFIG["seed_run"], "official")
    genes, values = (np.load(CASE / f"tokens_{kind}_{mode}.npy") for kind in ("gene_id", "value"))
    lengths = np.load(CASE / f"n_tokens_{mode}.npy")
    for cell, record in enumerate(tokens(encoder, split)):
        assert record.length == lengths[cell]
        np.testing.assert_array_equal(record.arrays[0], genes[cell, : lengths[cell]])
        np.testing.assert_array_equal(record.arrays[1][1:], values[cell, 1 : lengths[cell]])
        assert record.arrays[1][0] == 0 and values[cell, 0] == -2


@pytest.mark.parametrize("mode", MODES)
def test_embeddings_are_those_of_the_official_code(split, mode):
    found = official(split, mode)
    same(found.matrix, np.load(CASE / f"embedding_{mode}.npy"), TOLERANCE)
    assert found.uns["matched_genes"] == 599 and found.uns["unembedded"] == 0


def test_the_network_before_it_normalises():
    network = load_scgpt(Checkpoint.open(CASE / "model" / "best_model.pt"), CONFIG["nheads"])
    network.fill_tables(torch.tensor([-2.0, *range(1, BINS + 1)]))
    genes, values = (torch.from_numpy(np.load(CASE / f"tokens_{kind}_full.npy")) for kind in ("gene_id", "value"))
    mask = torch.arange(genes.shape[1]) < torch.from_numpy(np.load(CASE / "n_tokens_full.npy"))[:, None]
    rows = network.gene_rows[genes.long()] + network.value_rows[values.clamp(min=0).long()]
    same(network.transformer_encoder(rows, mask).numpy(), np.load(CASE / "cls_unnormalised_full.npy"), 5e-6)


def test_the_name_that_a_wrapper_gave_the_attention_is_known(split, tmp_path):
    shutil.copytree(CASE / "model", tmp_path / "model")
    state = torch.load(tmp_path / "model" / "best_model.pt")
    renamed = {name.replace("self_attn.Wqkv", "self_attn._impl.Wqkv"): tensor for name, tensor in state.items()}
    torch.save(renamed, tmp_path / "model" / "best_model.pt")
    options = {"max_length": MODES["full"], "random_stream": "official", "seed": CONFIG["seed_run"]}
    found = embedding("scgpt", split, tmp_path / "model", **options)
    same(found.matrix, np.load(CASE / "embedding_full.npy"), TOLERANCE)
