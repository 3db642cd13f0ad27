"""Every model with a checkpoint, on tiny ones: rows, reproducibility, invalid input. Numbers: tests/golden."""

import json
import pickle
import re
import shutil
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import anndata
import h5py
import made_checkpoints
import numpy as np
import pytest
import tiny
import torch
from made_checkpoints import ENSEMBL, HUMAN, MAKE
from scipy.sparse import csr_matrix, hstack
from vectors import embedding

from cellgauge.core import spawned
from cellgauge.core.errors import CellgaugeError
from cellgauge.files.embedding import Embedding
from cellgauge.files.split import Split
from cellgauge.inference import checkpoints as checkpoint_files
from cellgauge.inference.several_splits import embed_several
from cellgauge.models.base import embed_files, traits
from cellgauge.plan.sources import SCRIPTS

MAIN_FILE = {
    "scgpt": "best_model.pt",
    "uce": "4layer_model.torch",
    "aido_cell": "model.safetensors",
    "geneformer": "model.safetensors",
    "transcriptformer": "model_weights.pt",
    "scvi": "model.pt",
}
A_TENSOR = {
    "scgpt": "transformer_encoder.layers.1.norm1.bias",
    "uce": "transformer_encoder.layers.1.norm1.bias",
    "aido_cell": "bert.encoder.layer.1.ln.bias",
    "geneformer": "bert.encoder.layer.2.output.LayerNorm.bias",
    "transcriptformer": "transformer_encoder.encoder_layers.1.norm1.bias",
    "scvi": "z_encoder.encoder.fc_layers.1.1.bias",
}
every_family = pytest.mark.parametrize("family", MAKE)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    return {family: make(folder / family) for family, make in MAKE.items()}


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return tiny.split_file(tmp_path_factory.mktemp("tiny"), n_cells=90)


def changed(split, target, change):
    """Write a copy of a split whose AnnData `change` edits; return its path."""
    data = change(anndata.read_h5ad(split)).copy()
    data.write_h5ad(target)
    return target


@every_family
def test_one_row_per_cell_with_provenance(checkpoints, split, family):
    result = embedding(family, split, checkpoints[family])
    assert np.isfinite(result.matrix).all() and len(result.matrix) == 90 and result.matrix.std(axis=0).min() > 0
    uns = result.uns
    assert (
        uns["matched_genes"] == 55 and uns["unembedded"] == 0 and uns["precision"] == "fp32" and uns["device"] == "cpu"
    )
    assert len(uns["revision"]) == 71 and uns["revision"].startswith("sha256:")
    assert {"gpu_seconds", "peak_gpu_memory_mb", "cells_per_second", "wall_seconds", "peak_memory_mb"} <= set(uns)
    assert "torch" in json.loads(uns["versions"])


@every_family
def test_rows_do_not_depend_on_batches_other_cells_or_their_order(checkpoints, split, tmp_path, family):
    whole = embedding(family, split, checkpoints[family])
    one_by_one = embedding(family, split, checkpoints[family], tokens_per_batch=1).matrix
    np.testing.assert_allclose(one_by_one, whole.matrix, atol=1e-5)
    order = np.random.default_rng(0).permutation(90)[:40]
    part = embedding(family, changed(split, tmp_path / "part.h5ad", lambda data: data[order]), checkpoints[family])
    np.testing.assert_allclose(part.matrix, whole.matrix[order], atol=1e-5)


@pytest.mark.skipif(not spawned.AVAILABLE, reason="processes are spawned on Linux alone")
@every_family
def test_cells_that_a_process_prepares_get_the_same_rows(checkpoints, split, family, monkeypatch):
    expected = embedding(family, split, checkpoints[family]).matrix
    started = []
    start = spawned.Spawned.__init__
    monkeypatch.setattr(spawned.Spawned, "__init__", lambda *arguments: (started.append(1), start(*arguments))[1])
    monkeypatch.setattr("cellgauge.inference.run.default_processes", lambda device: 1)
    np.testing.assert_array_equal(embedding(family, split, checkpoints[family]).matrix, expected)
    assert started


