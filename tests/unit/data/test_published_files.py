"""Published files of every age and with one thing wrong: the right split, or one sentence."""

import gzip
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import pandas as pd
import pytest
import tiny
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_matrix, csr_matrix

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.make_split import make_split, read_split
from cellgauge.files.split import Split


@pytest.fixture
def data():
    return tiny.published()


@pytest.fixture
def read(tmp_path, data):
    def run(name="p.h5ad", **changes):
        if not (tmp_path / name).exists():
            data.write_h5ad(tmp_path / name)
        return read_split(tmp_path / name, tiny.options(**changes))

    return run


def counts(made):
    return made.data.X.toarray()


# --- layouts ---------------------------------------------------------------------------------------------------------


def write_old(path, data):
    """Write the layout of anndata 0.6: tables as compound datasets, categories as codes with their names in uns."""
    label, donor = pd.Categorical(data.obs["cell_type"]), pd.Categorical(data.obs["donor_id"])
    text = h5py.string_dtype()
    with h5py.File(path, "w") as file:
        matrix = file.create_group("X")
        matrix.attrs["h5sparse_format"], matrix.attrs["h5sparse_shape"] = "csr", data.shape
        for part in ("data", "indices", "indptr"):
            matrix.create_dataset(part, data=getattr(data.X, part))
        obs = np.zeros(data.n_obs, dtype=[("index", text), ("cell_type", "i1"), ("donor_id", "i1")])
        obs["index"], obs["cell_type"], obs["donor_id"] = data.obs_names, label.codes, donor.codes
        file["obs"] = obs
        var = np.zeros(data.n_vars, dtype=[("index", text), ("feature_name", text)])
        var["index"], var["feature_name"] = data.var_names, data.var["feature_name"]
        file["var"] = var
        for name, column in (("cell_type", label), ("donor_id", donor)):
            file.create_dataset(f"uns/{name}_categories", data=np.asarray(column.categories, dtype=object), dtype=text)


def test_a_file_of_anndata_0_6(read, data, tmp_path):
    write_old(tmp_path / "p.h5ad", data)
    made = read(batch="donor_id")
    assert (counts(made) == data.X.toarray()).all()
    assert (made.data.obs["label"].astype(str) == data.obs["cell_type"].astype(str)).all()
    assert (made.data.obs["donor"].astype(str) == data.obs["donor_id"].astype(str)).all()
    part = read(batch="donor_id", cells={"donor_id": ["donor1"]})
    assert (counts(part) == data.X.toarray()[(data.obs["donor_id"] == "donor1").to_numpy()]).all()


@pytest.mark.parametrize("absent", [True, False])
def test_counts_in_a_layer_and_no_x(read, data, tmp_path, absent):
    data.layers["counts"] = data.X.copy()
    del data.X
    data.write_h5ad(tmp_path / "p.h5ad")
    with h5py.File(tmp_path / "p.h5ad", "a") as file:
        if "X" in file:
            del file["X"]
        if not absent:
            kind = {"encoding-type": "null", "encoding-version": "0.1.0"}
            file.create_dataset("X", data=h5py.Empty("f")).attrs.update(kind)
    assert counts(read(counts="layers/counts")).sum() == data.layers["counts"].sum()
    with pytest.raises(
        CellgaugeError, match=r"no matrix 'X' for counts \(found: layers/counts\); name the one that holds"
    ):
        read()


@pytest.mark.parametrize("kind", ["float16", "uint8", "int64", "float64", "bool"])
@pytest.mark.parametrize("form", [np.asarray, csr_matrix, csc_matrix])
@pytest.mark.parametrize("part", [{}, {"cells": {"tissue": "Lung"}}])
def test_every_type_of_number(read, data, tmp_path, kind, form, part):
    expected = data.X.toarray().astype(kind).astype(float)
    data.X = form(data.X.toarray().astype("float32" if kind == "float16" else kind))
    data.write_h5ad(tmp_path / "p.h5ad")
    if kind == "float16":
        with h5py.File(tmp_path / "p.h5ad", "a") as file:
            place = "X" if form is np.asarray else "X/data"
            values, about = file[place][:].astype("float16"), dict(file[place].attrs)
            del file[place]
            file.create_dataset(place, data=values).attrs.update(about)
    rows = (data.obs["tissue"] == "Lung").to_numpy() if part else slice(None)
    assert (counts(read(**part)) == expected[rows]).all()


