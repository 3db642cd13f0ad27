"""Variable genes and principal components: scanpy's, without scanpy."""

import warnings
from itertools import pairwise

import anndata
import numba
import numpy as np
import pytest
import scanpy
import tiny
from scipy.sparse import csr_matrix, vstack

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.expression import counts_of, join_species, principal_components
from cellgauge.data.make_split import make_split
from cellgauge.data.variable_genes import Counts, _moments, _normalized_dispersions, variable_expression, variable_genes
from cellgauge.files.split import Split


@pytest.fixture(autouse=True)
def one_thread():
    """Make scanpy add cell by cell: with more threads it adds in another order, and the last bits differ."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scanpy warns about cells without counts
        yield
    numba.set_num_threads(before)


def scanpys(parts, n_top_genes, names):
    """Return scanpy's data and table of genes for several matrices."""
    data = anndata.AnnData(vstack(parts, format="csr").astype(np.float32))
    data.var_names = names
    data.obs["part"] = np.repeat([f"part{i}" for i in range(len(parts))], [part.shape[0] for part in parts])
    scanpy.pp.normalize_total(data)
    scanpy.pp.log1p(data)
    options = {"n_top_genes": min(n_top_genes, data.n_vars), "batch_key": "part" if len(parts) > 1 else None}
    return data, scanpy.pp.highly_variable_genes(data, inplace=False, **options)


def in_blocks(matrix, size=7):
    return Counts(lambda: (matrix[first : first + size] for first in range(0, matrix.shape[0], size)))


def counts(n_cells, n_genes, seed=0, density=1.0):
    generator = np.random.default_rng(seed)
    rates = generator.gamma(0.3, 2.0, n_genes) * generator.gamma(5.0, 0.2, (n_cells, 1))
    return generator.poisson(rates) * (generator.random((n_cells, n_genes)) < density)


def plain():
    return [counts(90, 200)], 50


def genes_and_cells_without_counts():
    matrix = counts(90, 200)
    matrix[:, ::3] = 0
    matrix[::11] = 0
    return [matrix], 50


def ties():
    matrix = counts(40, 100, density=0.1)
    return [np.hstack([matrix, matrix, matrix])], 50


def fewer_genes_than_asked_for():
    return [counts(40, 30)], 100


def fewer_varying_genes_than_asked_for():
    matrix = counts(40, 60)
    matrix[:, 20:] = 0
    return [matrix], 30


def two_cells():
    return [counts(2, 50)], 20


def parts_of_several_sizes():
    return [counts(80, 150), counts(31, 150, seed=1), counts(9, 150, seed=2), counts(50, 150, seed=3, density=0.2)], 40


def genes_absent_in_a_part():
    parts = [counts(60, 150), counts(50, 150, seed=1), counts(40, 150, seed=2)]
    parts[0][:, :70] = parts[1][:, 50:100] = parts[2][:, 90:] = 0
    return parts, 40


def parts_that_tie():
    return [counts(25, 120, density=0.1), counts(20, 120, seed=1, density=0.1)], 110


CASES = [
    plain,
    genes_and_cells_without_counts,
    ties,
    fewer_genes_than_asked_for,
    fewer_varying_genes_than_asked_for,
    two_cells,
    parts_of_several_sizes,
    genes_absent_in_a_part,
    parts_that_tie,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_genes_and_expression_are_scanpys(case):
    parts, n_top_genes = case()
    parts = [csr_matrix(part.astype(np.float32)) for part in parts]
    names = np.random.default_rng(5).permutation([f"gene{i}" for i in range(parts[0].shape[1])]).astype(object)
    data, table = scanpys(parts, n_top_genes, names)
    genes, expression = variable_expression([in_blocks(part) for part in parts], n_top_genes, names)
    np.testing.assert_array_equal(genes, np.flatnonzero(table["highly_variable"]))
    np.testing.assert_array_equal(expression.toarray(), data.X[:, genes].toarray())
    np.testing.assert_array_equal(variable_genes([in_blocks(part, 1000) for part in parts], n_top_genes, names), genes)
    if len(parts) == 1:
        means, variances = _moments([data.X])
        np.testing.assert_array_equal(_normalized_dispersions(means, variances), table["dispersions_norm"])


@pytest.mark.parametrize("seed", range(30))
def test_any_counts_give_scanpys_genes(seed):
    """Small unusual cases: ties, genes and cells without counts, bins of one gene; never so few counts that scanpy fails."""
    generator = np.random.default_rng(seed)
    n_cells, n_genes = generator.integers(20, 150), generator.integers(10, 200)
    matrix = csr_matrix(counts(n_cells, n_genes, seed, density=generator.choice([0.15, 0.4, 1])).astype(np.float32))
    n_parts = generator.integers(1, 4)
    bounds = np.linspace(0, n_cells, n_parts + 1).astype(int)
    parts = [matrix[first:last] for first, last in pairwise(bounds)]
    names = generator.permutation([f"gene{i}" for i in range(n_genes)]).astype(object)
    n_top_genes = int(generator.integers(1, n_genes + 5))
    _, table = scanpys(parts, n_top_genes, names)
    result = variable_genes([in_blocks(part) for part in parts], n_top_genes, names)
    np.testing.assert_array_equal(result, np.flatnonzero(table["highly_variable"]))


def test_components_are_scanpys():
    data, table = scanpys([csr_matrix(counts(90, 200).astype(np.float32))], 50, [f"gene{i}" for i in range(200)])
    data = data[:, table["highly_variable"]].copy()
    scanpy.pp.pca(data, n_comps=20, random_state=7)
    result = principal_components(data.X, 20, seed=7)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, data.obsm["X_pca"])


