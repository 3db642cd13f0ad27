"""Embeddings as people save them: the right dimensions of the right cells, or one sentence."""

import gzip
import io

import anndata
import numpy as np
import pandas as pd
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from cellgauge.core.errors import CellgaugeError
from cellgauge.files.embedding import Embedding
from cellgauge.files.split import Split
from cellgauge.models.base import embed_files
from cellgauge.models.precomputed import looks_shuffled

N_DIMS = 12


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return Split.open(tiny.split_file(tmp_path_factory.mktemp("split")))


@pytest.fixture(scope="module")
def good(split):
    matrix = np.random.default_rng(0).normal(size=(len(split.cells), N_DIMS)).round(4).astype(np.float32)
    return pd.DataFrame(matrix, index=split.cells, columns=[f"d{i}" for i in range(N_DIMS)])


@pytest.fixture
def embed(split, tmp_path):
    def run(path, **options):
        embed_files("precomputed", [split.path], tmp_path / "e.h5ad", weights=path, options=options)
        return Embedding.read(tmp_path / "e.h5ad")

    return run


def counts_in_x(split, **obsm):
    data = anndata.AnnData(split.counts(), pd.DataFrame(index=split.cells), pd.DataFrame(index=split.genes))
    data.obsm.update(obsm)
    return data


# --- h5ad ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("genes", ["genes", "symbols"])
@pytest.mark.parametrize("scale", [lambda m: m, lambda m: m.log1p()])
def test_the_only_entry_of_obsm_is_the_embedding_and_not_the_matrix_of_genes(
    split, good, embed, tmp_path, genes, scale
):
    """UCE's own output: counts in X, the embedding in obsm (snap-stanford/UCE#50, #53)."""
    data = counts_in_x(split, X_uce=good.to_numpy())
    data.X, data.var_names = scale(data.X), getattr(split, genes)
    data.write_h5ad(tmp_path / "m.h5ad")
    found = embed(tmp_path / "m.h5ad")
    np.testing.assert_array_equal(found.matrix, good)
    assert "taken: X_uce; not taken: X" in found.uns["notes"]


@pytest.mark.parametrize("obsm", [["X_scGPT", "X_umap"], ["X_a", "X_b"]])
def test_which_of_several_entries_is_asked(split, good, embed, tmp_path, obsm):
    counts_in_x(split, **dict.fromkeys(obsm, good.to_numpy())).write_h5ad(tmp_path / "m.h5ad")
    with pytest.raises(
        CellgaugeError, match=rf"which matrix is the embedding\? Name it with `key`.*{', '.join(obsm)}, X\)"
    ):
        embed(tmp_path / "m.h5ad")
    np.testing.assert_array_equal(embed(tmp_path / "m.h5ad", key=obsm[0]).matrix, good)


def test_a_picture_is_not_taken_unasked(split, good, embed, tmp_path):
    data = anndata.AnnData(good.to_numpy(), pd.DataFrame(index=split.cells), obsm={"X_umap": good.to_numpy()[:, :2]})
    data.write_h5ad(tmp_path / "m.h5ad")
    np.testing.assert_array_equal(embed(tmp_path / "m.h5ad").matrix, good)
    counts_in_x(split, X_umap=good.to_numpy()[:, :2]).write_h5ad(tmp_path / "m.h5ad")
    with pytest.raises(CellgaugeError, match="this looks like counts"):
        embed(tmp_path / "m.h5ad")


def test_an_embedding_in_x_beside_another_in_obsm_is_asked(split, good, embed, tmp_path):
    data = anndata.AnnData(good.to_numpy(), pd.DataFrame(index=split.cells), obsm={"X_other": good.to_numpy()})
    data.write_h5ad(tmp_path / "m.h5ad")
    with pytest.raises(CellgaugeError, match="which matrix is the embedding"):
        embed(tmp_path / "m.h5ad")


@pytest.mark.parametrize("options", [{}, {"key": "X"}])
def test_counts_are_no_embedding(split, embed, tmp_path, options):
    data = counts_in_x(split)
    data.write_h5ad(tmp_path / "m.h5ad")
    with pytest.raises(
        CellgaugeError, match=r"this looks like counts .* 60 of 60 of the columns of X are genes of split"
    ):
        embed(tmp_path / "m.h5ad", **options)
    data.var_names = [f"x{i}" for i in range(60)]
    data.write_h5ad(tmp_path / "m.h5ad")
    with pytest.raises(
        CellgaugeError, match="this looks like counts, not like an embedding: it has only whole numbers"
    ):
        embed(tmp_path / "m.h5ad", **options)