def test_other_files_are_refused_with_what_to_do(data, tmp_path):
    data.write_h5ad(tmp_path / "plain.h5ad")
    packed = tmp_path / "GSE1_atlas.h5ad.gz"
    with (tmp_path / "plain.h5ad").open("rb") as source, gzip.open(packed, "wb") as target:
        shutil.copyfileobj(source, target)
    with h5py.File(tmp_path / "tenx.h5", "w") as file:
        file["matrix/barcodes"] = np.asarray(data.obs_names, dtype="S")
    with h5py.File(tmp_path / "a.loom", "w") as file:
        file.create_group("row_attrs"), file.create_group("col_attrs")
    with h5py.File(tmp_path / "a.h5mu", "w") as file:
        file.create_group("mod/rna"), file.create_group("obs")
    with h5py.File(tmp_path / "a.h5seurat", "w") as file:
        file.create_group("assays/RNA")
    data.write_zarr(tmp_path / "my atlas's.zarr")
    (tmp_path / "filtered").mkdir()
    (tmp_path / "filtered/matrix.mtx.gz").touch()
    (tmp_path / "counts.csv").write_text("a,b\n1,2\n")
    (tmp_path / "book.xlsx").write_bytes(b"PK\x03\x04rest")
    expected = {
        "GSE1_atlas.h5ad.gz": "gunzip -k GSE1_atlas.h5ad.gz",
        "tenx.h5": "scanpy.read_10x_h5",
        "a.loom": "scanpy.read_loom",
        "a.h5mu": "mudata.read",
        "a.h5seurat": "SeuratDisk::Convert",
        "my atlas's.zarr": "anndata.read_zarr",
        "filtered": "scanpy.read_10x_mtx",
        "counts.csv": "scanpy.read_csv",
        "book.xlsx": "Excel",
        "nothing.h5ad": "no such file",
    }
    for name, words in expected.items():
        with pytest.raises(CellgaugeError) as error:
            read_split(tmp_path / name, tiny.options())
        assert words in str(error.value) and "\n" not in str(error.value)


def test_the_command_for_a_zarr_folder_converts_it(data, tmp_path):
    import subprocess
    import sys

    data.write_zarr(tmp_path / "my atlas's.zarr")
    with pytest.raises(CellgaugeError) as error:
        read_split(tmp_path / "my atlas's.zarr", tiny.options())
    command = str(error.value).partition("convert it: ")[2].replace("python", sys.executable, 1)
    subprocess.run(["bash", "-c", command], check=True, cwd=tmp_path, capture_output=True)
    assert counts(read_split(tmp_path / "my atlas's.h5ad", tiny.options())).sum() == data.X.sum()


# --- columns ---------------------------------------------------------------------------------------------------------

MISSING = {
    "categorical": lambda values: pd.Categorical(values),
    "nullable text": lambda values: pd.array([None if v is np.nan else v for v in values], dtype="string"),
    "text": lambda values: ["" if v is np.nan else v for v in values],
    "words": lambda values: [["nan", "NA", "None", " N/A "][n % 4] if v is np.nan else v for n, v in enumerate(values)],
}


