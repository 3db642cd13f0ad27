"""The files between the stages."""

import os
import subprocess
import sys

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import tiny
from scipy.sparse import csc_matrix, csr_matrix, vstack

from cellgauge.core.atomic import atomic_path
from cellgauge.core.errors import ContractError
from cellgauge.files.checked import add_checksums
from cellgauge.files.embedding import Embedding, match_embeddings, write_embedding
from cellgauge.files.neighbors import Neighbors, write_neighbors
from cellgauge.files.score import SCORE_COLUMNS, Score, read_scores, write_scores
from cellgauge.files.split import Split, as_counts
from cellgauge.plan.sources import SCRIPTS


@pytest.fixture
def split(tmp_path):
    return Split.open(tiny.split_file(tmp_path))


def rows_for(split, dims=4, seed=0):
    return np.random.default_rng(seed).normal(size=(len(split.cells), dims)).astype(np.float32)


def test_split_reads_what_anndata_reads(split):
    data = split.to_anndata()
    assert split.cells.tolist() == data.obs_names.tolist()
    assert split.genes.tolist() == data.var_names.tolist()
    assert split.symbols.tolist() == data.var["feature_name"].tolist()
    assert split.column("label").tolist() == data.obs["label"].astype(str).tolist()
    assert (split.counts() != data.X).nnz == 0
    assert split.counts().dtype == np.float32
    assert (split.organism, split.dataset, split.name) == ("human", "tiny", "human")


@pytest.mark.parametrize("form", [csr_matrix, csc_matrix, np.asarray])
@pytest.mark.parametrize("rows", [1, 7, 120, 1000])
def test_blocks_are_the_counts_however_they_are_stored(tmp_path, split, form, rows):
    data = split.to_anndata()
    data.X = form(data.X.toarray())
    data.write_h5ad(tmp_path / "other.h5ad", compression="gzip")
    blocks = list(Split.open(tmp_path / "other.h5ad").count_blocks(rows))
    assert [start for start, _ in blocks] == list(range(0, 120, rows))
    assert all(block.dtype == np.float32 and block.has_canonical_format and block.data.all() for _, block in blocks)
    assert (vstack([block for _, block in blocks]) != split.counts()).nnz == 0
    expected = data.X.sum(axis=1, dtype=np.float64)
    np.testing.assert_array_equal(Split.open(tmp_path / "other.h5ad").library_sizes(), np.asarray(expected).ravel())


def test_library_sizes_of_many_cells_some_of_them_empty(tmp_path):
    whole = Split.open(tiny.split_file(tmp_path, n_cells=1300)).to_anndata()
    counts = whole.X.toarray()
    counts[[0, 511, 512, 1299]] = 0
    whole.X = csr_matrix(counts)
    whole.write_h5ad(tmp_path / "other.h5ad")
    found = Split.open(tmp_path / "other.h5ad").library_sizes()
    np.testing.assert_array_equal(found, counts.sum(axis=1, dtype=np.float64))
    assert (found == 0).sum() == 4


def test_blocks_put_columns_in_order_and_leave_stored_zeros_out(tmp_path, split):
    data = split.to_anndata()
    data.X = csr_matrix((np.array([3.0, 0, 2]), np.array([5, 4, 1]), np.array([0, 3, *[3] * 119])), data.shape)
    data.write_h5ad(tmp_path / "other.h5ad")
    _, block = next(Split.open(tmp_path / "other.h5ad").count_blocks(2))
    assert (block.indices.tolist(), block.data.tolist()) == ([1, 5], [2, 3])


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_blocks_hold_counts_alone(tmp_path, split, value):
    data = split.to_anndata()
    data.X.data[-1] = value
    data.write_h5ad(tmp_path / "other.h5ad")
    blocks = Split.open(tmp_path / "other.h5ad").count_blocks(50)
    assert next(blocks)[0] == 0 and next(blocks)[0] == 50
    with pytest.raises(ContractError, match="X holds counts that are negative or not finite"):
        next(blocks)


