"""Wilcoxon scores against one control: equal to scanpy's, and much cheaper."""

import time

import anndata
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix, vstack
from scipy.stats import norm, rankdata

from cellgauge.metrics.wilcoxon import ControlRanks


def expression(n_cells, n_genes, seed, *, shift=0.0):
    """Return log-normalised counts of the sparsity of a screen, CSR float32; some genes are shifted, some empty."""
    generator = np.random.default_rng(seed)
    rates = np.random.default_rng(0).gamma(0.3, 0.6, n_genes)
    rates[:3] = 0
    rates[3 : 3 + n_genes // 10] *= np.exp(shift)
    counts = generator.poisson(rates * generator.gamma(5, 0.2, (n_cells, 1)))
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return csr_matrix(np.log1p(counts / totals * 1e3).astype(np.float32))


def scanpy_scores(controls, group, **options):
    import scanpy

    data = anndata.AnnData(vstack([controls, group]).toarray())
    data.obs["condition"] = ["ctrl"] * controls.shape[0] + ["group"] * group.shape[0]
    scanpy.tl.rank_genes_groups(data, "condition", groups=["group"], reference="ctrl", method="wilcoxon", **options)
    frame = scanpy.get.rank_genes_groups_df(data, "group").set_index("names")
    return frame["scores"].reindex(data.var_names).to_numpy()


def by_ranks(controls, group):
    """Return the z scores straight from the ranks of all values."""
    n0, n1 = len(controls), len(group)
    ranks = np.stack([rankdata(column) for column in np.vstack([controls, group]).T], axis=1)
    total = ranks[n0:].sum(axis=0)
    return (total - n1 * (n0 + n1 + 1) / 2) / np.sqrt(n0 * n1 * (n0 + n1 + 1) / 12)


def test_scores_equal_scanpys_and_name_the_same_genes():
    controls, group = expression(700, 400, seed=1), expression(90, 400, seed=2, shift=0.7)
    ours, theirs = ControlRanks(controls).scores(group), scanpy_scores(controls, group)
    assert np.abs(ours - theirs).max() < 2e-6
    assert set(np.argsort(-ours)[:100]) == set(np.argsort(-theirs)[:100])
    assert (ours[:3] == 0).all()  # genes that no cell expresses


def test_dense_groups_and_any_number_of_cells_give_the_same(monkeypatch):
    controls, group = expression(300, 50, seed=1), expression(40, 50, seed=2)
    ranks = ControlRanks(controls)
    for tie_correct in (False, True):
        whole = ranks.scores(group, tie_correct=tie_correct)
        assert np.array_equal(ranks.scores(group.toarray(), tie_correct=tie_correct), whole)
        with monkeypatch.context() as patched:
            patched.setattr("cellgauge.metrics.wilcoxon.ROWS_AT_ONCE", 7)
            assert np.array_equal(ranks.scores(group, tie_correct=tie_correct), whole)
            assert np.array_equal(ranks.scores(group.toarray(), tie_correct=tie_correct), whole)


def test_scores_corrected_for_ties_equal_scipys():
    from scipy.stats import mannwhitneyu

    controls, group = expression(300, 60, seed=1), expression(70, 60, seed=2, shift=0.7)
    scores = ControlRanks(controls).scores(group, tie_correct=True)
    tested = mannwhitneyu(
        *(cells.toarray().astype(float) for cells in (group, controls)),
        use_continuity=False,
        method="asymptotic",
        axis=0,
    )
    alike = np.isnan(tested.pvalue)  # of genes that no cell expresses
    assert (scores[alike] == 0).all() and alike.sum() < 20
    assert np.allclose(2 * norm.sf(np.abs(scores))[~alike], tested.pvalue[~alike], rtol=1e-9)
    pairs = 300 * 70 / 2
    assert (np.sign(scores) == np.sign(tested.statistic - pairs))[~alike].all()


def test_scores_corrected_for_ties_equal_scanpys():
    controls, group = expression(300, 60, seed=1), expression(70, 60, seed=2, shift=0.7)
    theirs = scanpy_scores(controls, group, tie_correct=True)
    assert np.abs(ControlRanks(controls).scores(group, tie_correct=True) - theirs)[3:].max() < 2e-6


def test_a_constant_group_is_as_many_equal_cells():
    controls = expression(300, 50, seed=1)
    ranks = ControlRanks(controls)
    mean = np.asarray(controls.mean(axis=0)).ravel()
    mean[5] = -0.1
    tiled = ranks.scores(np.tile(mean.astype(np.float32), (80, 1)))
    assert np.allclose(ranks.scores_of_constant(mean, 80), tiled, atol=1e-12)


VALUES = st.lists(st.sampled_from([0.0, -0.0, -1.5, 1e-30, 0.5, 0.5000001, 2.0, 7.0]), min_size=1, max_size=12)


@given(VALUES, VALUES)
def test_ties_zeros_and_negative_values_rank_as_they_should(controls, group):
    controls, group = np.float32(controls)[:, None], np.float32(group)[:, None]
    ranks = ControlRanks(csr_matrix(controls))
    assert np.allclose(ranks.scores(csr_matrix(group)), by_ranks(controls, group), atol=1e-12)
    corrected = ranks.scores(csr_matrix(group), tie_correct=True)
    times = np.unique(np.vstack([controls, group]) + 0.0, return_counts=True)[1]
    total = times.sum()
    varied = 1 - (times**3 - times).sum() / (total**3 - total)
    expected = by_ranks(controls, group) / np.sqrt(varied) if varied > 0 else 0
    assert np.allclose(corrected, expected, atol=1e-9)


def test_it_takes_a_tenth_of_scanpys_cpu():
    controls, group = expression(3000, 2000, seed=1), expression(300, 2000, seed=2)
    scanpy_scores(controls[:20], group[:20])  # compiles
    ranks = ControlRanks(controls)

    def seconds(function):
        start = time.process_time()
        function()
        return time.process_time() - start

    ours = min(seconds(lambda: ranks.scores(group)) for _ in range(3))
    theirs = min(seconds(lambda: scanpy_scores(controls, group)) for _ in range(2))
    assert theirs > 10 * ours, (theirs, ours)


def test_one_gene_and_one_cell():
    one = csr_matrix(np.float32([[1.0]]))
    assert ControlRanks(one).scores(one) == pytest.approx([0.0])
    assert ControlRanks(csr_matrix((3, 1), dtype=np.float32)).scores(one)[0] > 0