@every_family
def test_the_seed_changes_stochastic_models_alone(checkpoints, split, family):
    first, again, other = (embedding(family, split, checkpoints[family], seed=seed).matrix for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.array_equal(first, other) != traits(family).stochastic


@every_family
def test_a_cell_without_a_known_gene_is_a_nan_row_and_moves_no_other(checkpoints, split, tmp_path, family):
    def empty(data):
        counts = data.X.toarray()
        counts[3, 5:], counts[7] = 0, 0  # the first five genes are in no vocabulary
        data.X = csr_matrix(counts)
        return data

    whole = embedding(family, split, checkpoints[family]).matrix
    result = embedding(family, changed(split, tmp_path / "s.h5ad", empty), checkpoints[family])
    assert np.isnan(result.matrix[[3, 7]]).all() and result.uns["unembedded"] == 2
    others = np.delete(np.arange(90), [3, 7])
    np.testing.assert_allclose(result.matrix[others], whole[others], atol=1e-5)


@every_family
def test_bf16_is_near_and_says_how_near(checkpoints, split, family):
    exact = embedding(family, split, checkpoints[family]).matrix
    result = embedding(family, split, checkpoints[family], precision="bf16")
    assert 0 < np.abs(result.matrix - exact).max() < 0.3 and result.uns["precision"] == "bf16"
    assert 0 < result.uns["fp32_max_deviation"] < 0.3 and result.uns["fp32_min_cosine"] > 0.99


@every_family
def test_too_few_known_genes_stop_the_job(checkpoints, split, tmp_path, family):
    def strange(data):
        data.var["feature_name"] = [f"X{i}" if i < 40 else f"GENE{i}" for i in range(60)]
        data.var_names = [f"X{i}" if i < 40 else name for i, name in enumerate(data.var_names)]
        return data

    path = changed(split, tmp_path / "s.h5ad", strange)
    with pytest.raises(CellgaugeError, match=r"split human of tiny: 20 of \d+ genes that could match are in"):
        embedding(family, path, checkpoints[family])
    assert embedding(family, path, checkpoints[family], min_matched_genes=0.3).uns["matched_genes"] == 20


@pytest.mark.parametrize("family", ["geneformer", "scvi", "transcriptformer"])
def test_versions_of_ensembl_ids_change_nothing(checkpoints, split, tmp_path, family):
    def versions(data):
        data.var_names = [f"{name}.{i}" for i, name in enumerate(data.var_names)]
        return data

    result = embedding(family, changed(split, tmp_path / "s.h5ad", versions), checkpoints[family])
    np.testing.assert_array_equal(result.matrix, embedding(family, split, checkpoints[family]).matrix)


# --- invalid checkpoints ---------------------------------------------------------------------------------------------


@every_family
def test_no_checkpoint(split, tmp_path, family):
    with pytest.raises(CellgaugeError, match="needs a checkpoint"):
        embedding(family, split, None)
    with pytest.raises(CellgaugeError, match="no such folder"):
        embedding(family, split, tmp_path / "nothing")
    with pytest.raises(CellgaugeError, match=r"no file .* \(found: nothing\)"):
        (tmp_path / "empty").mkdir()
        embedding(family, split, tmp_path / "empty")


@every_family
def test_every_file_is_asked_for_by_name(checkpoints, split, tmp_path, family):
    files = [path.relative_to(checkpoints[family]) for path in checkpoints[family].rglob("*") if path.is_file()]
    for file in files:
        if "Mus_musculus" in file.name:
            continue
        copy = shutil.copytree(checkpoints[family], tmp_path / file.name / "copy")
        (copy / file).unlink()
        with pytest.raises(CellgaugeError, match=r"no file .*\(found: ") as caught:
            embedding(family, split, copy)
        named = re.search(r"no file (.+?) \(found", str(caught.value))[1]
        assert any(file.match(name) for name in re.split(r" or | in ", named)), (file, named)


@pytest.mark.parametrize(("family", "other"), list(permutations(MAKE, 2)))
def test_the_checkpoint_of_another_model_is_refused(checkpoints, split, tmp_path, family, other):
    copy = shutil.copytree(checkpoints[family], tmp_path / "copy")
    tensors = _tensors(checkpoints[other] / MAIN_FILE[other])
    _write(copy / MAIN_FILE[family], tensors)
    with pytest.raises(
        CellgaugeError, match=rf"{MAIN_FILE[family]}: (has no tensor '[\w.]+'|no layer) .*is this the right model\?"
    ):
        embedding(family, split, copy)


@every_family
@pytest.mark.parametrize("fault", ["missing", "extra", "shape"])
def test_tensors_are_loaded_strictly(checkpoints, split, tmp_path, family, fault):
    copy = shutil.copytree(checkpoints[family], tmp_path / "copy")
    tensors = dict(_tensors(copy / MAIN_FILE[family]))
    name = A_TENSOR[family]
    if fault == "missing":
        del tensors[name]
    elif fault == "extra":
        name = f"{name.removesuffix('bias')}gain"
        tensors[name] = torch.ones(2)
    else:
        tensors[name] = torch.ones(3)
    _write(copy / MAIN_FILE[family], tensors)
    with pytest.raises(CellgaugeError) as caught:
        embedding(family, split, copy)
    assert f"{name.removeprefix('bert.')}'" in str(caught.value) and MAIN_FILE[family] in str(caught.value)


@every_family
@pytest.mark.parametrize("damage", ["truncated", "corrupt", "bomb"])
def test_a_damaged_checkpoint_is_one_sentence_and_leaves_nothing_behind(checkpoints, split, tmp_path, family, damage):
    copy = shutil.copytree(checkpoints[family], tmp_path / "copy")
    path = copy / MAIN_FILE[family]
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "corrupt":
        path.write_bytes(b"\xff" * 64 + content[64:-64] + b"\xff" * 64)
    else:
        trace = tmp_path / "trace"
        torch.save({"a": Bomb(trace)}, path)
    output = tmp_path / "out" / "embedding.h5ad"
    command = [
        sys.executable,
        SCRIPTS / "embed_cells.py",
        family,
        "--split",
        split,
        "--weights",
        copy,
        "--output",
        output,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and last.startswith(f"error: {path}: ") and "Traceback" not in done.stderr
    pickled = not path.name.endswith(".safetensors")
    assert ("refused, it names posix.mkdir" if damage == "bomb" and pickled else "corrupt") in last
    assert not output.exists() and not (output.parent.exists() and list(output.parent.iterdir()))
    assert not (tmp_path / "trace").exists()


class Bomb:
    """Creates a folder if it is unpickled."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        import os

        return os.mkdir, (self.trace,)


def _tensors(path: Path):
    from cellgauge.inference.checkpoints import Checkpoint

    if path.name != "model.pt":
        return Checkpoint.open(path).tensors
    state = torch.load(path, weights_only=False)["model_state_dict"]
    return {name.replace("Layer ", ""): value for name, value in state.items() if isinstance(value, torch.Tensor)}


def _write(path: Path, tensors):
    from safetensors.torch import save_file

    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    if path.name == "model.pt":
        content = torch.load(path, weights_only=False)
        torch.save({**content, "model_state_dict": tensors}, path)
        return
    path.unlink()
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)


OPTIONS = [
    *((family, "precision") for family in MAKE),
    ("scgpt", "random_stream"),
    ("uce", "random_stream"),
    ("uce", "padding"),
    ("geneformer", "pooling"),
    ("transcriptformer", "surgery"),
]


@pytest.mark.parametrize(("family", "option"), OPTIONS)
def test_options_out_of_range_are_one_sentence(checkpoints, split, family, option):
    with pytest.raises(CellgaugeError, match=r"must be .*, not 'wrong'"):
        embedding(family, split, checkpoints[family], **{option: "wrong"})


# --- scGPT -----------------------------------------------------------------------------------------------------------


def edit_json(path, **changes):
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        (
            "args.json",
            {"nheads": None},
            r"args\.json: not the settings of an scGPT with continuous values \(nheads None",
        ),
        ("args.json", {"input_emb_style": "category"}, "input_emb_style 'category'"),
        ("args.json", {"pad_value": "x"}, "pad_value 'x'"),
        ("args.json", {"nheads": 5}, "its width 16 is not a multiple of the 5 attention heads"),
        ("vocab.json", {"<cls>": None}, r"not a vocabulary of scGPT \(it lacks '<cls>'\)"),
        ("vocab.json", {"GENE7": "7"}, "gives 'GENE7' the id '7'"),
        ("vocab.json", {"GENE7": 500}, "vocab.json has ids beyond the 58 tokens of best_model.pt"),
    ],
)
def test_scgpt_settings_that_do_not_fit(checkpoints, split, tmp_path, file, changes, words):
    copy = shutil.copytree(checkpoints["scgpt"], tmp_path / "copy")
    edit_json(copy / file, **changes)
    with pytest.raises(CellgaugeError, match=words):
        embedding("scgpt", split, copy)


def test_scgpt_keeps_columns_with_one_symbol_as_tokens_of_their_own(checkpoints, split, tmp_path):
    def twice(data):
        more = data[:, 10:11].copy()
        more.var_names = ["again"]
        joined = anndata.concat([data, more], axis="var", merge="first")
        joined.uns = data.uns
        return joined

    whole = embedding("scgpt", split, checkpoints["scgpt"], max_length=10**6).matrix
    path = changed(split, tmp_path / "s.h5ad", twice)
    result = embedding("scgpt", path, checkpoints["scgpt"], max_length=10**6)
    expressed = Split.open(split).counts()[:, 10].toarray().ravel() > 0
    assert result.uns["matched_genes"] == 56
    assert np.allclose(result.matrix[~expressed], whole[~expressed], atol=1e-5)
    assert (np.abs(result.matrix - whole)[expressed].max(axis=1) > 1e-4).all()


def test_scgpt_ranks_so_a_scaling_of_cells_changes_nothing(checkpoints, split, tmp_path):
    def scaled(data):
        data.X = csr_matrix(data.X.multiply(np.linspace(1, 9, 90)[:, None]).log1p(), dtype=np.float32)
        return data

    path = changed(split, tmp_path / "s.h5ad", scaled)
    result, whole = (embedding("scgpt", s, checkpoints["scgpt"]).matrix for s in (path, split))
    np.testing.assert_allclose(result, whole, atol=1e-5)


def test_scgpt_needs_room_for_a_gene(checkpoints, split):
    with pytest.raises(CellgaugeError, match="max_length must be at least 2, not 1"):
        embedding("scgpt", split, checkpoints["scgpt"], max_length=1)


# --- UCE -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mouse(tmp_path_factory):
    return tiny.split_file(tmp_path_factory.mktemp("mouse"), organism="mouse", n_cells=30)


def test_uce_takes_the_species_of_the_split_or_of_the_option(checkpoints, mouse):
    default = embedding("uce", mouse, checkpoints["uce"])
    assert default.uns["species"] == "mouse" and default.uns["matched_genes"] == 40
    as_human = embedding("uce", mouse, checkpoints["uce"], species="human")
    assert as_human.uns["species"] == "human" and as_human.uns["matched_genes"] == 55  # matched in capitals
    assert not np.allclose(default.matrix, as_human.matrix, atol=1e-3)


def test_uce_says_which_species_its_files_know(checkpoints, mouse):
    with pytest.raises(
        CellgaugeError, match=r"its files have human, mouse, not gorilla; name files .* `species_files`"
    ):
        embedding("uce", mouse, checkpoints["uce"], species="Gorilla gorilla")


def test_uce_finds_a_species_under_its_scientific_name(tmp_path, mouse):
    folder = made_checkpoints.uce(tmp_path / "uce", {"macaca_mulatta": [f"GENE{i}" for i in range(60)]})
    assert embedding("uce", mouse, folder, species="rhesus_macaque").uns["species"] == "macaca_mulatta"


def test_uce_leaves_out_genes_of_few_cells_then_cells_of_few_genes(checkpoints, split):
    counts = Split.open(split).counts()
    filtered = counts[:, counts.getnnz(axis=0) >= 70]
    few = filtered.getnnz(axis=1) < 12
    assert 0 < few.sum() < 90
    result = embedding("uce", split, checkpoints["uce"], min_cells=70, min_genes=12).matrix
    np.testing.assert_array_equal(np.isnan(result[:, 0]), few)


def test_uce_additive_padding_depends_on_the_batch_and_hidden_does_not(checkpoints, split):
    hidden = [embedding("uce", split, checkpoints["uce"], batch_size=size).matrix for size in (1, 30)]
    np.testing.assert_allclose(*hidden, atol=1e-5)
    alone, together = (
        embedding("uce", split, checkpoints["uce"], padding="additive", sample_size=8, batch_size=size).matrix
        for size in (1, 30)
    )
    np.testing.assert_allclose(alone, embedding("uce", split, checkpoints["uce"], sample_size=8).matrix, atol=1e-5)
    assert np.abs(alone - together).max() > 1e-4


def test_uce_genes_without_a_place_are_unknown_and_the_first_of_two_places_counts(checkpoints, split, tmp_path):
    copy = shutil.copytree(checkpoints["uce"], tmp_path / "copy")
    path = copy / "model_files" / "species_chrom.csv"
    lines = path.read_text().splitlines()
    dropped = next(line for line in lines if line.startswith("GENE20,"))
    path.write_text("\n".join([line for line in lines if line != dropped] + ["GENE21,1,5,human"]) + "\n")
    assert embedding("uce", split, copy).uns["matched_genes"] == 54


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heads": 5}, "its width 64 is not a multiple of the 5 attention heads"),
        ({"sample_size": 1531}, r"a cell of 15\d\d tokens is longer than the network's 1536 positions"),
        ({"checkpoint": "33l.torch"}, r"no file 33l\.torch \(found: 4layer_model\.torch, model_files\)"),
        ({"species_files": {"human": "/nowhere"}}, r"no file species_offsets\.pkl"),
    ],
)
def test_uce_options_that_do_not_fit(checkpoints, split, options, words):
    with pytest.raises(CellgaugeError, match=words):
        embedding("uce", split, checkpoints["uce"], **options)


def test_uce_asks_which_checkpoint_and_files_that_do_not_belong_together_are_refused(checkpoints, split, tmp_path):
    copy = shutil.copytree(checkpoints["uce"], tmp_path / "copy")
    tensors = dict(_tensors(copy / "4layer_model.torch"))
    tensors["pe_embedding.weight"] = torch.ones(90, 10)
    torch.save(tensors, copy / "33l.torch")
    with pytest.raises(CellgaugeError, match=r"several files match \*\.torch: 33l\.torch, 4layer_model\.torch;"):
        embedding("uce", split, copy)
    assert embedding("uce", split, copy, checkpoint="4layer_model.torch").uns["unembedded"] == 0
    tensors["pe_embedding.weight"] = torch.ones(50, 10)
    torch.save(tensors, copy / "33l.torch")
    with pytest.raises(CellgaugeError, match="the files and the checkpoint do not belong together"):
        embedding("uce", split, copy, checkpoint="33l.torch")


# --- AIDO.Cell -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"norm": "RMSNorm"}, {"bias": False}])
def test_aido_cell_settings_of_other_sizes(split, tmp_path, changes):
    folder = made_checkpoints.aido_cell(tmp_path / "aido", HUMAN, **changes)
    assert np.isfinite(embedding("aido_cell", split, folder).matrix).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_attention_heads": None}, "not the settings of an AIDO.Cell"),
        ({"num_attention_heads": 3}, "its width 16 is not a multiple of the 3 attention heads"),
        ({"normalization_type": "BatchNorm"}, "normalization_type 'BatchNorm'"),
        ({"position_embedding_type": "rope"}, "position_embedding_type is 'rope', AIDO.Cell's is 'absolute'"),
        ({"normalization_type": "RMSNorm"}, r"no tensor 'encoder\.layer\.0\.attention\.ln\.bias'"),
        ({"add_linear_bias": False}, r"no tensor 'encoder\.layer\.0\.\S+\.bias'"),
    ],
)
def test_aido_cell_settings_that_do_not_fit(checkpoints, split, tmp_path, changes, words):
    copy = shutil.copytree(checkpoints["aido_cell"], tmp_path / "copy")
    edit_json(copy / "config.json", **changes)
    with pytest.raises(CellgaugeError, match=words):
        embedding("aido_cell", split, copy)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gene_name\tindex\nA\t0\nB\t1\n", "the network has 59 positions, but the list has 2 genes"),
        ("gene_name\tindex\nA\t0\nB\t2\n", "the genes are not numbered 0, 1, 2"),
        ("<html>\n<body>\n", "not AIDO.Cell's list of genes"),
    ],
)
def test_aido_cell_lists_that_do_not_fit(checkpoints, split, tmp_path, text, words):
    copy = shutil.copytree(checkpoints["aido_cell"], tmp_path / "copy")
    (copy / "OS_scRNA_gene_index.19264.tsv").write_text(text)
    with pytest.raises(CellgaugeError, match=words):
        embedding("aido_cell", split, copy)


def test_aido_cell_takes_the_last_column_of_a_symbol_and_counts_depth_over_it_alone(checkpoints, split, tmp_path):
    def twice(data):
        counts = hstack([data.X[:, 10:11] * 5, data.X]).tocsr()
        var = data.var.iloc[[10, *range(60)]].copy()
        var.index = [f"g{i}" for i in range(61)]
        return anndata.AnnData(counts, data.obs, var, uns=data.uns)

    result = embedding("aido_cell", changed(split, tmp_path / "s.h5ad", twice), checkpoints["aido_cell"])
    np.testing.assert_allclose(result.matrix, embedding("aido_cell", split, checkpoints["aido_cell"]).matrix, atol=1e-5)


def silent(data):
    """Return cells in which two genes have no counts."""
    counts = data.X.toarray()
    counts[:, [30, 31]] = 0
    data.X = csr_matrix(counts)
    return data


def test_aido_cell_lets_absent_genes_take_part_as_zeros_and_averages_the_others(checkpoints, split, tmp_path):
    """Genes without counts that are left out change what is averaged and nothing else: their contributions add up."""
    path = changed(split, tmp_path / "silent.h5ad", silent)

    def sums(*left_out):
        rest = np.setdiff1d(np.arange(60), left_out)
        part = changed(path, tmp_path / "part.h5ad", lambda data: data[:, rest])
        return embedding("aido_cell", part, checkpoints["aido_cell"]).matrix * (55 - len(left_out))

    np.testing.assert_allclose(sums(30, 31), sums(30) + sums(31) - sums(), atol=1e-4)
    assert np.abs(sums(30) - sums(31)).max() > 0.1


# --- Geneformer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"model_type": "gpt2"},
            r"config\.json: not the settings of a BERT such as Geneformer's \(model_type 'gpt2'\)",
        ),
        ({"hidden_size": "16"}, "hidden_size '16'"),
        ({"num_attention_heads": 3}, "its width 16 is not a multiple of the 3 attention heads"),
        ({"num_hidden_layers": 2}, r"no tensor 'bert\.encoder\.layer\.2\.\S+'"),
        ({"num_hidden_layers": 4}, r"has no tensor 'bert\.encoder\.layer\.3\.\S+'"),
        ({"vocab_size": 50}, r"'bert\.embeddings\.word_embeddings\.weight' has shape \(59, 16\)"),
    ],
)
def test_geneformer_settings_that_do_not_fit(checkpoints, split, tmp_path, changes, words):
    copy = shutil.copytree(checkpoints["geneformer"], tmp_path / "copy")
    edit_json(copy / "config.json", **changes)
    with pytest.raises(CellgaugeError, match=words):
        embedding("geneformer", split, copy)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            "token_dictionary",
            {"<cls>": None},
            r"not the dictionary of a Geneformer with special tokens \(it lacks <cls>\)",
        ),
        ("token_dictionary", {ENSEMBL[9]: 500}, "has token ids up to 500, the network has 59"),
        ("token_dictionary", {ENSEMBL[9]: "9"}, "-> str, but keys must be str and values int"),
        ("gene_median_dictionary", {ENSEMBL[9]: None}, f"the median of gene '{ENSEMBL[9]}' is None"),
        ("gene_median_dictionary", {ENSEMBL[9]: 0.0}, f"the median of gene '{ENSEMBL[9]}' is 0.0"),
    ],
)
def test_geneformer_dictionaries_that_do_not_fit(checkpoints, split, tmp_path, name, change, words):
    copy = shutil.copytree(checkpoints["geneformer"], tmp_path / "copy")
    path = copy / "gene_dictionaries" / f"{name}_gc95M.pkl"
    content = {key: value for key, value in {**pickle.loads(path.read_bytes()), **change}.items() if value is not None}
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(CellgaugeError, match=words):
        embedding("geneformer", split, copy)


def test_geneformer_does_not_run_what_a_dictionary_holds(checkpoints, split, tmp_path):
    copy = shutil.copytree(checkpoints["geneformer"], tmp_path / "copy")
    (copy / "gene_dictionaries/token_dictionary_gc95M.pkl").write_bytes(pickle.dumps({"a": Bomb(tmp_path / "trace")}))
    with pytest.raises(CellgaugeError, match=r"refused, it names posix\.mkdir, which could run code"):
        embedding("geneformer", split, copy)
    assert not (tmp_path / "trace").exists()


def test_geneformer_sums_columns_that_stand_for_one_gene(checkpoints, split, tmp_path):
    """Counts that are split between two names of a gene, in any case, are the gene's counts."""

    def dealt(data):
        part = data.X[:, 10:11].minimum(1)
        counts = hstack([part, data.X[:, :10], data.X[:, 10:11] - part, data.X[:, 11:]]).tocsr()
        var = data.var.iloc[[10, *range(60)]].copy()
        var.index = ["alias", *data.var_names]
        return anndata.AnnData(counts, data.obs, var, uns=data.uns)

    genes = {**{gene: gene for gene in ENSEMBL[5:]}, "ALIAS": ENSEMBL[10]}
    folder = made_checkpoints.geneformer(tmp_path / "geneformer", genes)
    result = embedding("geneformer", changed(split, tmp_path / "s.h5ad", dealt), folder)
    np.testing.assert_allclose(result.matrix, embedding("geneformer", split, folder).matrix, atol=1e-5)
    assert result.uns["matched_genes"] == 56


def test_geneformer_takes_total_counts_where_the_data_give_them(checkpoints, split, tmp_path):
    """The total changes no rank within a cell; an invalid total is an error."""

    def with_totals(totals):
        def change(data):
            data.obs["n_counts"] = totals
            return data

        return changed(split, tmp_path / "s.h5ad", change)

    whole = embedding("geneformer", split, checkpoints["geneformer"]).matrix
    result = embedding("geneformer", with_totals(np.arange(1000, 1090)), checkpoints["geneformer"]).matrix
    np.testing.assert_allclose(result, whole, atol=1e-5)
    with pytest.raises(CellgaugeError, match="obs column 'n_counts' must hold positive total counts, but it has 0"):
        embedding("geneformer", with_totals(np.arange(90)), checkpoints["geneformer"])
    with pytest.raises(CellgaugeError, match=r"obs column 'n_counts' must hold numbers \(could not convert"):
        embedding("geneformer", with_totals(["many"] * 90), checkpoints["geneformer"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layer": 1}, "`layer` must be from -2 to 0 .the last layer., not 1"),
        ({"layer": -3}, "`layer` must be from -2 to 0 .the last layer., not -3"),
        ({"max_length": 2}, "max_length must be from 3 to 64, not 2"),
        ({"max_length": 65}, "max_length must be from 3 to 64, not 65"),
    ],
)
def test_geneformer_options_out_of_range(checkpoints, split, options, words):
    with pytest.raises(CellgaugeError, match=words):
        embedding("geneformer", split, checkpoints["geneformer"], **options)


@pytest.mark.parametrize("options", [{}, {"layer": -2}, {"max_length": 12}])
def test_geneformer_cls_computed_alone_is_the_cls_among_all(checkpoints, split, options):
    """Compare with transformers' model, cell by cell."""
    from transformers import BertModel

    from cellgauge.models.geneformer.tokens import Ranker, read_dictionaries

    folder, opened = checkpoints["geneformer"], Split.open(split)
    model = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    ranker = Ranker(opened, read_dictionaries(folder), options.get("max_length", 64))
    records = list(ranker.tokenize(opened.counts()[:20], opened.cells[:20]))
    with torch.inference_mode():
        states = [model(torch.from_numpy(r.arrays[0])[None], output_hidden_states=True).hidden_states for r in records]
    chosen = np.stack([state[options.get("layer", -1) - 1][0, 0].numpy() for state in states])
    result = embedding("geneformer", split, folder, pooling="cls", **options).matrix[:20]
    np.testing.assert_allclose(result, chosen, atol=1e-5)


# --- scVI ------------------------------------------------------------------------------------------------------------


def edit_model(path, **changes):
    torch.save({**torch.load(path, weights_only=False), **changes}, path)


def test_scvi_counts_missing_genes_as_zeros_and_ignores_the_order_of_columns(checkpoints, split, tmp_path):
    path = changed(split, tmp_path / "silent.h5ad", silent)
    columns = np.random.default_rng(0).permutation(np.setdiff1d(np.arange(60), [30, 31]))
    part = changed(path, tmp_path / "part.h5ad", lambda data: data[:, columns])
    result = embedding("scvi", part, checkpoints["scvi"])
    np.testing.assert_allclose(result.matrix, embedding("scvi", path, checkpoints["scvi"]).matrix, atol=1e-5)
    assert result.uns["matched_genes"] == 53 and result.uns["missing_genes"] == 2


@pytest.mark.parametrize("name", ["log_variational", "encode_covariates"])
def test_scvi_settings_that_change_the_encoder_are_refused(split, tmp_path, name):
    folder = made_checkpoints.scvi(tmp_path / "scvi", ENSEMBL, **{name: name == "encode_covariates"})
    with pytest.raises(CellgaugeError, match=rf"trained with {name}=\w+; only \w+ is supported"):
        embedding("scvi", split, folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"var_names": np.asarray(ENSEMBL[:50], dtype=object)}, "its encoder takes 55 inputs for 50 genes"),
        ({"var_names": np.asarray(ENSEMBL[:1] * 55, dtype=object)}, "a gene appears more than once"),
        ({"var_names": np.arange(55)}, "not a model of scvi-tools with the names of its genes"),
        ({"model_state_dict": [1]}, "not a model of scvi-tools with the names of its genes"),
        ({"attr_dict": {"init_params_": {"a": {"extra_encoder_kwargs": {"x": 1}}}}}, "extra_encoder_kwargs="),
        (
            {"attr_dict": {"init_params_": {"a": {"b": {"encode_covariates": True}}}}},
            "trained with encode_covariates=True",
        ),
    ],
)
def test_scvi_files_that_do_not_fit(checkpoints, split, tmp_path, changes, words):
    copy = shutil.copytree(checkpoints["scvi"], tmp_path / "copy")
    edit_model(copy / "model.pt", **changes)
    with pytest.raises(CellgaugeError, match=words):
        embedding("scvi", split, copy)