def test_counts_in_a_table_are_no_embedding(split, embed, tmp_path):
    frame = pd.DataFrame(split.counts().toarray(), index=split.cells, columns=split.symbols)
    frame.to_csv(tmp_path / "m.csv")
    with pytest.raises(CellgaugeError, match="60 of 60 of its columns are genes"):
        embed(tmp_path / "m.csv", columns="*")
    np.save(tmp_path / "m.npy", frame.to_numpy())
    with pytest.raises(CellgaugeError, match="only whole numbers"):
        embed(tmp_path / "m.npy", align="row")


# --- tables: ways of writing -----------------------------------------------------------------------------------------


def text(frame, **how):
    return frame.to_csv(**{"index_label": "cell", **how})


WAYS = {
    "pandas": lambda f: text(f),
    "no name of the index": lambda f: f.to_csv(),
    "integer columns": lambda f: f.set_axis(range(N_DIMS), axis=1).to_csv(),
    "R write.csv": lambda f: text(f, quoting=2).replace('"cell"', '""', 1),
    "R write.table": lambda f: text(f, sep=" ", quoting=2).replace('"cell" ', "", 1),
    "R write.table, tabs": lambda f: text(f, sep="\t").replace("cell\t", "", 1),
    "German Excel": lambda f: text(f, sep=";", decimal=","),
    "Excel with its line": lambda f: "sep=;\n" + text(f, sep=";"),
    "tabs in a csv": lambda f: text(f, sep="\t"),
    "tabs and decimal commas": lambda f: text(f, sep="\t", decimal=","),
    "a comma at the end of each line": lambda f: text(f).replace("\n", ",\n"),
    "a comma at the end of each row": lambda f: text(f).replace("\n", ",\n").replace(",\n", "\n", 1),
    "row numbers before the ids": lambda f: f.rename_axis("cell_id").reset_index().to_csv(),
    "R's row numbers": lambda f: (
        f.rename_axis("cell_id").reset_index().set_axis(range(1, len(f) + 1)).to_csv(index_label="X")
    ),
    "blanks in the header": lambda f: text(f).replace(",d", ", d", N_DIMS),
    "blanks around the ids": lambda f: text(f.set_axis([f" {name} " for name in f.index])),
    "scientific": lambda f: text(f, float_format="%.10e"),
}
ENCODINGS = {
    "utf-8": lambda content: content.encode(),
    "a BOM": lambda content: b"\xef\xbb\xbf" + content.encode(),
    "UTF-16": lambda content: content.encode("utf-16"),
    "Windows' line ends": lambda content: content.replace("\n", "\r\n").encode(),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["m.csv", "m.txt.gz"])
def test_ways_of_writing_a_table(good, embed, tmp_path, way, encoding, name):
    content = ENCODINGS[encoding](WAYS[way](good))
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    np.testing.assert_array_equal(embed(tmp_path / name).matrix, good)


def test_integer_ids(tmp_path, good):
    data = tiny.published()
    data.obs_names = [str(1000 + i) for i in range(120)]
    data.write_h5ad(tmp_path / "p.h5ad")
    from cellgauge.data.make_split import make_split

    make_split(tmp_path / "p.h5ad", tmp_path / "s.h5ad", tiny.options())
    frame = good.set_axis(range(1000, 1120)).sample(frac=1, random_state=0)
    frame.reset_index(names="barcode").to_parquet(tmp_path / "a.parquet")
    frame.to_parquet(tmp_path / "b.parquet")
    frame.to_csv(tmp_path / "c.csv")
    frame.reset_index(names="cell").astype({"cell": float}).to_parquet(tmp_path / "d.parquet")
    for path in sorted(tmp_path.glob("[abcd].*")):
        embed_files("precomputed", [tmp_path / "s.h5ad"], tmp_path / "e.h5ad", weights=path)
        np.testing.assert_array_equal(Embedding.read(tmp_path / "e.h5ad").matrix, good)


def test_row_numbers_are_neither_ids_nor_dimensions(good, embed, tmp_path):
    good.set_axis(range(120)).reset_index(names="cell").to_parquet(tmp_path / "m.parquet")
    with pytest.raises(CellgaugeError, match="holds no cell ids; add them, or set `align: row`"):
        embed(tmp_path / "m.parquet")
    np.testing.assert_array_equal(embed(tmp_path / "m.parquet", align="row").matrix, good)


