"""Damaged and hostile files of every format, at random: each reader returns something right or says in one sentence what is
wrong. A child process reads, so that a crash is seen; it has little memory and little time.

`make fuzz` tries many more than CI does.
"""

import csv
import faulthandler
import io
import json
import os
import pickle
import re
import resource
import shutil
import signal
import traceback
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import tiny
import torch
import yaml
from effort import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.genes import shared_names
from cellgauge.data.make_split import read_split
from cellgauge.files.embedding import Embedding, write_embedding
from cellgauge.files.score import SCORE_COLUMNS, Score, read_scores, write_scores
from cellgauge.files.split import Split, as_counts, write_split
from cellgauge.inference.checkpoints import (
    Checkpoint,
    open_tensor,
    read_json,
    read_pickled_dict,
    read_torch_dict,
    read_vocabulary,
)
from cellgauge.models.precomputed import read_rows
from cellgauge.models.uce.new_species import read_loci
from cellgauge.plan import config as configuration
from cellgauge.plan.sources import ROOT
from cellgauge.results.published import read as read_values

EXAMPLES = examples(10)
SECONDS, MEMORY = 60, 6 << 30  # of CPU, and bytes, that a child may take beyond what it begins with
pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is limited on Linux alone")
fuzzed = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)


def outcome(read, path):
    """Return "" where a child process reads the file or refuses it in a sentence; else what happened instead."""
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        os.close(receiver)
        said = ""
        try:
            for descriptor in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
            faulthandler.disable()
            most = SECONDS + int(sum(os.times()[:2]))
            resource.setrlimit(resource.RLIMIT_CPU, (most, most))
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            read(path)
        except CellgaugeError as error:
            said = "" if str(error).strip() and "Traceback" not in str(error) else f"no sentence: {error!r}"
        except BaseException:
            said = traceback.format_exc()
        os.write(sender, said.encode(errors="replace")[-60_000:])
        os._exit(0)
    os.close(sender)
    with os.fdopen(receiver, encoding="utf-8", errors="replace") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return f"the process died by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else said


# --- damage -----------------------------------------------------------------------------------------------------------

