"""scGPT's values: the bin of each count among the quantiles of its cell's counts."""

import numpy as np

BINS = 50  # the official code adds a bin for zeros and sets 51, whatever args.json says
LARGEST_IN_TABLE = 255
"""Whole numbers up to here are looked up; of the counts of a cell hardly any is larger."""


def quantile_edges(values: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the edges of the bins of several cells: `np.quantile(values of a cell, np.linspace(0, 1, BINS))`, bit by bit.

    Args:
        values: the values of all cells, float32.
        starts, sizes: where the values of each cell begin and how many they are, at least 1, shape (n_cells,).

    Returns:
        float64, shape (n_cells, BINS).
    """
    ordered = values.copy()
    for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
        ordered[start : start + size].sort()
    places = (sizes - 1)[:, None] * np.linspace(0, 1, BINS)
    below = np.floor(places).astype(np.intp)
    above = np.minimum(below + 1, (sizes - 1)[:, None])
    low, high = ordered[starts[:, None] + below], ordered[starts[:, None] + above]
    # numpy computes from the nearer value, so that the last bit is the same
    share, difference = places - below, high - low
    return np.where(share < 0.5, low + difference * share, high - difference * (1 - share))


def bins(values: np.ndarray, uniform: np.ndarray, cells: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the bin of each value among the edges of its cell, int64, 1 to BINS.

    A value equal to several edges falls into one of their bins, chosen by `uniform`.

    Args:
        values: float32, shape (n,).
        uniform: random numbers in [0, 1), shape (n,).
        cells: the row of `edges` that belongs to each value, shape (n,).
        edges: see `quantile_edges`.
    """
    width = LARGEST_IN_TABLE + 1
    whole = np.minimum(values, LARGEST_IN_TABLE).astype(np.intp)
    others = np.flatnonzero(whole != values)
    entries = cells * width + whole
    # how many edges are at most, and less than, each whole number
    at_most, less = _table(np.ceil(edges), width)[entries], _table(np.floor(edges) + 1, width)[entries]
    of_others = edges[cells[others]]
    at_most[others] = (of_others <= values[others, None]).sum(axis=1)
    less[others] = (of_others < values[others, None]).sum(axis=1)
    return np.ceil(uniform * (less - at_most) + at_most).astype(np.int64)


def _table(thresholds: np.ndarray, width: int) -> np.ndarray:
    """Return how many thresholds of a cell, whole numbers, each of the numbers 0 to width - 1 reaches; (n_cells * width,)."""
    n_cells = len(thresholds)
    places = np.minimum(thresholds, width).astype(np.intp) + np.arange(n_cells)[:, None] * (width + 1)
    reached = np.bincount(places.ravel(), minlength=n_cells * (width + 1)).reshape(n_cells, width + 1)
    return np.cumsum(reached[:, :-1], axis=1).ravel()