def test_lists_are_dimensions(good, embed, tmp_path):
    frame = pd.DataFrame({"cell": good.index, "embedding": list(good.to_numpy())})
    frame.to_parquet(tmp_path / "m.parquet")
    np.testing.assert_array_equal(embed(tmp_path / "m.parquet").matrix, good)
    frame["embedding"] = [row[: 3 + n % 2] for n, row in enumerate(good.to_numpy())]
    frame.to_parquet(tmp_path / "m.parquet")
    with pytest.raises(CellgaugeError, match="the lists of column 'embedding' differ in length"):
        embed(tmp_path / "m.parquet")
    frame["embedding"] = [str(row.tolist()) for row in good.to_numpy()]
    frame.to_csv(tmp_path / "m.csv", index=False)
    with pytest.raises(
        CellgaugeError, match=r"column 'embedding' holds text \(such as '\[.*write one column per dimension"
    ):
        embed(tmp_path / "m.csv")


# --- tables: which columns -------------------------------------------------------------------------------------------

OTHERS = {
    "n_counts": lambda n: np.arange(n) * 7 % 1000,
    "total_counts": lambda n: np.linspace(10, 1e4, n),
    "leiden": lambda n: np.arange(n) % 9,
    "cluster1": lambda n: np.arange(n) % 3,
    "cell_type": lambda n: np.asarray(tiny.TYPES)[np.arange(n) % 3],
    "is_doublet": lambda n: np.arange(n) % 2 == 0,
    "umap1": lambda n: np.linspace(-4, 4, n),
    "": lambda n: np.linspace(-4, 4, n),
}


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("place", [0, 5, N_DIMS])
def test_other_columns_are_refused_by_name_or_left_out_when_told(good, embed, tmp_path, form, name, place):
    frame = good.copy()
    frame.insert(place, name, OTHERS[name](len(frame)))
    path = tmp_path / f"m.{form}"
    frame.to_csv(path, index_label="cell") if form == "csv" else frame.rename_axis("cell").to_parquet(path)
    with pytest.raises(CellgaugeError) as error:
        embed(path)
    assert f"{name} (" in str(error.value) and 'for example `columns: "d*"`' in str(error.value)
    np.testing.assert_array_equal(embed(path, columns="d*").matrix, good)
    np.testing.assert_array_equal(embed(path, columns=["d?", "d1*"]).matrix, good)
    with pytest.raises(CellgaugeError, match="no column is called 'z\\*'"):
        embed(path, columns=["d*", "z*"])


@pytest.mark.parametrize(
    "names", [list("abcdefghijkl"), [f"{n}_factor" for n in range(12)], [f"UMAP_{n:03}" for n in range(12)]]
)
def test_dimensions_may_have_any_names_of_one_kind(good, embed, tmp_path, names):
    good.set_axis(names, axis=1).to_csv(tmp_path / "m.csv")
    np.testing.assert_array_equal(embed(tmp_path / "m.csv").matrix, good)
    good.set_axis(names, axis=1).assign(n_genes=range(120)).to_csv(tmp_path / "m.csv")
    with pytest.raises(CellgaugeError, match=r"n_genes \(whole numbers\) do not look like dimensions"):
        embed(tmp_path / "m.csv")


# --- rows ------------------------------------------------------------------------------------------------------------


def test_shuffled_rows_are_warned_of(split, good, embed, tmp_path, capsys):
    expression = np.log1p(split.counts().toarray())
    points = np.linalg.svd(expression - expression.mean(axis=0), full_matrices=False)[0][:, :5]
    np.save(tmp_path / "right.npy", points)
    np.save(tmp_path / "wrong.npy", np.random.default_rng(0).permutation(points))
    assert "notes" not in embed(tmp_path / "right.npy", align="row").uns and "shuffled" not in capsys.readouterr().err
    assert "its rows look shuffled" in embed(tmp_path / "wrong.npy", align="row").uns["notes"]
    assert "wrong.npy: its rows look shuffled" in capsys.readouterr().err
    wrong = [looks_shuffled(np.random.default_rng(seed).permutation(points), split) for seed in range(40)]
    assert np.mean(wrong) > 0.9


def test_cells_without_a_row_are_counted(good, embed, tmp_path, capsys):
    good.iloc[:30].to_csv(tmp_path / "m.csv")
    assert embed(tmp_path / "m.csv").uns["unembedded"] == 90
    assert "m.csv: 90 of 120 cells have no row" in capsys.readouterr().err