@pytest.mark.parametrize("place", ["attr_dict", "var_names", "other"])
def test_scvi_runs_nothing_that_its_file_holds(checkpoints, split, tmp_path, place):
    copy = shutil.copytree(checkpoints["scvi"], tmp_path / "copy")
    edit_model(copy / "model.pt", **{place: Bomb(tmp_path / "trace")})
    with pytest.raises(CellgaugeError, match=r"refused, it names posix\.mkdir, which could run code"):
        embedding("scvi", split, copy)
    assert not (tmp_path / "trace").exists()


# --- TranscriptFormer ------------------------------------------------------------------------------------------------


def test_transcriptformer_takes_other_species_from_beside_the_checkpoint_or_the_user(checkpoints, mouse, tmp_path):
    released = embedding("transcriptformer", mouse, checkpoints["transcriptformer"])
    assert released.uns["proteins"] == "all_embeddings/mus_musculus_gene.h5" and released.uns["matched_genes"] == 40
    copy = shutil.copytree(checkpoints["transcriptformer"], tmp_path / "models" / "copy")
    with pytest.raises(
        CellgaugeError, match=r"no file mus_musculus_gene\.h5 in vocabs or all_embeddings \(found: homo_s"
    ):
        embedding("transcriptformer", mouse, copy)
    shutil.copytree(checkpoints["transcriptformer"].parent / "all_embeddings", copy / "all_embeddings")
    files = {"Mus musculus": str(copy / "all_embeddings/mus_musculus_gene.h5")}
    for options in ({}, {"species_files": files}, {"checkpoint": "copy"}):
        weights = copy.parent if "checkpoint" in options else copy
        result = embedding("transcriptformer", mouse, weights, **options).matrix
        np.testing.assert_array_equal(result, released.matrix)