def test_a_damaged_block_is_one_sentence(tmp_path, split):
    data = split.to_anndata()
    data.write_h5ad(tmp_path / "other.h5ad", compression="gzip")
    with h5py.File(tmp_path / "other.h5ad") as file:
        place = file["X/data"].id.get_chunk_info(0).byte_offset
    with (tmp_path / "other.h5ad").open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 40)
    with pytest.raises(ContractError, match="X cannot be read, truncated or corrupt"):
        list(Split.open(tmp_path / "other.h5ad").count_blocks())
    with pytest.raises(ContractError, match="X cannot be read, truncated or corrupt"):
        Split.open(tmp_path / "other.h5ad").library_sizes()


def test_missing_column_names_what_is_there(split):
    with pytest.raises(ContractError, match=r"no column 'age' \(found: batch, donor, label\)"):
        split.column("age")


def test_plain_and_categorical_string_columns_read_alike(tmp_path, split):
    data = split.to_anndata()
    data.obs["plain"] = data.obs["label"].astype(str).astype(object)
    data.obs["number"] = np.arange(data.n_obs)
    data.write_h5ad(tmp_path / "other.h5ad")
    other = Split.open(tmp_path / "other.h5ad")
    assert other.column("plain").tolist() == split.column("label").tolist()
    assert other.column("number")[:3].tolist() == ["0", "1", "2"]


def test_missing_categories_are_empty(tmp_path, split):
    data = split.to_anndata()
    data.obs.loc[data.obs_names[0], "label"] = None
    data.write_h5ad(tmp_path / "other.h5ad")
    assert Split.open(tmp_path / "other.h5ad").column("label")[0] == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        (b"", "is damaged, its checksums are missing"),
        (b"not hdf5", "is damaged, its checksums are missing"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 64, "is damaged, its checksums are missing"),
    ],
)
def test_unreadable_files_are_one_sentence(tmp_path, content, words):
    path = tmp_path / "x.h5ad"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ContractError, match=words):
        Split.open(path)


def test_truncated_split(tmp_path, split):
    content = split.path.read_bytes()
    path = tmp_path / "cut.h5ad"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ContractError, match="is damaged, its checksums are missing"):
        Split.open(path)


def test_hdf5_without_a_matrix(tmp_path):
    with h5py.File(tmp_path / "x.h5ad", "w") as file:
        file.create_group("obs")
    with pytest.raises(ContractError, match="lacks X, var"):
        Split.open(tmp_path / "x.h5ad")


@pytest.mark.parametrize(
    ("value", "words"), [(0.5, "not whole numbers"), (-1, "negative"), (np.nan, "not finite"), (np.inf, "not finite")]
)
def test_counts_must_be_counts(value, words):
    matrix = csr_matrix(np.array([[1.0, value], [0.0, 3.0]]))
    with pytest.raises(ContractError, match=f"here: the matrix is not raw counts, 1 of .* {words}"):
        as_counts(matrix, "here")


@pytest.mark.parametrize("kind", [np.asarray, csr_matrix, csc_matrix])
def test_counts_become_csr_float32(kind):
    counts = as_counts(kind(np.array([[0, 2], [3, 0]], dtype=np.int64)), "here")
    assert counts.format == "csr" and counts.dtype == np.float32 and counts.toarray().tolist() == [[0, 2], [3, 0]]


def test_embedding_round_trip(tmp_path, split):
    matrix = rows_for(split)
    matrix[3] = np.nan
    write_embedding(
        tmp_path / "e.h5ad", matrix, split.cells, [split], {"model": "m", "split": "human", "params": {"b": 1}}
    )
    embedding = Embedding.read(tmp_path / "e.h5ad")
    np.testing.assert_array_equal(embedding.rows_of(split), matrix)
    assert embedding.uns["unembedded"] == 1
    assert embedding.uns["params"] == '{"b": 1}'
    assert anndata.read_h5ad(tmp_path / "e.h5ad").obs_names.tolist() == split.cells.tolist()


