"""HDF5 files that would read other files, load code, take more memory than they are worth, or crash are refused."""

import ast
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import tiny
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.make_split import read_split
from cellgauge.data.published import open_published
from cellgauge.files import hdf5
from cellgauge.files.h5ad import open_h5, read_csr, read_row_blocks
from cellgauge.files.hdf5 import item_of, open_hdf5
from cellgauge.plan.sources import SCRIPTS

SECRET = b"SECRET-of-this-machine\n" * 200


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "cells.h5ad"
    tiny.published().write_h5ad(path)
    (tmp_path / "secret").write_bytes(SECRET)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["labels"] = np.arange(120, dtype="f4")
    return path


def external_storage(file, folder):
    del file["obs/cell_type"]
    external = [(str(folder / "secret"), 0, 120 * 16)]
    file["obs"].create_dataset("cell_type", shape=(120,), dtype="S16", external=external)


def external_link(file, folder):
    del file["obs/cell_type"]
    file["obs/cell_type"] = h5py.ExternalLink(folder / "other.h5", "/labels")


def soft_link_through_an_external_one(file, folder):
    file["way"] = h5py.ExternalLink(folder / "other.h5", "/")
    del file["obs/cell_type"]
    file["obs/cell_type"] = h5py.SoftLink("/way/labels")


def virtual(file, folder):
    del file["obs/cell_type"]
    layout = h5py.VirtualLayout(shape=(120,), dtype="f4")
    layout[:] = h5py.VirtualSource(folder / "other.h5", "labels", shape=(120,))
    file["obs"].create_virtual_dataset("cell_type", layout)


def group_in_itself(file, folder):
    file["uns/loop"] = file["uns"]


def groups_that_multiply(file, folder):
    group = file["uns"]
    for _ in range(20):
        below = group.create_group("a")
        group["b"] = below
        group = below


def shape_without_storage(file, folder):
    del file["obs/cell_type"]
    file["obs"].create_dataset("cell_type", shape=(10**12,), dtype="f8", chunks=(10**6,))


def dense_shape(file, folder):
    del file["X"]
    file.create_dataset("X", shape=(10**6, 10**6), dtype="f4", chunks=(1000, 1000))


def giant_chunk(file, folder):
    del file["X"]
    file.create_dataset(
        "X", shape=(120, 60), maxshape=(None, None), dtype="f4", chunks=(10**5, 10**4), compression="gzip"
    )


def chunk_that_inflates(file, folder):
    """A chunk of 16 kB that holds 16 MB of zeros, packed, where 29 kB belong."""
    del file["X"]
    item = file.create_dataset("X", shape=(120, 60), dtype="f4", chunks=(120, 60), compression="gzip")
    item.id.write_direct_chunk((0, 0), zlib.compress(bytes(1 << 24), 9))


def chunk_larger_than_itself(file, folder):
    del file["X"]
    item = file.create_dataset("X", shape=(120, 60), dtype="f4", chunks=(120, 60), compression="gzip")
    item.id.write_direct_chunk((0, 0), zlib.compress(bytes(1 << 26), 9))


def packed_twice(file, folder):
    del file["X"]
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((120, 60))
    plan.set_deflate(9)
    plan.set_deflate(9)
    h5py.h5d.create(file.id, b"X", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((120, 60)), plan)


REFUSED = {
    external_storage: "'obs/cell_type' is stored in another file",
    external_link: "'obs/cell_type' is a link into another file",
    soft_link_through_an_external_one: "is a link into another file",
    virtual: "'obs/cell_type' is a virtual data set",
    group_in_itself: "nested more than 32 deep",
    groups_that_multiply: "more than 20,000 objects",
    shape_without_storage: "promises 8,000,000,000,000 bytes",
    dense_shape: "promises 4,000,000,000,000 bytes",
    giant_chunk: "promises 4,000,000,000 bytes",
    chunk_that_inflates: "a chunk that inflates to more than its size",
    chunk_larger_than_itself: "a chunk that is larger than its size",
    packed_twice: "is packed more than once",
}


@pytest.mark.reliability(
    fault="an HDF5 file reads other files, multiplies, or promises more than it stores",
    provoked="external storage and links, virtual data sets, cycles, shapes and chunks of TBs, a chunk that inflates",
    outcome="refused in one sentence, nothing of the other file read",
    tries=len(REFUSED) * 3,
)
@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
def test_what_no_h5ad_needs_is_refused_by_every_opener(source, tmp_path, change, monkeypatch):
    monkeypatch.setattr(hdf5, "LARGE_CHUNK", 1 << 13)  # small files are enough
    with h5py.File(source, "r+") as file:
        change(file, tmp_path)
    for opened in (open_hdf5, open_published, open_h5):
        with pytest.raises(CellgaugeError, match=REFUSED[change]) as caught, opened(source):
            pass
        assert "SECRET" not in str(caught.value)


