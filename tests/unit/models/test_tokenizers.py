"""Tokenizers work on blocks of cells: what they make of each is bit by bit what the plain path makes of the cell alone."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from effort import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from cellgauge.inference.run import cell_generator
from cellgauge.models import aido_cell, scgpt
from cellgauge.models.geneformer import tokens as geneformer
from cellgauge.models.scgpt.tokens import BINS, quantile_edges
from cellgauge.models.transcriptformer import tokens as transcriptformer
from cellgauge.models.uce import tokens as uce

N_GENES = 60
VALUES = (1, 1, 1, 2, 3, 255, 256, 300, 70_000)  # ties, and both sides of every limit


@st.composite
def cells(draw, values=VALUES):
    """Return counts, CSR float32: of no gene, of one, of few and of all, in more rows than are tokenized together."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_cells = draw(st.sampled_from([1, 2, 65, 130]))
    shares = generator.choice([0, 0.02, 0.3, 1], n_cells)
    expressed = generator.random((n_cells, N_GENES)) < shares[:, None]
    expressed[generator.random(n_cells) < 0.1, :] = np.arange(N_GENES) == generator.integers(N_GENES)
    chosen = generator.choice(values[: draw(st.integers(1, len(values)))], (n_cells, N_GENES))
    return csr_matrix((expressed * chosen).astype(np.float32))


def same_records(tokenizer, counts, plain):
    """Assert that each cell's record is what `plain` returns for its counts and its id; None for no record."""
    ids = np.asarray([f"cell{row}" for row in range(counts.shape[0])], dtype=object)
    records = list(tokenizer.tokenize(counts, ids))
    assert len(records) == len(ids)
    for row, (cell, record) in enumerate(zip(ids, records, strict=True)):
        expected = plain(counts[row].toarray()[0], cell)
        if expected is None or record is None:
            assert expected is record is None
            continue
        assert len(record.arrays) == len(expected)
        for array, other in zip(record.arrays, expected, strict=True):
            assert array.dtype == other.dtype
            np.testing.assert_array_equal(array, other)


def some_columns(seed=0, share=0.8):
    """Return which genes a model knows."""
    return np.random.default_rng(seed).random(N_GENES) < share


class Stream:
    """One stream of random numbers for all cells."""

    def __init__(self):
        self.official = np.random.RandomState(3)

    def __call__(self, cell):
        return self.official


@settings(max_examples=examples(25), deadline=None)
@given(cells((*VALUES, 0.5, 2.25, 1e-3)), st.sampled_from([2, 7, 1200]))
def test_scgpt(counts, max_length):
    known = some_columns()
    ids = np.where(known, np.random.default_rng(1).permutation(N_GENES), -1)

    def plain(row, cell):
        expressed = np.flatnonzero(known & (row > 0))
        if not len(expressed):
            return None
        generator, values = cell_generator(5, cell), row[expressed]
        edges = np.quantile(values, np.linspace(0, 1, BINS))
        right, left = np.searchsorted(edges, values, "right"), np.searchsorted(edges, values, "left")
        bins = np.ceil(generator.random(len(values)) * (left - right) + right).astype(np.int64)
        genes = ids[expressed]
        if len(genes) >= max_length:
            chosen = generator.permutation(len(genes))[: max_length - 1]
            genes, bins = genes[chosen], bins[chosen]
        return np.append(99, genes), np.append(0, bins)

    same_records(scgpt.Encoder(1, None, ids, 99, max_length, 5, "cell"), counts, plain)


@settings(max_examples=examples(50), deadline=None)
@given(st.lists(st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=30), min_size=1, max_size=5))
def test_the_edges_of_scgpts_bins_are_numpys_quantiles(rows):
    sizes = np.asarray([len(row) for row in rows])
    edges = quantile_edges(
        np.concatenate([np.asarray(row, np.float32) for row in rows]), np.cumsum(sizes) - sizes, sizes
    )
    for row, of_row in zip(rows, edges, strict=True):
        np.testing.assert_array_equal(of_row, np.quantile(np.asarray(row, np.float32), np.linspace(0, 1, BINS)))