def test_embedding_of_several_splits_gives_each_its_rows(tmp_path):
    human = Split.open(tiny.split_file(tmp_path))
    mouse = Split.open(tiny.split_file(tmp_path, organism="mouse", n_cells=50))
    matrix = np.concatenate([rows_for(human), rows_for(mouse, seed=1)])
    ids = np.concatenate([human.cells, mouse.cells])
    write_embedding(tmp_path / "all.h5ad", matrix, ids, [human, mouse], {"split": "all"})
    embedding = Embedding.read(tmp_path / "all.h5ad")
    np.testing.assert_array_equal(embedding.rows_of(human), matrix[:120])
    np.testing.assert_array_equal(embedding.rows_of(mouse), matrix[120:])
    embedding.forget()
    assert "matrix" not in vars(embedding)
    np.testing.assert_array_equal(embedding.rows_of(human), matrix[:120])


@pytest.fixture
def three_embedded(tmp_path):
    """Return three splits, and embeddings by name: of each, of pairs, and one made by hand that names no split."""
    kinds = (("human", "human"), ("mouse", "mouse"), ("mouse", "young"))
    splits = [Split.open(tiny.split_file(tmp_path, organism=o, split=name, n_cells=30)) for o, name in kinds]
    groups = {"human": splits[:1], "mouse": splits[1:2], "human+mouse": splits[:2], "mouse+young": splits[1:]}
    found = {}
    for name, own in groups.items():
        ids = np.concatenate([split.cells for split in own])
        write_embedding(tmp_path / f"{name}.h5ad", np.ones((len(ids), 2)), ids, own, {"split": name})
        found[name] = Embedding.read(tmp_path / f"{name}.h5ad")
    anndata.AnnData(np.ones((30, 2), np.float32), pd.DataFrame(index=splits[0].cells)).write_h5ad(
        tmp_path / "hand.h5ad"
    )
    return splits, found | {"hand": Embedding.read(tmp_path / "hand.h5ad")}


@pytest.mark.parametrize(
    ("given", "wanted", "matched"),
    [
        (["human", "mouse"], [0, 1], ["human", "mouse"]),
        (["mouse", "human"], [0, 1], ["human", "mouse"]),
        (["human+mouse"], [0, 1], ["human+mouse", "human+mouse"]),
        (["human+mouse"], [1], ["human+mouse"]),
        (["human", "mouse+young"], [0, 1, 2], ["human", "mouse+young", "mouse+young"]),
        (["hand"], [0], ["hand"]),
        (["hand", "mouse"], [0, 1], ["hand", "mouse"]),
        (["human"], [1], r"no embedding given for split mouse of tiny \(found: human\)"),
        (["human+mouse", "mouse+young"], [0, 1, 2], "2 embeddings given for split mouse"),
        (["hand"], [1], "not the cells of split mouse in their order"),
        ([], [0], r"no embedding given for split human of tiny \(found: none\)"),
    ],
)
def test_every_split_has_the_one_embedding_that_holds_it(three_embedded, given, wanted, matched):
    splits, known = three_embedded
    embeddings, splits = [known[name] for name in given], [splits[n] for n in wanted]
    if isinstance(matched, str):
        with pytest.raises(ContractError, match=matched):
            match_embeddings(embeddings, splits)
    else:
        assert match_embeddings(embeddings, splits) == [known[name] for name in matched]