def test_a_file_is_walked_through_once_and_again_when_it_changed(source, tmp_path, monkeypatch):
    walks = []
    monkeypatch.setattr(hdf5._Walk, "group", lambda *args, group=hdf5._Walk.group: (walks.append(args), group(*args)))
    for _ in range(3):
        with open_hdf5(source):
            pass
    n_walks = len(walks)
    assert [args[2:] for args in walks].count(("", 0)) == 1
    with h5py.File(source, "r+") as file:
        external_link(file, tmp_path)
    for _ in range(2):  # a refused file is refused each time
        with pytest.raises(CellgaugeError, match="a link into another file"), open_hdf5(source):
            pass
    assert len(walks) > n_walks + 1


def test_a_reference_does_not_lead_round_the_check(source, tmp_path):
    """Files of anndata 0.7 point to their categories by a reference."""
    with h5py.File(source, "r+") as file:
        del file["obs/cell_type"]
        codes = file["obs"].create_dataset("cell_type", data=np.zeros(120, dtype="i1"))
        external = [(str(tmp_path / "secret"), 0, 16)]
        codes.attrs["categories"] = file.create_dataset("elsewhere", shape=(1,), dtype="S16", external=external).ref
    with open_hdf5(source, whole=False) as file, pytest.raises(CellgaugeError, match="stored in another file"):
        item_of(item_of(file, "obs"), "cell_type")


def test_a_filter_that_is_a_plug_in_is_never_looked_for(source):
    """The number of a filter that HDF5 has is changed to that of one that it would look for in a folder (zstd)."""
    with h5py.File(source, "r+") as file:
        file.create_dataset("uns/packed", data=np.arange(99), chunks=(99,), compression="lzf")
    content = source.read_bytes()
    place = content.index(b"lzf\0") - 8  # its number stands first in the message, its name last
    assert content[place : place + 2] == (32000).to_bytes(2, "little")
    source.write_bytes(content[:place] + (32015).to_bytes(2, "little") + content[place + 2 :])
    with pytest.raises(CellgaugeError, match=r"gzip and lzf \(number 32015\)"), open_hdf5(source):
        pass


def test_what_h5ad_files_do_hold_is_read(source):
    before = read_split(source, tiny.options()).data.X
    with h5py.File(source, "r+") as file:
        file["uns/soft"] = h5py.SoftLink("/X/data")
        file["uns/nowhere"] = h5py.SoftLink("/nothing")
        file["uns/hard"] = file["X/indices"]
        file["uns"].create_dataset(
            "packed", data=np.zeros((3000, 100)), compression="gzip", shuffle=True, fletcher32=True
        )
        file["uns"].create_dataset("lzf", data=np.zeros((3000, 100)), compression="lzf", shuffle=True)
        file["uns/empty"] = h5py.Empty("f4")
    assert (before != read_split(source, tiny.options()).data.X).nnz == 0


# --- sparse matrices --------------------------------------------------------------------------------------------------


def damaged(name):
    def change(group):
        data, indices, indptr = (group[part][:] for part in ("data", "indices", "indptr"))
        if name == "negative":
            indices[:5] = -5
        elif name == "beyond":
            indices[7] = 10**6
        elif name == "unsigned":
            indices = indices.astype("u8")
            indices[3] = 2**63 + 7
        elif name == "descending":
            indptr[3], indptr[4] = indptr[4], indptr[3] - 1
        elif name == "ends beyond":
            indptr[5:] = 10**9
        elif name == "first":
            indptr[0] = 3
        elif name == "negative ends":
            indptr[4] = -1
        elif name == "short":
            indptr = indptr[:-2]
        elif name == "long data":
            data = np.append(data, data)
        elif name == "real ends":
            indptr = indptr.astype("f8")
        elif name == "text":
            data = np.full(len(data), b"x")
        elif name == "complex":
            data = data.astype("c8")
        elif name == "shape":
            group.attrs["shape"] = np.array([10**12, 10**12])
        elif name == "negative shape":
            group.attrs["shape"] = np.array([-120, 60])
        elif name == "text shape":
            group.attrs["shape"] = "120x60"
        for part, values in {"data": data, "indices": indices, "indptr": indptr}.items():
            del group[part]
            group[part] = values

    return change


FAULTS = (
    *("negative", "beyond", "unsigned", "descending", "ends beyond", "first", "negative ends", "short", "long data"),
    *("real ends", "text", "complex", "shape", "negative shape", "text shape"),
)


