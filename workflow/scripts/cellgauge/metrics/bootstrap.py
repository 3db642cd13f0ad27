"""Intervals by resampling whole donors: the cells of one donor are no independent witnesses (cluster bootstrap).

Source: Davison & Hinkley (1997), Bootstrap Methods and their Application, section 3.8 (whole clusters are drawn).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cellgauge.metrics.agreement import Contingency, contingency

FEWEST = 3
"""With fewer donors, folds, seeds or conditions than this a resampling says nothing of others, and there is no interval."""
N_DRAWS = 400
LEVEL = 0.95
TIE = 1e-9
"""Values so near to each other, relatively or absolutely, are the same one, rounded differently."""


def draw_counts(n_units: int, n_draws: int, seed: int) -> np.ndarray:
    """Return how often each unit is drawn when as many are drawn with replacement, int64, shape (n_draws, n_units)."""
    return np.random.default_rng(seed).multinomial(n_units, np.full(n_units, 1 / n_units), size=n_draws)


def percentile_interval(draws: np.ndarray, estimate: float, level: float = LEVEL) -> tuple[float, float]:
    """Return the ends of the middle `level` of `draws`, shape (n_draws,), corrected for their bias.

    The agreement of two partitions tends to be higher among few donors than among many; where most draws lie on one side of
    the estimate, the percentiles are shifted by as much (Efron & Tibshirani 1993, An Introduction to the Bootstrap, 14.3).
    """
    from statistics import NormalDist  # 5 ms, which most jobs do not need

    normal, half = NormalDist(), 0.5 / len(draws)
    # of few donors many draws are the estimate itself, summed in another order
    same = np.isclose(draws, estimate, rtol=TIE, atol=TIE)
    below = ((draws < estimate) & ~same).sum() / len(draws) + 0.5 * same.mean()
    shift = 2 * normal.inv_cdf(float(np.clip(below, half, 1 - half)))
    reach = normal.inv_cdf((1 + level) / 2)
    low, high = np.quantile(draws, [normal.cdf(shift - reach), normal.cdf(shift + reach)])
    return float(min(low, estimate)), float(max(high, estimate))


def mean_interval(
    values: np.ndarray, donors: np.ndarray, seed: int, strata: np.ndarray | None = None
) -> tuple[float, float]:
    """Return the interval of the mean of `values`, shape (n_cells,), over draws of whole donors.

    Args:
        donors: shape (n_cells,).
        strata: groups that keep their number of donors in every draw, such as species; shape (n_cells,).
    """
    codes = np.unique(donors, return_inverse=True)[1]
    sums, sizes = np.bincount(codes, weights=values), np.bincount(codes)
    counts = np.zeros((N_DRAWS, len(sizes)), dtype=np.int64)
    for place, stratum in enumerate([""] if strata is None else np.unique(strata)):
        own = np.unique(codes if strata is None else codes[strata == stratum])
        counts[:, own] = draw_counts(len(own), N_DRAWS, seed + place)
    return percentile_interval((counts @ sums) / (counts @ sizes), float(values.mean()))


def agreement_intervals(
    labels: np.ndarray,
    partitions: Sequence[np.ndarray],
    donors: np.ndarray,
    agreements: Mapping[str, Callable[[Contingency], float]],
    seed: int,
) -> dict[str, tuple[float, float]]:
    """Return, by name, the interval of the mean agreement of `partitions` with the labels over draws of whole donors.

    The partitions are not made anew: the interval says what other donors would change, not what other clusters would.

    Args:
        labels, donors: shape (n_cells,).
        partitions: groups of the same cells, each of shape (n_cells,).
        agreements: functions of `cellgauge.metrics.agreement`.
    """
    rows, codes = (np.unique(parts, return_inverse=True)[1] for parts in (labels, donors))
    counts = draw_counts(int(codes.max()) + 1, N_DRAWS, seed)
    draws = {name: np.zeros(N_DRAWS) for name in agreements}
    whole = dict.fromkeys(agreements, 0.0)
    for groups in partitions:
        columns = np.unique(groups, return_inverse=True)[1]
        table = contingency(rows, columns)
        drawn = _drawn(table, rows, columns, codes, counts)
        for name, agreement in agreements.items():
            draws[name] += [agreement(other) for other in drawn]
            whole[name] += agreement(table)
    n = len(partitions)
    return {name: percentile_interval(values / n, whole[name] / n) for name, values in draws.items()}


def _drawn(
    table: Contingency, rows: np.ndarray, columns: np.ndarray, codes: np.ndarray, counts: np.ndarray
) -> list[Contingency]:
    """Return the contingency table of every draw: the donors' tables, each as often as the donor was drawn.

    Args:
        table: of all cells, whose row and column in it are `rows` and `columns`, and whose donor is `codes`.
        counts: how often each donor is drawn, shape (n_draws, n_donors).
    """
    places = np.zeros((len(table.first), len(table.second)), dtype=np.int64)
    places[table.row, table.column] = np.arange(len(table.counts))
    of_donor = np.zeros((counts.shape[1], len(table.counts)), dtype=np.int64)
    np.add.at(of_donor, (codes, places[rows, columns]), 1)
    return [_without_empty(table, drawn) for drawn in counts @ of_donor]


def _without_empty(table: Contingency, counts: np.ndarray) -> Contingency:
    """Return the table with other counts; pairs and groups that got none are no part of it."""
    kept = counts > 0
    first, row = _sizes(table.row[kept], counts[kept])
    second, column = _sizes(table.column[kept], counts[kept])
    return Contingency(counts[kept], first, second, row, column)


def _sizes(groups: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sizes of the groups that occur, and which of them each pair belongs to."""
    sizes = np.bincount(groups, weights=counts).astype(np.int64)
    occurs = sizes > 0
    return sizes[occurs], (np.cumsum(occurs) - 1)[groups]
