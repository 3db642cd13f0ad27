"""Semi-synthetic screens: known effects planted into real cells by binomial thinning.

Real cells are dealt to conditions at random, so that nothing but chance tells them apart; then each count of a gene is
thinned, count ~ Binomial(count, p), with p in the ratio of the expression wanted in each condition. Thinning can only take
away: where some condition is to have more of a gene than the control, all the others, control included, have less of it.
Noise, dropout and correlations stay those of real cells, and the truth is known.

Source: Gerard (2020), BMC Bioinformatics 21, 206 (seqgendiff).
"""

import json

import anndata
import numpy as np
from scipy.sparse import csr_matrix

from cellgauge.core.errors import CellgaugeError
from cellgauge.screens.screen import CONTROL, targets

N_PROGRAMS = 4
PROGRAM_SIZE = 40
KNOCK_DOWN = -3.0
"""What a perturbation does to its own target, log2 fold change."""


def plant_screen(
    data: anndata.AnnData,
    where: str,
    *,
    n_genes: int = 1000,
    n_targets: int = 16,
    n_pairs: int = 16,
    control_share: float = 0.3,
    seed: int = 42,
) -> anndata.AnnData:
    """Return real cells as a screen with planted effects; obs["label"] becomes the condition.

    Every target has an effect of its own; targets belong to programs, sets of genes that answer to them together. A
    pair's effect is the sum of both in log fold changes. Conditions are dealt within each label, so that all have about the
    same mixture of cell types.

    Args:
        data: raw counts CSR (n_cells, n_genes_of_the_data), obs["label"] cell types, var["feature_name"].
        n_genes: the most expressed genes are kept.
        control_share: share of the cells that are controls.

    Returns:
        The cells with thinned counts. varm["log2_fold_change"], float32, shape (n_genes, n_conditions), is the planted
        truth, relative to control; uns["planted_conditions"] (JSON) names its columns; uns["semi_synthetic"] is True.

    Raises:
        CellgaugeError: fewer genes or pairs than asked for.
    """
    generator = np.random.default_rng(seed)
    data = _most_expressed(data, n_genes, where)
    symbols = data.var["feature_name"].astype(str).to_numpy()
    if n_targets > len(symbols) // 2 or n_pairs > n_targets * (n_targets - 1) // 2:
        raise CellgaugeError(f"{where}: {len(symbols)} genes are too few for {n_targets} targets and {n_pairs} pairs")
    places = np.sort(generator.choice(len(symbols) // 2, n_targets, replace=False))  # of the better expressed half
    effects = _effects(places, len(symbols), generator)
    singles = {f"{symbols[place]}+{CONTROL}": effects[n] for n, place in enumerate(places)}
    by_gene = {next(iter(targets(name))): effect for name, effect in singles.items()}
    pairs = [(a, b) for n, a in enumerate(places) for b in places[n + 1 :]]
    chosen = [pairs[n] for n in np.sort(generator.choice(len(pairs), n_pairs, replace=False))]
    doubles = {f"{symbols[a]}+{symbols[b]}": by_gene[symbols[a]] + by_gene[symbols[b]] for a, b in chosen}
    conditions = singles | doubles
    of_cell = _dealt(data.obs["label"].astype(str).to_numpy(), list(conditions), control_share, generator)
    data.X = _thinned(data.X, of_cell, conditions, generator)
    data.obs["cell_type"] = data.obs["label"]
    data.obs["label"] = of_cell
    data.varm["log2_fold_change"] = np.stack(list(conditions.values()), axis=1).astype(np.float32)
    data.uns |= {"planted_conditions": json.dumps(list(conditions)), "semi_synthetic": True}
    return data


def _most_expressed(data: anndata.AnnData, n_genes: int, where: str) -> anndata.AnnData:
    symbols = data.var["feature_name"].astype(str)
    totals = np.asarray(data.X.sum(axis=0), dtype=np.float64).ravel()
    usable = (totals > 0) & ~symbols.str.contains("+", regex=False).to_numpy() & ~symbols.duplicated().to_numpy()
    if usable.sum() < n_genes:
        raise CellgaugeError(f"{where}: {n_genes} genes are to be kept, {int(usable.sum())} are expressed")
    order = np.argsort(np.where(usable, -totals, np.inf), kind="stable")
    return data[:, order[:n_genes]].copy()


def _effects(places: np.ndarray, n_genes: int, generator: np.random.Generator) -> np.ndarray:
    """Return the log2 fold change of every gene under each target's perturbation, shape (n_targets, n_genes)."""
    programs = np.zeros((N_PROGRAMS, n_genes))
    for program in programs:
        members = generator.choice(n_genes, min(PROGRAM_SIZE, n_genes), replace=False)
        program[members] = generator.normal(0, 1, len(members))
    common = np.zeros(n_genes)  # what every perturbation does: in real screens, too, part of the answer is not specific
    stressed = generator.choice(n_genes, min(PROGRAM_SIZE, n_genes) // 2, replace=False)
    common[stressed] = generator.normal(0, 0.7, len(stressed))
    effects = np.empty((len(places), n_genes))
    for n in range(len(places)):
        specific = np.zeros(n_genes)
        genes = generator.choice(n_genes, min(15, n_genes), replace=False)
        specific[genes] = generator.normal(0, 1.2, len(genes))
        effects[n] = programs[n % N_PROGRAMS] * generator.uniform(0.6, 1.4) + specific + common
    effects[np.arange(len(places)), places] = KNOCK_DOWN
    return effects


def _dealt(
    labels: np.ndarray, conditions: list[str], control_share: float, generator: np.random.Generator
) -> np.ndarray:
    """Return a condition for each cell: within each label they come round in turn."""
    n_controls = max(1, round(len(conditions) * control_share / (1 - control_share)))
    round_of = np.asarray([*conditions, *[CONTROL] * n_controls], dtype=object)
    order = np.lexsort((generator.random(len(labels)), labels))
    rounds = -(-len(labels) // len(round_of))
    dealt = np.concatenate([generator.permutation(round_of) for _ in range(rounds)])[: len(labels)]
    of_cell = np.empty(len(labels), dtype=object)
    of_cell[order] = dealt
    return of_cell


def _thinned(
    counts: csr_matrix, of_cell: np.ndarray, conditions: dict[str, np.ndarray], generator: np.random.Generator
) -> csr_matrix:
    """Return thinned counts, CSR: the share kept of a gene is in the ratio of its expression in the conditions.

    Args:
        counts: whole numbers of any dtype, which stays, shape (n_cells, n_genes).
        of_cell: the condition of each cell, str, shape (n_cells,).
        conditions: the log2 fold changes of each condition but the control, shape (n_genes,) each.
    """
    counts = counts.tocsr().copy()
    highest = np.maximum(0, np.max(list(conditions.values()), axis=0))
    shares = {name: np.exp2(effect - highest) for name, effect in conditions.items()} | {CONTROL: np.exp2(-highest)}
    for row, condition in enumerate(of_cell):
        stored = slice(counts.indptr[row], counts.indptr[row + 1])
        share = shares[condition][counts.indices[stored]]
        counts.data[stored] = generator.binomial(counts.data[stored].astype(np.int64), share)
    counts.eliminate_zeros()
    return counts