bytes_damaged = st.lists(
    st.tuples(
        st.sampled_from(("set", "set", "flip", "cut", "insert", "delete", "repeat")),
        st.integers(0, 2**40),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=6,
)


def damaged(content, changes):
    content = bytearray(content)
    for kind, place, new in changes:
        if not content:
            break
        at = place % len(content)
        if kind == "set":
            content[at : at + len(new)] = new
        elif kind == "flip":
            content[at] ^= new[0] or 1
        elif kind == "cut":
            del content[at:]
        elif kind == "insert":
            content[at:at] = new
        elif kind == "delete":
            del content[at : at + new[0]]
        else:
            content[at:at] = content[at : at + 16 * new[0]]
    return bytes(content)


OBJECTS = (
    "delete",
    "group",
    "scalar",
    "text",
    "real",
    "short",
    "long",
    "extreme",
    "negative",
    "turned",
    "swap",
    "empty",
    "nan",
    "deep",
)
ATTRIBUTES = ("delete", "text", "number", "other", "bytes", "huge")
structures = st.lists(
    st.tuples(
        st.sampled_from(OBJECTS + tuple(f"attribute {kind}" for kind in ATTRIBUTES)),
        st.integers(0, 2**20),
        st.integers(0, 2**20),
    ),
    min_size=1,
    max_size=3,
)
ENCODINGS = (
    "csr_matrix",
    "csc_matrix",
    "array",
    "dataframe",
    "dict",
    "categorical",
    "string-array",
    "null",
    "nullable-integer",
    "raw",
)


def restructure(path, changes):
    with h5py.File(path, "r+") as file:
        for kind, first, second in changes:
            names: list[str] = []
            file.visit(names.append)
            if not names:
                return
            name, other = names[first % len(names)], names[second % len(names)]
            if kind.startswith("attribute"):
                _change_attribute(file[name], kind.partition(" ")[2], first, second)
            else:
                _change_object(file, name, other, kind, second)


def _change_attribute(item, kind, first, second):
    keys = sorted(item.attrs)
    if not keys:
        return
    key = keys[second % len(keys)]
    new = {
        "text": "x",
        "number": -1,
        "other": ENCODINGS[first % len(ENCODINGS)],
        "bytes": b"\xff\xfe",
        "huge": [10**12, 10**12],
    }
    del item.attrs[key]
    if kind in new:
        item.attrs[key] = new[kind]


def _change_object(file, name, other, kind, number):
    item = file[name]
    if kind == "swap":
        if not (name.startswith(other) or other.startswith(name)):
            file.move(name, "swapped")
            file.move(other, name)
            file.move("swapped", other)
        return
    attributes = dict(item.attrs)
    is_array = isinstance(item, h5py.Dataset) and item.ndim > 0 and len(item)
    values = item[:] if is_array else None
    del file[name]
    if kind == "group":
        file.create_group(name)
    elif kind == "empty":
        file[name] = h5py.Empty("f4")
    elif kind == "scalar":
        file[name] = 7
    elif kind == "deep":
        file[f"{name}/{'x/' * (number % 60)}y"] = 1
    elif kind != "delete" and is_array:
        is_number = values.dtype.kind in "iuf"
        if kind == "text":
            values = np.asarray([b"\xff text"] * len(values))
        elif kind == "real" and is_number:
            values = values.astype("f8") + 0.5
        elif kind == "short":
            values = values[: number % len(values)]
        elif kind == "long":
            values = np.concatenate([values, values])
        elif kind == "turned":
            values = values.T if values.ndim > 1 else values[None]
        elif kind in ("extreme", "negative", "nan") and is_number:
            values = values.copy()
            worst = {
                "negative": -1 if values.dtype.kind != "u" else 0,
                "nan": np.nan if values.dtype.kind == "f" else 1,
            }
            limit = np.finfo(values.dtype).max if values.dtype.kind == "f" else np.iinfo(values.dtype).max
            values.flat[number % values.size] = worst.get(kind, limit)
        file[name] = values
    if name in file:
        for key, value in attributes.items():
            file[name].attrs[key] = value


# --- readers ----------------------------------------------------------------------------------------------------------


def read_as_source(path):
    for changes in ({}, {"split_by": "tissue", "value": "Lung"}, {"counts": "layers/counts"}, {"counts": "raw/X"}):
        try:
            made = read_split(path, tiny.options(**changes)).data
        except CellgaugeError as error:
            refused = error
            continue
        target = path.with_suffix(".split.h5ad")
        write_split(target, made)
        read_as_split(target)
        split = Split.open(target)
        assert (len(split.cells), len(split.genes)) == made.shape
        refused = None
    if refused:
        raise refused


def read_as_split(path):
    split = Split.open(path)
    sizes, counts = split.library_sizes(), split.counts()
    as_counts(counts.copy(), str(path))
    blocks = list(split.count_blocks(50))
    split.genes, split.symbols, split.columns, split.facts()
    for name in split.columns:
        split.column(name)
    assert sum(block.shape[0] for _, block in blocks) == counts.shape[0]
    assert counts.shape == (len(split.cells), len(split.genes))
    np.testing.assert_allclose(sizes, np.concatenate([np.asarray(b.sum(axis=1)).ravel() for _, b in blocks]), rtol=1e-4)


def read_as_embedding(path):
    embedding = Embedding.read(path)
    assert embedding.matrix.shape == embedding.shape == (len(embedding.cells), embedding.shape[1])


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """The folder of sound files, one a format."""
    folder = tmp_path_factory.mktemp("seeds")
    data = tiny.published(n_cells=60, n_genes=30)
    data.layers["counts"], data.raw = data.X.tocsc(), data
    data.obs["number"], data.obs["flag"] = pd.array([1, None] * 30, dtype="Int64"), [True, False] * 30
    data.obsm["X_emb"] = np.random.default_rng(0).normal(size=(60, 5)).astype("f4")
    data.write_h5ad(folder / "csr.h5ad", compression="gzip")
    data.X = data.X.toarray()
    data.write_h5ad(folder / "dense.h5ad")
    split = Split.open(tiny.split_file(folder, n_cells=60, n_genes=30))
    shutil.copy(split.path, folder / "split.h5ad")
    write_embedding(
        folder / "embedding.h5ad", data.obsm["X_emb"], split.cells, [split], {"model": "m", "split": "human"}
    )
    rows = {"embedding": data.obsm["X_emb"], "cells": np.asarray(data.obs_names, dtype=str)}
    np.savez_compressed(folder / "packed.npz", **rows)
    np.savez(folder / "rows.npz", **rows)
    np.save(folder / "rows.npy", rows["embedding"])
    table = pd.DataFrame(rows["embedding"], index=rows["cells"], columns=[f"d{i}" for i in range(5)])
    table.to_csv(folder / "rows.csv", index_label="cell")
    table.to_csv(folder / "rows.tsv", index_label="cell", sep="\t", decimal=",")
    table.to_csv(folder / "rows.csv.gz", index_label="cell")
    table.to_parquet(folder / "rows.parquet")
    tensors = {"a.weight": torch.randn(3, 4), "a.bias": torch.zeros(3, dtype=torch.float16)}
    torch.save(tensors, folder / "model.pt")
    torch.save(tensors, folder / "old.pt", _use_new_zipfile_serialization=False)
    torch.save({"state": tensors, "names": np.asarray(["a", "b"], dtype=object), "n": 3}, folder / "dict.pt")
    torch.save(torch.randn(3, 4), folder / "tensor.pt")
    from safetensors.torch import save_file

    save_file(tensors, folder / "model.safetensors")
    (folder / "dict.pkl").write_bytes(pickle.dumps({f"ENSG{i:011d}": np.float64(i) for i in range(20)}, protocol=4))
    (folder / "vocab.json").write_text(json.dumps({"<pad>": 0, "A": 1, "B": 2, "C": 3}))
    tiny.orthologue_table(folder / "orthologues.csv", 20)
    (folder / "genes.gtf").write_text("".join(f'1\tx\tgene\t{i}\t9\t.\t+\t.\tgene_name "G{i}";\n' for i in range(1, 9)))
    scores = [Score(metric="m", value=-0.5, task="t", model="=1+1", dataset="d", split="s", seed=1)] * 4
    write_scores(folder / "scores.tsv", scores)
    pd.DataFrame([vars(score) for score in scores])[list(SCORE_COLUMNS)].to_parquet(folder / "scores.parquet")
    (folder / "vcp.json").write_text(json.dumps(VCP))
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    return folder


VCP = [
    {
        "task_key": "clustering",
        "model_key": "m",
        "dataset_keys": ["human_tiny"],
        "metrics": [{"metric_key": "adjusted_rand_index", "params": {}, "value": 0.5}],
    }
]
CONFIG = {
    "models": {"mine": {"adapter": "precomputed", "path": "mine/{split}.npz", "shared_space": True}},
    "datasets": {
        "tiny": {
            "modality": "expression",
            "organism": "human",
            "url": "https://host.example/a.h5ad",
            "split_by": "tissue",
            "columns": {"label": "cell_type", "donor": "d"},
            "splits": {"lung": {"value": "Lung"}, "liver": None},
        }
    },
    "run": {"models": ["mine", "linear"], "datasets": ["tiny"], "tasks": ["clustering"], "seeds": [1, 2]},
}


def read_config(path):
    import copy

    from snakemake.utils import update_config

    merged = copy.deepcopy(CATALOGUE)
    update_config(merged, configuration._settings(path))
    configuration.check(merged)


CATALOGUE = {}
for _name in configuration.CATALOGUE:
    _path = ROOT / "config" / f"{_name}.yaml"
    CATALOGUE |= yaml.load(_path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def embedding_reader(path):
    split = Split.open(path.parent / "human.h5ad")
    rows = read_rows(path, split, key="X_emb" if path.suffix == ".h5ad" else "")
    assert rows.cells is None or len(rows.cells) == len(rows.matrix)
    if path.suffix in (".csv", ".tsv"):
        _equals_plain_reading(path, rows)


def _equals_plain_reading(path, rows):
    """A csv that is read holds, cell by cell, what Python's own csv module finds there."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = [
            line
            for line in csv.reader(io.StringIO(file.read()), delimiter="," if path.suffix == ".csv" else "\t")
            if line
        ]
    width = rows.matrix.shape[1]
    if rows.cells is None or len(lines[0]) != width + 1 or any(len(line) != width + 1 for line in lines):
        return
    assert len(rows.matrix) == len(lines) - 1
    for line, row in zip(lines[1:], rows.matrix, strict=True):
        for text, number in zip(line[1:], row, strict=True):
            try:
                plain = float(text.replace(",", ".") if path.suffix == ".tsv" else text)
            except ValueError:
                continue  # an empty field, or a word for one
            assert plain == pytest.approx(number, rel=1e-6, nan_ok=True)


def checkpoint_reader(path):
    opened = Checkpoint.open(path)
    for name, tensor in opened.tensors.items():
        assert opened.shape(name, tensor.ndim) == tuple(tensor.shape)
        float(tensor.float().sum())


READERS = {
    "csr.h5ad": [read_as_source, embedding_reader],
    "dense.h5ad": [read_as_source],
    "split.h5ad": [read_as_split],
    "embedding.h5ad": [read_as_embedding],
    "packed.npz": [embedding_reader],
    "rows.npz": [embedding_reader],
    "rows.npy": [embedding_reader],
    "rows.csv": [embedding_reader],
    "rows.tsv": [embedding_reader],
    "rows.csv.gz": [embedding_reader],
    "rows.parquet": [embedding_reader],
    "model.pt": [checkpoint_reader, read_torch_dict],
    "old.pt": [checkpoint_reader],
    "dict.pt": [read_torch_dict],
    "tensor.pt": [lambda path: open_tensor(path, 2).sum()],
    "model.safetensors": [checkpoint_reader],
    "dict.pkl": [lambda path: read_pickled_dict(path, (int, float))],
    "vocab.json": [lambda path: np.asarray(list(read_vocabulary(path, "<pad>").values()), dtype=np.int64), read_json],
    "orthologues.csv": [
        lambda path: shared_names(pd.Series(["GENE1", "GENE2"]), tiny.orthologues(path), "human", "human")
    ],
    "genes.gtf": [read_loci],
    "scores.tsv": [read_scores],
    "scores.parquet": [lambda path: list(read_values(path, "scores"))],
    "vcp.json": [lambda path: list(read_values(path, "vcp"))],
    "config.yaml": [read_config],
}


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (lambda path: os.kill(os.getpid(), signal.SIGSEGV), "died by signal 11"),
        (lambda path: {}[path], "KeyError"),
        (lambda path: np.ones(10**12), "MemoryError"),
        (lambda path: None, "^$"),
    ],
)
def test_a_crash_is_seen(read, words):
    assert re.search(words, outcome(read, "a path"))


def check(folder, name, content, readers):
    path = folder / f"damaged-{name}"
    path.write_bytes(content)
    for read in readers:
        said = outcome(read, path)
        assert not said, said


@pytest.mark.parametrize("name", READERS)
def test_sound_files_are_read(seeds, name):
    for read in READERS[name]:
        if name.partition(".")[0] not in ("dense",):
            read(seeds / name)


@pytest.mark.reliability(
    fault="a file of any format is damaged, or made to harm",
    provoked="bytes set, flipped, cut, inserted, deleted and repeated at random in 24 kinds of files",
    outcome="read right or refused in one sentence; no crash, no traceback",
    tries=len(READERS) * EXAMPLES,
)
@pytest.mark.parametrize("name", READERS)
@fuzzed
@given(changes=bytes_damaged)
def test_damaged_bytes(seeds, name, changes):
    check(seeds, name, damaged((seeds / name).read_bytes(), changes), READERS[name])


@pytest.mark.reliability(
    fault="an h5ad is not built as it should be",
    provoked="parts deleted, swapped, retyped, reshaped; attributes changed, at random",
    outcome="read right or refused in one sentence; no crash, no traceback",
    tries=4 * EXAMPLES,
)
@pytest.mark.parametrize("name", [name for name in READERS if name.endswith(".h5ad")])
@fuzzed
@given(changes=structures)
def test_other_structures(seeds, name, changes):
    path = shutil.copy(seeds / name, seeds / f"damaged-{name}")
    restructure(path, changes)
    for read in READERS[name]:
        said = outcome(read, path)
        assert not said, said


WORDS = [
    "=",
    "'",
    '"',
    "nan",
    "inf",
    "-1",
    "1e999",
    "9" * 40,
    "\x00",
    "\u202e",
    "é",
    "\t",
    ";",
    "[",
    "{",
    "}",
    "*a",
    "&a",
    "<<:",
    "!!python/object",
    "..",
    "/",
    "\\",
    "null",
]


@pytest.mark.parametrize(
    "name",
    ["rows.csv", "rows.tsv", "orthologues.csv", "genes.gtf", "scores.tsv", "vcp.json", "vocab.json", "config.yaml"],
)
@fuzzed
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 2**30), st.integers(0, 12), st.sampled_from(WORDS)), min_size=1, max_size=4
    )
)
def test_other_words(seeds, name, changes):
    text = (seeds / name).read_text()
    for place, length, word in changes:
        at = place % (len(text) + 1)
        text = text[:at] + word + text[at + length :]
    check(seeds, name, text.encode(), READERS[name])