def test_rows_of_nan_alone_need_a_reason(tmp_path):
    split = Split.open(tiny.split_file(tmp_path))
    nothing = np.full((120, 1), np.nan)
    write_embedding(tmp_path / "e.h5ad", nothing, split.cells, [split], {"not_applicable": "one batch"})
    assert Embedding.read(tmp_path / "e.h5ad").uns["not_applicable"] == "one batch"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda m, ids: (m[:-1], ids), "as many rows"),
        (lambda m, ids: (m[:, 0], ids), "must be a matrix"),
        (lambda m, ids: (m, ids[::-1]), "row 0 is 'human-cell119', expected 'human-cell0'"),
        (lambda m, ids: (m[:-1], ids[:-1]), "119 rows, expected 120"),
        (lambda m, ids: (np.full_like(m, np.nan), ids), "no cell was embedded"),
        (
            lambda m, ids: (np.where(np.eye(*m.shape) > 0, np.inf, m), ids),
            "human-cell0 contains a value that is not finite",
        ),
        (
            lambda m, ids: (np.where(np.eye(*m.shape) > 0, np.nan, m), ids),
            "human-cell0 contains a value that is not finite",
        ),
    ],
)
def test_bad_embeddings_are_refused_and_leave_nothing(tmp_path, split, spoil, words):
    matrix, ids = spoil(rows_for(split), split.cells)
    with pytest.raises(ContractError, match=words):
        write_embedding(tmp_path / "e.h5ad", matrix, ids, [split], {})
    assert not list(tmp_path.glob("*e.h5ad*"))


def test_embedding_of_other_cells_is_refused(tmp_path, split):
    write_embedding(tmp_path / "e.h5ad", rows_for(split), split.cells, [split], {"split": "human"})
    (tmp_path / "other").mkdir()
    other = Split.open(tiny.split_file(tmp_path / "other", n_cells=119))
    with pytest.raises(ContractError, match="120 rows, expected 119"):
        Embedding.read(tmp_path / "e.h5ad").rows_of(other)


def test_scores_round_trip_with_all_digits(tmp_path):
    scores = [
        Score("ari", 1 / 3, "reference", task="clustering", model="m", dataset="d", split="s", seed=42),
        Score("f1", profile="corrected", status="failed", reason="two\nlines\tand a tab", fold=0),
    ]
    write_scores(tmp_path / "s.tsv", scores)
    first, second = read_scores(tmp_path / "s.tsv")
    assert first == scores[0]
    assert second.reason == "two lines and a tab" and second.fold == 0 and second.value is None
    assert (tmp_path / "s.tsv").read_text().splitlines()[0].split("\t") == list(SCORE_COLUMNS)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"value": None}, "needs a finite value"),
        ({"value": float("nan")}, "needs a finite value"),
        ({"value": 1.0, "status": "failed", "reason": "x"}, "no value"),
        ({"status": "failed"}, "needs a reason"),
        ({"value": 1.0, "status": "fine"}, "not one of ok, failed, not_applicable"),
    ],
)
def test_a_score_is_a_value_or_a_reason(fields, words):
    with pytest.raises(ContractError, match=words):
        Score("ari", **fields)