@settings(max_examples=examples(25), deadline=None)
@given(cells((*VALUES, 0.5, 1.5)), st.sampled_from(["cell", "official"]), st.sampled_from([0, 3]))
def test_uce(counts, stream, min_genes):
    generator = np.random.default_rng(2)
    loci = np.stack(
        [generator.permutation(N_GENES), generator.integers(3, 9, N_GENES), generator.integers(0, 20, N_GENES)]
    )
    loci = np.where(some_columns(), loci, -1).T
    filtered = np.flatnonzero(some_columns(1, 0.9))
    columns = filtered[loci[filtered, 0] >= 0]
    tokens, chromosomes, starts = loci[columns].T
    random = Stream() if stream == "official" else lambda cell: cell_generator(3, cell)

    def plain(row, cell):
        values = row[columns].astype(np.int64)
        if (row[filtered] > 0).sum() < min_genes or not values.any():
            return None
        logs = torch.log1p(torch.from_numpy(values))
        weights = (logs / logs.sum()).numpy()
        weights = weights / np.cumsum(weights, dtype=np.float32)[-1]
        cumulative = np.cumsum(weights, dtype=np.float64)
        numbers = random(cell)
        sample = np.searchsorted(cumulative / cumulative[-1], numbers.random(40), side="right")
        order = np.unique(chromosomes[sample])
        numbers.shuffle(order)
        sentence = [uce.CLS]
        for chromosome in order:
            genes = sorted(sample[chromosomes[sample] == chromosome], key=lambda gene: (starts[gene], gene))
            sentence += [chromosome + 100, *tokens[genes], uce.END]
        return (np.asarray(sentence),)

    same_records(uce.Sentences(loci, 100, filtered, 40, min_genes, 3, stream), counts, plain)


@pytest.mark.parametrize("n_genes", [1, 17, 2000, 20_000])
def test_uces_probabilities_are_those_of_the_dense_cell_to_the_last_bit(n_genes):
    generator = np.random.default_rng(n_genes)
    dense = generator.poisson(0.2, (20, n_genes)) * generator.integers(1, 400, (20, n_genes))
    dense[:, -1] = 1
    counts = csr_matrix(dense.astype(np.float32))
    weights = uce._weights(counts)
    for row, (start, stop) in zip(dense, pairwise(counts.indptr), strict=True):
        logs = torch.log1p(torch.from_numpy(row))
        expected = (logs / logs.sum()).numpy()
        expected = expected / np.cumsum(expected, dtype=np.float32)[-1]
        expected = np.cumsum(expected, dtype=np.float64)
        np.testing.assert_array_equal(uce._cumulative(weights[start:stop]), (expected / expected[-1])[row > 0])


@settings(max_examples=examples(25), deadline=None)
@given(cells(), st.sampled_from([3, 9, 100]), st.booleans())
def test_geneformer(counts, max_length, given_totals):
    names = [
        f"ENSG{column // 2 if column < 10 else column}" for column in range(N_GENES)
    ]  # some genes have two columns
    known = sorted({name for name, is_known in zip(names, some_columns(), strict=True) if is_known})
    generator = np.random.default_rng(4)
    ids = dict(zip(known, generator.permutation(len(known)).tolist(), strict=True))
    medians = {name: float(generator.choice([0.5, 1.0, 1.5])) for name in known}
    dictionaries = geneformer.Dictionaries({**ids, "<cls>": 200, "<eos>": 201}, medians, {name: name for name in known})
    split = SimpleNamespace(genes=names, columns=(), cells=())
    if given_totals:
        split.columns, split.cells = ("n_counts",), [f"cell{row}" for row in range(counts.shape[0])]
        split.numbers = lambda name: np.arange(1, counts.shape[0] + 1)
    columns_of = {name: [c for c, other in enumerate(names) if other == name] for name in known}
    order = sorted(dict.fromkeys(name for name in names if name in ids), key=lambda name: len(columns_of[name]) > 1)

    def plain(row, cell):
        total = np.asarray([int(cell[4:]) + 1]) if given_totals else np.asarray([row.sum()])
        summed = np.asarray([row[columns_of[name]].sum() for name in order])
        expressed = np.flatnonzero(summed)
        if not len(expressed):
            return None
        inverse = 1.0 / np.asarray([medians[name] for name in order])
        values = summed[expressed] * (1.0 / total) * 10_000 * inverse[expressed]
        ranked = expressed[np.argsort(-values, kind="stable")[: max_length - 2]]
        return (np.asarray([200, *(ids[order[gene]] for gene in ranked), 201]),)

    split.whole = split
    same_records(geneformer.Ranker(split, dictionaries, max_length), counts, plain)