def test_transcriptformer_takes_the_first_genes_of_the_split_and_one_column_of_each(checkpoints, split, tmp_path):
    """39 fit beside START; a cell has up to 55. Versions of ids are left out."""

    def last_and_again(data):
        counts = data.X.toarray()
        for row in counts:
            row[np.flatnonzero(row[5:])[39:] + 5] = 0
        again = np.full((90, 1), 7, dtype=np.float32)
        more = anndata.AnnData(csr_matrix(np.hstack([counts, again])), data.obs)
        more.var_names = [*(f"{name}.3" for name in data.var_names), ENSEMBL[10]]
        more.var["feature_name"], more.uns = more.var_names, data.uns
        return more

    counts = Split.open(split).counts()[:, 5:]
    assert counts.getnnz(axis=1).max() > 39
    whole = embedding("transcriptformer", split, checkpoints["transcriptformer"])
    path = changed(split, tmp_path / "s.h5ad", last_and_again)
    result = embedding("transcriptformer", path, checkpoints["transcriptformer"])
    np.testing.assert_allclose(result.matrix, whole.matrix, atol=1e-6)


def test_transcriptformer_uses_the_assay_and_clips_counts(checkpoints, split, tmp_path):
    def assay(value):
        def change(data):
            data.obs["assay"] = value
            return data

        return change

    weights = checkpoints["transcriptformer"]
    paths = {value: changed(split, tmp_path / f"{value}.h5ad", assay(value)) for value in ("10x", "other", "unknown")}
    paths["none"] = split
    result = {value: embedding("transcriptformer", path, weights) for value, path in paths.items()}
    assert result["10x"].uns["cells_of_unknown_assay"] == 0 and result["none"].uns["cells_of_unknown_assay"] == 90
    assert np.abs(result["10x"].matrix - result["other"].matrix).max() > 1e-3
    for value in ("unknown", "none"):
        np.testing.assert_array_equal(result[value].matrix, result["other"].matrix)
    clipped = embedding("transcriptformer", paths["10x"], weights, clip_counts=2)
    assert np.abs(clipped.matrix - result["10x"].matrix).max() > 1e-3