def test_real_cells_of_one_and_of_two_species_give_scanpys_genes(baron, tmp_path):
    """All cells of the mouse pancreas alone, and the genes with the same name in human and mouse over the cells of both."""
    options = {"dataset": "baron", "label": "cell_ontology_class", "batch": "donor"}
    splits = []
    for organism, path in zip(baron._fields, baron, strict=True):
        make_split(path, tmp_path / f"{organism}.h5ad", {**options, "split": organism, "organism": organism})
        splits.append(Split.open(tmp_path / f"{organism}.h5ad"))
    human, mouse = splits
    _, table = scanpys([mouse.counts()], 3000, mouse.genes)
    np.testing.assert_array_equal(variable_genes([counts_of(mouse)], 3000), np.flatnonzero(table["highly_variable"]))

    upper = {name.upper(): position for position, name in enumerate(mouse.symbols)}
    shared = [position for position, name in enumerate(human.symbols) if name in upper]
    columns = [np.asarray(shared), np.asarray([upper[name] for name in human.symbols[shared]])]
    _, table = scanpys(
        [s.counts()[:, genes] for s, genes in zip(splits, columns, strict=True)], 3000, human.symbols[shared]
    )
    parts = [counts_of(split, genes) for split, genes in zip(splits, columns, strict=True)]
    result = variable_genes(parts, 3000, human.symbols[shared])
    np.testing.assert_array_equal(result, np.flatnonzero(table["highly_variable"]))


def test_mostly_empty_cells_are_scaled_to_the_median_of_the_others():
    matrix = counts(30, 40).astype(np.float32) + 1
    empty = np.zeros((50, 40), dtype=np.float32)
    genes, expression = variable_expression([in_blocks(csr_matrix(np.vstack([empty, matrix])))], 10)
    totals = matrix.sum(axis=1, keepdims=True)
    expected = np.log1p(matrix / (totals / np.median(totals)))[:, genes]
    np.testing.assert_allclose(expression.toarray(), np.vstack([empty[:, genes], expected]), rtol=1e-6)


def test_parts_that_cannot_be_ranked_leave_the_choice_to_the_others():
    part = csr_matrix(counts(60, 80).astype(np.float32))
    names = [f"gene{i}" for i in range(80)]
    alone = variable_genes([in_blocks(part)], 20)
    one_cell, none = csr_matrix(np.ones((1, 80), dtype=np.float32)), csr_matrix((5, 80), dtype=np.float32)
    result = variable_genes([in_blocks(part), in_blocks(one_cell), in_blocks(none)], 20, names)
    assert len(set(result) & set(alone)) > 15  # scaled to another median


@pytest.mark.parametrize(
    "matrix, words",
    [
        (np.zeros((3, 4)), "no cell has a count"),
        (np.ones((1, 4)), "no gene varies"),
        (np.ones((5, 4)), "no gene varies"),
    ],
)
def test_nothing_to_choose_is_an_error(matrix, words):
    with pytest.raises(CellgaugeError, match=words):
        variable_genes([in_blocks(csr_matrix(matrix.astype(np.float32)))], 2)


def test_species_are_joined_on_their_orthologues_in_the_order_of_the_first(tmp_path):
    table = tiny.orthologue_table(tmp_path / "orthologues.csv", n_genes=40)
    columns = {"orthologues": tiny.orthologues(table)}
    paths = [tiny.split_file(tmp_path, organism=name, seed=n, **columns) for n, name in enumerate(("human", "mouse"))]
    splits = [Split.open(path) for path in paths]
    parts, names = join_species(splits)
    data = [split.to_anndata() for split in splits]
    for adata in data:
        adata.var_names = adata.var["orthologue"].astype(str).to_numpy()
    joined = anndata.concat([adata[:, adata.var_names != ""] for adata in data], join="inner")
    assert len(names) == 40
    np.testing.assert_array_equal(names, joined.var_names)
    np.testing.assert_array_equal(np.vstack([b.toarray() for part in parts for b in part.blocks()]), joined.X.toarray())


def test_splits_that_cannot_be_joined_say_why(tmp_path):
    split = Split.open(tiny.split_file(tmp_path))
    other = Split.open(tiny.split_file(tmp_path, organism="mouse", seed=1))
    for one, genes in ((split, ["a", "b"]), (other, ["c", "d"])):
        one.__dict__["orthologues"] = np.asarray(genes, dtype=object)
    with pytest.raises(CellgaugeError, match="splits human, mouse have no gene in common"):
        join_species([split, other])
    other.__dict__["orthologues"] = np.asarray(["a", "a"], dtype=object)
    with pytest.raises(CellgaugeError, match="split mouse of tiny has two genes 'a'"):
        join_species([split, other])