@settings(max_examples=examples(50), deadline=None)
@given(st.lists(st.sampled_from([0.0, -0.0, 0.1, 1.0, 1.0 + 2**-52, 2.0, 7.0, float("inf")]), max_size=300))
@example([1.0, 1.0, 2.0, 2.0, 1.0, 2.0])  # runs of equal values side by side
def test_ranks_of_equal_values_are_in_their_order(values):
    values = np.asarray(values)
    np.testing.assert_array_equal(geneformer.descending(values), np.argsort(-values, kind="stable"))


@settings(max_examples=examples(25), deadline=None)
@given(cells())
def test_transcriptformer(counts):
    indices = np.where(some_columns(), np.random.default_rng(5).permutation(N_GENES), -1)
    special = transcriptformer.Special(("[START]", "[PAD]"), 0, 1, True)
    covariates = {f"cell{row}": np.asarray([row]) for row in range(counts.shape[0])}

    def plain(row, cell):
        expressed = np.flatnonzero((indices >= 0) & (row > 0))[:19]
        if not len(expressed):
            return None
        values = np.asarray([1, *np.minimum(row[expressed], 30)], dtype=np.float32)
        return np.asarray([0, *(indices[expressed] + 2)]), values, covariates[cell]

    same_records(transcriptformer.Sentences(indices, special, 20, 30, covariates), counts, plain)


@settings(max_examples=examples(25), deadline=None)
@given(cells())
def test_aido_cell(counts):
    positions = np.where(some_columns(), np.random.default_rng(6).permutation(N_GENES), -1)
    network = SimpleNamespace(position_embedding=torch.nn.Embedding(N_GENES + 2, 4), zeros=torch.zeros(1))
    encoder = aido_cell.Encoder(network, positions, N_GENES, pool_depth=False, round_input=False)

    def plain(row, cell):
        expressed = np.flatnonzero((positions >= 0) & (row > 0))
        if not len(expressed):
            return None
        values = row[expressed].astype(np.float64)
        depth = max(np.log10(values.sum()), aido_cell.MIN_LOG_DEPTH)
        values = [*np.log1p(values / values.sum() * 1e4), depth, depth]
        return np.asarray([*positions[expressed], N_GENES, N_GENES + 1]), np.minimum(values, 20).astype(np.float32)

    same_records(encoder, counts, plain)


@pytest.mark.parametrize("seed", [0, 1, 42, 2**32 - 1, 2**32, 2**70])
@pytest.mark.parametrize("cell", ["", "AAACCTG-1", "ü"])
def test_a_cells_generator_is_numpys_of_the_seed_and_the_words_of_the_digest(seed, cell):
    from hashlib import blake2b

    words = np.frombuffer(blake2b(cell.encode(), digest_size=16).digest(), dtype="<u4").tolist()
    expected = np.random.default_rng([seed, *words])
    assert cell_generator(seed, cell).bit_generator.state == expected.bit_generator.state