def test_foreign_columns_are_refused(tmp_path):
    (tmp_path / "s.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(ContractError, match="the columns are"):
        read_scores(tmp_path / "s.tsv", by_hand=True)


def test_atomic_path_leaves_the_old_file_when_the_block_fails(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


# --- neighbors ------------------------------------------------------------------------------------------------------

ABOUT = {"task": "clustering", "model": "m", "dataset": "d", "split": "s"}
CELLS = np.asarray(["a", "b", "c"], dtype=object)


def kept(folder, **changes):
    path = folder / "n.npz"
    given = {
        "arrays": {"indices": np.eye(3, dtype=np.int32)},
        "embedded": np.ones(3, bool),
        "facts": ABOUT,
        "cells": CELLS,
    }
    write_neighbors(path, **(given | changes))
    return path


def test_neighbors_are_read_as_they_were_written(tmp_path):
    found = Neighbors.read(kept(tmp_path), ABOUT, CELLS)
    assert list(found.arrays) == ["indices"] and (found.arrays["indices"] == np.eye(3)).all()
    assert found.arrays["indices"].dtype == np.int32
    assert found.embedded.tolist() == [True] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["n.npz"]


@pytest.mark.parametrize(
    ("facts", "cells", "words"),
    [
        ({**ABOUT, "model": "other"}, CELLS, "these neighbors are for model m instead of other"),
        (ABOUT, CELLS[::-1], "for other cells, or the same cells in another order"),
        (ABOUT, CELLS[:2], "for other cells"),
    ],
)
def test_neighbors_of_something_else_are_refused(tmp_path, facts, cells, words):
    with pytest.raises(ContractError, match=f"{words}.*delete the file and run again"):
        Neighbors.read(kept(tmp_path), facts, cells)


def test_files_that_are_no_neighbors_are_refused(tmp_path):
    path = kept(tmp_path)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ContractError, match="is damaged, its checksums are missing"):
            Neighbors.read(path, ABOUT, CELLS)
    np.savez(path, facts=np.array([object()], dtype=object))  # a pickle, which is not opened
    add_checksums(path)
    with pytest.raises(ContractError, match="not a file of neighbors"):
        Neighbors.read(path, ABOUT, CELLS)
    with pytest.raises(ContractError, match="no such file"):
        Neighbors.read(tmp_path / "none.npz", ABOUT, CELLS)


def tree(path):
    """Return the attributes, type and values of everything in an HDF5 file."""
    found = {}

    def note(name, item):
        kind = (item.shape, item.dtype, np.asarray(item[()]).tolist()) if isinstance(item, h5py.Dataset) else "group"
        attributes = {key: np.asarray(value).tolist() for key, value in item.attrs.items()}
        found[name] = kind, attributes

    with h5py.File(path) as file:
        note("/", file)
        file.visititems(note)
    return found


@pytest.mark.parametrize("n_splits", [1, 3, 200])
def test_embeddings_are_written_as_anndata_writes_them(tmp_path, n_splits):
    cells = [np.asarray([f"cell {n} é {i}" for i in range(2)], dtype=object) for n in range(n_splits)]
    splits = [Split(tmp_path, "tiny", f"split{n}", "human", own) for n, own in enumerate(cells)]
    matrix = np.random.default_rng(0).normal(size=(2 * n_splits, 3)).astype(np.float32)
    matrix[1] = np.nan
    uns = {"model": "ünï", "seed": 42, "seconds": 0.5, "shared_space": True, "params": {"a": [1]}, "none": None}
    write_embedding(tmp_path / "ours.h5ad", matrix, np.concatenate(cells), splits, uns)

    names = np.repeat([split.name for split in splits], 2)
    obs = pd.DataFrame({"split": pd.Categorical(names)}, index=np.concatenate(cells).astype(str))
    facts = {"model": "ünï", "seed": 42, "seconds": 0.5, "shared_space": True, "params": '{"a": [1]}'}
    theirs = anndata.AnnData(X=matrix, obs=obs, uns={**facts, "unembedded": 1, "n_dims": 3})
    theirs.write_h5ad(tmp_path / "theirs.h5ad")
    ours = tree(tmp_path / "ours.h5ad")
    np.testing.assert_equal(ours, tree(tmp_path / "theirs.h5ad"))

    back = anndata.read_h5ad(tmp_path / "ours.h5ad")
    np.testing.assert_array_equal(back.X, matrix)
    pd.testing.assert_frame_equal(back.obs, theirs.obs)
    assert back.uns["shared_space"] and back.uns["seed"] == 42 and back.uns["model"] == "ünï"


def test_writing_an_embedding_imports_no_anndata(split, tmp_path):
    code = (
        "import sys; from cellgauge.models.base import embed_files\n"
        "embed_files('linear', sys.argv[1:2], sys.argv[2], options={'n_components': 5})\n"
        "print(*sorted({'anndata', 'pandas', 'scanpy'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(split.path), str(tmp_path / "e.h5ad")]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr
    assert anndata.read_h5ad(tmp_path / "e.h5ad").shape == (120, 5)