@pytest.mark.parametrize("form", MISSING)
def test_a_missing_donor_is_no_donor(read, data, form):
    """NaN was a donor called "nan", and donor-held-out folds leaked (lueckenlab/scAtlasTb#145)."""
    donors = data.obs["donor_id"].astype(object).to_numpy()
    donors[::3] = np.nan
    data.obs["donor_id"] = MISSING[form](donors)
    made = read(batch="donor_id", keep=["donor_id"])
    for name in ("donor", "batch", "donor_id"):
        column = made.data.obs[name].astype(str)
        assert (column[::3] == "").all() and set(column) == {"", "donor0", "donor1", "donor2", "donor3"}
    assert any("40 of 120 cells have no donor in column 'donor_id'" in note for note in made.notes)
    assert any("'nan' (10)" in note for note in made.notes) == (form == "words")


def test_joined_batches_are_missing_where_a_part_is(read, data):
    data.obs["empty"] = np.nan
    data.obs["assay"] = data.obs["assay"].where(np.arange(120) > 4)
    batches = read(batch=["assay", "empty", "donor_id"]).data.obs["batch"].astype(str)
    assert (batches[:5] == "").all() and set(batches[5:]) == {f"10x|donor{i}" for i in range(4)}


def test_numbers_in_columns_are_read_as_they_are_written(read, data):
    data.obs["donor_id"] = [np.nan, *range(1, 120)]
    made = read(batch=(), split_by="donor_id", value="7")
    assert made.data.n_obs == 1 and made.data.obs["donor"].tolist() == ["7"]


def test_labels_never_share_a_name_in_tables(read, data):
    names = data.obs["cell_type"].astype(object).to_numpy()
    names[:8] = ["T cell ", "\tT  cell", "T\ncell", "T cell\u200b", "T\N{NO-BREAK SPACE}cell", "nan", "NA", "None"]
    data.obs["cell_type"] = pd.Categorical(names)
    with pytest.raises(
        CellgaugeError, match=r"3 of 120 cells have no label in column 'cell_type' \(the text 'nan', 'NA', "
    ):
        read()
    made = read(missing_labels="drop")
    assert set(made.data.obs["label"]) == set(tiny.TYPES) and made.data.n_obs == 117
    assert (made.data.obs["label"].astype(str)[:5] == "T cell").all()


def test_cells_are_chosen_by_columns(read, data):
    made = read(cells={"donor_id": ["donor1", "donor3"], "tissue": "Lung"})
    chosen = data.obs["donor_id"].isin(["donor1", "donor3"]) & (data.obs["tissue"] == "Lung")
    assert made.data.obs_names.tolist() == data.obs_names[chosen].tolist()
    with pytest.raises(CellgaugeError, match=r"no cell has donor_id = 'donor9' \(found: donor0, donor1"):
        read(cells={"donor_id": "donor9"})
    with pytest.raises(CellgaugeError, match="no column 'donor' for cells"):
        read(cells={"donor": "donor1"})


# --- genes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [np.nan, None, "", "nan", "NA"])
def test_genes_without_an_id_are_called_by_their_symbol(read, data, missing):
    ids = data.var_names.to_series().astype(object)
    symbols = data.var["feature_name"].astype(object)
    ids.iloc[[3, 7, 9]] = missing
    symbols.iloc[[5, 9]] = missing
    data.var["ensembl"], data.var["symbol"] = ids.to_numpy(), symbols.to_numpy()
    made = read(ensembl="ensembl", symbol="symbol")
    names = made.data.var_names.tolist()
    assert (names[3], names[7], made.data.var["feature_name"].iloc[5]) == ("GENE3", "GENE7", "ENSG00000000005")
    assert made.data.n_vars == 59 and (counts(made) == np.delete(data.X.toarray(), 9, axis=1)).all()
    assert any("1 of 60 genes have no id and no symbol" in note for note in made.notes)


# --- counts ----------------------------------------------------------------------------------------------------------


def rounded_off(data):
    """Return counts got back from log1p(normalised) in float32: whole numbers but for rounding."""
    matrix = data.X.astype(np.float32) * 100
    scale = np.repeat(1e4 / np.asarray(matrix.sum(axis=1)).ravel(), np.diff(matrix.indptr)).astype(np.float32)
    matrix.data = np.expm1(np.log1p(matrix.data * scale)) / scale
    return matrix