@pytest.mark.parametrize("surgery", ["fixed", "official"])
def test_transcriptformer_official_surgery_depends_on_the_order_of_special_tokens(
    checkpoints, split, tmp_path, surgery
):
    """It is right for a checkpoint whose order is the package's, and wrong for those that were released."""
    from cellgauge.models.transcriptformer.tokens import PACKAGE_ORDER

    home = made_checkpoints.transcriptformer(tmp_path / "a" / "tf", {"homo_sapiens": ENSEMBL[5:]})
    right = embedding("transcriptformer", split, home).matrix
    if surgery == "official":
        assert np.abs(embedding("transcriptformer", split, home, surgery=surgery).matrix - right).max() > 1e-2
    config = json.loads((home / "config.json").read_text())
    names = config["model"]["data_config"]["special_tokens"]
    tensors = dict(_tensors(home / "model_weights.pt"))
    table = tensors["gene_embeddings.embedding.weight"].clone()
    table[: len(names)] = table[[names.index(name) for name in PACKAGE_ORDER]]
    _write(home / "model_weights.pt", {**tensors, "gene_embeddings.embedding.weight": table})
    config["model"]["data_config"]["special_tokens"] = PACKAGE_ORDER
    (home / "config.json").write_text(json.dumps(config))
    np.testing.assert_allclose(embedding("transcriptformer", split, home, surgery=surgery).matrix, right, atol=1e-6)