# --- one thing wrong -------------------------------------------------------------------------------------------------


def _cell(frame, draw):
    return draw(st.integers(0, len(frame) - 1)), draw(st.integers(0, N_DIMS - 1))


VALUES = (
    "",
    "NA",
    "n.d.",
    "inf",
    "-inf",
    "1,5",
    "0,25",
    "1.234,5",
    "#DIV/0!",
    "TRUE",
    "2024-01-02",
    "nan",
    "1e400",
    "٣",
    "0x10",
)


@st.composite
def broken(draw, good):
    """Return (file name, bytes) of a good table with one thing wrong."""
    kind = draw(st.sampled_from(["value", "line", "bytes", "cut", "column", "ids", "header"]))
    way = WAYS[draw(st.sampled_from(sorted(WAYS)))]
    if kind == "value":
        frame = good.astype(object)
        frame.iloc[_cell(frame, draw)] = draw(st.sampled_from(VALUES))
        content = way(frame).encode()
    elif kind == "column":
        frame, name = good.copy(), draw(st.sampled_from([*OTHERS, "d3", "d", "2", "batch", "s1"]))
        values = OTHERS.get(name, OTHERS["total_counts"])(len(frame))
        frame.insert(draw(st.integers(0, N_DIMS)), name, values, allow_duplicates=True)
        content = text(frame).encode()
    elif kind == "ids":
        ids = good.index.to_list()
        ids[draw(st.integers(0, 119))] = draw(st.sampled_from(["", "NA", "human-cell5", "5", "other"]))
        content = way(good.set_axis(ids)).encode()
    elif kind == "header":
        content = draw(
            st.sampled_from([text(good, header=False), "# made by me\n" + text(good), "\n" + text(good)])
        ).encode()
    else:
        lines = way(good).splitlines(keepends=True)
        row = draw(st.integers(0, len(lines) - 1))
        if kind == "line":
            lines[row] = draw(
                st.sampled_from(["", "\n", lines[row] * 2, lines[row].strip() + ",7,7\n", lines[row][:9] + "\n"])
            )
        content = "".join(lines).encode()
        place = draw(st.integers(0, len(content) - 1))
        if kind == "bytes":
            content = content[:place] + draw(st.binary(min_size=1, max_size=3)) + content[place + 1 :]
        elif kind == "cut":
            content = content[:place]
    return draw(st.sampled_from(["m.csv", "m.tsv", "m.txt"])), content, kind


@settings(max_examples=200)
@given(data=st.data(), align=st.sampled_from(["id", "row"]))
def test_a_table_with_one_thing_wrong_is_right_or_one_sentence(split, good, tmp_path_factory, data, align):
    folder = tmp_path_factory.mktemp("broken")
    name, content, kind = data.draw(broken(good))
    (folder / name).write_bytes(content)
    try:
        embed_files("precomputed", [split.path], folder / "e.h5ad", weights=folder / name, options={"align": align})
    except CellgaugeError as error:
        assert str(error) and "\n" not in str(error) and not (folder / "e.h5ad").exists()
        return
    found = Embedding.read(folder / "e.h5ad").matrix
    assert found.shape == good.shape
    same = (found == good.to_numpy()) | np.isnan(found)
    if kind in ("bytes", "cut"):  # a digit may be another, and a last number shorter
        assert (~same).sum() <= 1
    else:
        assert same.all() and np.isnan(found).all(axis=1).sum() <= 2  # a quote left open takes two lines for one


@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_binary_file_is_one_sentence(split, good, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("broken")
    form = data.draw(st.sampled_from(["npz", "npy", "parquet", "h5ad"]))
    whole = io.BytesIO()
    if form == "npz":
        np.savez(whole, embedding=good.to_numpy(), cells=good.index.to_numpy(dtype=str))
    elif form == "npy":
        np.save(whole, good.to_numpy())
    elif form == "parquet":
        good.to_parquet(whole)
    else:
        counts_in_x(split, X_m=good.to_numpy()).write_h5ad(folder / "whole.h5ad")
        whole = io.BytesIO((folder / "whole.h5ad").read_bytes())
    content = whole.getvalue()
    (folder / f"m.{form}").write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    options = {"align": "row"} if form == "npy" else {}
    with pytest.raises(CellgaugeError) as error:
        embed_files("precomputed", [split.path], folder / "e.h5ad", weights=folder / f"m.{form}", options=options)
    assert str(error.value) and "\n" not in str(error.value)