def test_counts_off_by_rounding(read, data):
    expected = data.X.toarray() * 100
    data.X = rounded_off(data)
    with pytest.raises(
        CellgaugeError,
        match=r"are not whole numbers \(such as \d+\.\d+\); they have rounding errors of .* `round: true`",
    ):
        read()
    assert (counts(read(round=True)) == expected).all()


def test_corrected_counts_are_told_from_counts_off_by_rounding(read, data):
    data.X.data[:50] += 0.4
    for to_round in (False, True):
        with pytest.raises(CellgaugeError, match="they look like corrected counts"):
            read(round=to_round)


# --- one thing wrong -------------------------------------------------------------------------------------------------


@cache
def paths():
    """Return every group and dataset of a published file."""
    names = []
    with TemporaryDirectory() as folder:
        tiny.published(30, 20).write_h5ad(Path(folder) / "p.h5ad")
        with h5py.File(Path(folder) / "p.h5ad") as file:
            file.visit(names.append)
    return tuple(name for name in names if not name.startswith(("uns", "obsp", "varp")))


ARRAYS = (
    lambda item: np.asarray([], dtype="float32"),
    lambda item: np.zeros((3, 3), dtype="int64"),
    lambda item: np.full(item.shape or (1,), -1, dtype="int32"),
    lambda item: np.full(item.shape or (1,), np.nan),
    lambda item: np.full(item.shape or (1,), 1e9),
    lambda item: np.asarray([b"a", b"b"]),
    lambda item: np.full(item.shape or (1,), 2**40, dtype="int64"),
    lambda item: item[()][:-1] if item.shape else np.float32(1),
    lambda item: np.concatenate([item[()], item[()][-1:]]) if item.shape else np.float32(1),
    lambda item: item[()][::-1] if item.shape else np.float32(1),
    lambda item: np.full(item.shape or (1,), 1 + 2j),
    lambda item: h5py.Empty("f"),
)


@settings(max_examples=examples(50))
@given(path=st.sampled_from(paths()), how=st.integers(-2, len(ARRAYS) - 1), part=st.booleans())
def test_a_damaged_file_is_one_sentence_or_right(tmp_path_factory, path, how, part):
    folder = tmp_path_factory.mktemp("damaged")
    data = tiny.published(30, 20)
    data.write_h5ad(folder / "p.h5ad")
    with h5py.File(folder / "p.h5ad", "a") as file:
        item = file[path]
        about = dict(item.attrs)
        if how == -1:
            del file[path]
        elif how == -2:
            item.attrs["encoding-type"] = "something new"
        elif isinstance(item, h5py.Dataset):
            values = ARRAYS[how](item)
            del file[path]
            file.create_dataset(path, data=values).attrs.update(about)
    options = tiny.options(cells={"tissue": "Lung"} if part else {})
    options = options if part else {key: value for key, value in options.items() if key != "cells"}
    try:
        make_split(folder / "p.h5ad", folder / "s.h5ad", options)
    except CellgaugeError as error:
        assert str(error) and "\n" not in str(error) and not (folder / "s.h5ad").exists()
        return
    if not path.startswith(("X", "obs/tissue", "obs/_index")):
        rows = (data.obs["tissue"] == "Lung").to_numpy() if part else slice(None)
        found = Split.open(folder / "s.h5ad")
        places = [n for n, symbol in enumerate(data.var["feature_name"]) if symbol in set(found.symbols)]
        if not path.startswith("var"):
            assert len(places) == data.n_vars
        assert len(found.genes) != len(places) or (found.counts().toarray() == data.X.toarray()[rows][:, places]).all()
        if not path.startswith("obs"):
            assert (found.column("label") == data.obs["cell_type"].astype(str).to_numpy()[rows]).all()