@pytest.mark.parametrize(("cap", "activation", "bias"), [(0, "relu", True), (5, "silu", True)])
def test_transcriptformer_settings_of_other_checkpoints(cap, activation, bias):
    """The network equals the formulas written down plainly, with every option and all positions."""
    from cellgauge.models.transcriptformer import network as tf

    torch.manual_seed(0)
    settings = tf.Settings(2, 300, cap, 1e-6, activation, bias, bias, ("unknown", "[PAD]", "[START]"), ("a", "b"))
    with torch.no_grad():
        network = tf.TranscriptFormer(6, 5, 8, 12, 2, [3, 3], settings)
        network.fill_table(torch.randn(20, 6))
        lengths = torch.tensor([290, 131])
        rows, counts = torch.randint(0, 20, (2, 290)), torch.randint(0, 30, (2, 290)).float()
        values, hidden = torch.tensor([[1, 0], [0, 2]]), torch.tensor([[False, True], [True, False]])
        result = network(rows, counts, lengths, values, hidden)
        for cell in range(2):
            n = int(lengths[cell])
            covariates = [
                table.weight[value] for table, value in zip(network.aux_embeddings.values(), values[cell], strict=True)
            ]
            x = torch.cat([torch.stack(covariates), network.rows[rows[cell, :n]]])
            bias_of_key = torch.log1p(torch.cat([torch.ones(2), counts[cell, :n]]) + 1e-6)
            visible = torch.ones(n + 2, n + 2).tril().bool()
            visible[:, :2] &= ~hidden[cell]
            for layer in network.transformer_encoder["encoder_layers"]:
                x = layer.norm1(x)
                q, k, v = (linear(x).unflatten(-1, (2, 4)) for linear in layer.self_attn.linears[:3])
                logits = torch.einsum("ihd,jhd->hij", q, k) / 2 + bias_of_key
                logits = cap * torch.tanh(logits / cap) if cap else logits
                weights = logits.masked_fill(~visible, -torch.inf).softmax(dim=-1).nan_to_num(0)
                x = x + layer.self_attn.linears[3](torch.einsum("hij,jhd->ihd", weights, v).flatten(1))
                x = layer.norm2(x)
                x = x + layer.linear2(tf.ACTIVATIONS[activation](layer.linear1(x)))
            torch.testing.assert_close(result[cell], x[2:].sum(dim=0) / 300, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("seq_len", None, r"config\.json: not the settings of a TranscriptFormer"),
        ("num_heads", 3, "its width 16 is not a multiple of the 3 attention heads"),
        ("activation", "tanh", "activation 'tanh'"),
        ("special_tokens", ["unknown", "[START]"], r"special tokens unknown, \[START\]"),
        ("attn_bias", True, r"has no tensor 'transformer_encoder\.encoder_layers\.0\.self_attn\.linears\.0\.bias'"),
        ("aux_cols", "tissue", r"has no tensor 'aux_embeddings\.tissue\.weight'"),
    ],
)
def test_transcriptformer_settings_that_do_not_fit(checkpoints, split, tmp_path, key, value, words):
    copy = shutil.copytree(checkpoints["transcriptformer"], tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    part = config["model"]["model_config" if key in config["model"]["model_config"] else "data_config"]
    part[key] = value
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(CellgaugeError, match=words):
        embedding("transcriptformer", split, copy)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"10x": 1}, r"assay_vocab\.json: not a vocabulary .* \(it lacks 'unknown'"),
        ({"unknown": 0, "10x": 2}, r"not a vocabulary of a checkpoint with 2 values \(it gives '10x' the value 2"),
    ],
)
def test_transcriptformer_vocabularies_that_do_not_fit(checkpoints, split, tmp_path, values, words):
    copy = shutil.copytree(checkpoints["transcriptformer"], tmp_path / "copy")
    (copy / "vocabs/assay_vocab.json").write_text(json.dumps(values))
    with pytest.raises(CellgaugeError, match=words):
        embedding("transcriptformer", split, copy)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("truncated", r"homo_sapiens_gene\.h5: not an h5 with `keys` and `arrays`, truncated or corrupt"),
        ("other", "not an h5 with `keys` and `arrays`"),
        ("width", r"the vector of ENSG00000000005 has shape \(9,\), the checkpoint needs \(10,\)"),
        ("missing", "a vector cannot be read"),
        ("nan", "some vectors are not finite"),
    ],
)
def test_transcriptformer_protein_files_that_are_not_what_they_should_be(checkpoints, split, tmp_path, fault, words):
    copy = shutil.copytree(checkpoints["transcriptformer"], tmp_path / "copy")
    path = copy / "vocabs/homo_sapiens_gene.h5"
    if fault == "truncated":
        path.write_bytes(path.read_bytes()[:3000])
    elif fault == "other":
        shutil.copy(split, path)
    else:
        with h5py.File(path, "r+") as file:
            del file[f"arrays/{ENSEMBL[5]}"]
            if fault != "missing":
                file[f"arrays/{ENSEMBL[5]}"] = np.full(9 if fault == "width" else 10, np.nan, dtype=np.float32)
    with pytest.raises(CellgaugeError, match=words):
        embedding("transcriptformer", split, copy)


# --- several splits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", sorted(set(MAKE) - {"scvi"}))
def test_a_job_of_several_splits_reads_the_checkpoint_once(checkpoints, split, tmp_path, family, monkeypatch):
    opened = []
    read = checkpoint_files.Checkpoint.open.__func__
    monkeypatch.setattr(
        checkpoint_files.Checkpoint, "open", classmethod(lambda cls, path: opened.append(path) or read(cls, path))
    )
    checkpoint_files._last.clear()
    outputs = [tmp_path / "a.h5ad", tmp_path / "b.h5ad"]
    options = {"device": "cpu"}
    embed_several(embed_files, family, [split, split], outputs, weights=checkpoints[family], options=options)
    assert [path.name for path in opened].count(MAIN_FILE[family]) == 1
    first, second = (Embedding.read(path) for path in outputs)
    assert np.array_equal(first.matrix, second.matrix, equal_nan=True)