@pytest.mark.reliability(
    fault="the parts of a sparse matrix do not fit together",
    provoked="places and ends beyond or below the matrix, shapes and types of every kind; CSR and CSC",
    outcome="one sentence, whole and in blocks; the process lives",
    tries=2 * len(FAULTS),
)
@pytest.mark.parametrize("layout", ["csr", "csc"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_sparse_matrix_is_checked_in_full(tmp_path, fault, layout):
    path = tmp_path / "cells.h5ad"
    data = tiny.published()
    data.X = data.X.asformat(layout)
    data.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        damaged(fault)(file["X"])
    with pytest.raises(CellgaugeError, match=r"cells\.h5ad: "):
        read_split(path, tiny.options())
    with pytest.raises(CellgaugeError, match=r"cells\.h5ad: "):  # some rows: another way through the matrix
        read_split(path, tiny.options(split_by="tissue", value="Large Intestine"))
    with open_h5(path) as file:
        pass
    with pytest.raises(CellgaugeError, match=r"cells\.h5ad: "), open_h5(path) as file:
        read_csr(file["X"], path)
    with pytest.raises(CellgaugeError, match=r"cells\.h5ad: "), open_h5(path) as file:
        list(read_row_blocks(file["X"], 7, path))


@settings(max_examples=examples(25))
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_blocks_and_the_whole_are_the_matrix_also_with_repeated_and_unsorted_places(tmp_path_factory, n, m, seed, size):
    rng = np.random.default_rng(seed)
    rows = [rng.integers(0, m, rng.integers(0, 2 * m)) for _ in range(n)]
    ends = np.cumsum([0, *map(len, rows)])
    values = rng.integers(1, 9, ends[-1]).astype("f4")
    expected = csr_matrix((values, np.concatenate(rows).astype("i4"), ends), shape=(n, m)).toarray()
    path = tmp_path_factory.getbasetemp() / "matrix.h5ad"
    with h5py.File(path, "w") as file:
        for name in ("obs", "var"):
            file.create_group(name)
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "shape": (n, m)})
        group["data"], group["indices"], group["indptr"] = values, np.concatenate(rows).astype("i4"), ends
    with open_h5(path) as file:
        assert (read_csr(file["X"], path).toarray() == expected).all()
        blocks = [block.toarray() for _, block in read_row_blocks(file["X"], size, path)]
    assert (np.concatenate(blocks) == expected).all()


# --- nobody else opens HDF5 -------------------------------------------------------------------------------------------


def calls(path):
    """Yield (name of the function that is called, its arguments that are constants) of a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), [arg.value for arg in node.args if isinstance(arg, ast.Constant)]


READERS = (
    "h5py.File",
    "File",
    "read_h5ad",
    "read_hdf",
    "HDFStore",
    "read_loom",
    "read_10x_h5",
    "connect",
    "AnnDataFileManager",
)


def test_no_other_module_opens_hdf5_or_arrays_for_reading():
    opened = {
        (str(path.relative_to(SCRIPTS)), name)
        for path in SCRIPTS.rglob("*.py")
        for name, constants in calls(path)
        if (name in READERS or name.rpartition(".")[2] in READERS[2:]) and not {"w", "r+"} & set(constants)
    }
    assert opened == {("cellgauge/files/hdf5.py", "h5py.File"), ("cellgauge/files/hdf5.py", "anndata.read_h5ad")}
    loaded = {
        str(path.relative_to(SCRIPTS)) for path in SCRIPTS.rglob("*.py") for name, _ in calls(path) if name == "np.load"
    }
    assert loaded <= {"cellgauge/files/neighbors.py", "cellgauge/fetch/formats.py"}  # our own; and its header alone
    yaml = {
        str(path.relative_to(SCRIPTS)) for path in SCRIPTS.rglob("*.py") for name, _ in calls(path) if "yaml." in name
    }
    assert yaml <= {f"cellgauge/{name}.py" for name in ("core/yaml_files", "fetch/ledger", *OUR_YAML)}


OUR_YAML = ("plan/config", "plan/cost")
"""Modules that read YAML of this repository, or write it."""


def test_nothing_but_fetch_knows_the_network():
    network = {
        "socket",
        "ssl",
        "http",
        "urllib3",
        "requests",
        "boto3",
        "botocore",
        "huggingface_hub",
        "ftplib",
        "aiohttp",
        "httpx",
    }
    users = set()
    for path in SCRIPTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            if any(name.partition(".")[0] in network or name.startswith("urllib.request") for name in names):
                users.add(Path(path.relative_to(SCRIPTS)).parts[1])
    assert users == {"fetch"}
