"""The neighbor graph that scanpy builds (UMAP's fuzzy union) and Leiden communities on it, without scanpy.

Sources: umap-learn 0.5 (`smooth_knn_dist`, `compute_membership_strengths`, `fuzzy_simplicial_set`; McInnes et al. 2018),
scanpy 1.11 (`pp.neighbors`, `tl.leiden` with either flavor).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cellgauge.core.optional_imports import without_optional

if TYPE_CHECKING:
    import igraph

BANDWIDTH_STEPS = 64
BANDWIDTH_TOLERANCE = 1e-5
LEAST_BANDWIDTH = 1e-3
"""Least bandwidth as a share of the mean distance to the neighbors."""


class Edges(NamedTuple):
    """Weighted edges of an undirected graph, both directions of each, sorted by source and then target."""

    n_nodes: int
    # sources, targets: int64, shape (n_edges,)
    sources: np.ndarray
    targets: np.ndarray
    weights: np.ndarray  # float32, in (0, 1], shape (n_edges,)


def neighbor_count(n_cells: int, n_neighbors: int = 15) -> int:
    """Return how many neighbors scanpy takes, the cell itself among them: half the cells where there are too few."""
    return n_neighbors if n_neighbors <= n_cells else 1 + n_cells // 2


def fuzzy_edges(indices: np.ndarray, distances: np.ndarray) -> Edges:
    """Weight the edges from cells to their nearest neighbors and unite both directions: w + w' - w w'.

    Args:
        indices: int64, shape (n_cells, k), nearest first, the cell itself among them.
        distances: the distances to them, shape (n_cells, k).
    """
    n_cells, k = indices.shape
    weights = _memberships(indices, distances.astype(np.float32))
    sources = np.repeat(np.arange(n_cells), k)
    edges = np.flatnonzero(weights.ravel())
    sources, targets, weights = sources[edges], indices.ravel()[edges], weights.ravel()[edges]

    positions = np.concatenate([sources * n_cells + targets, targets * n_cells + sources])
    order = np.argsort(positions, kind="stable")
    positions, weights = positions[order], np.concatenate([weights, weights])[order]
    first = np.flatnonzero(np.diff(positions, prepend=-1))
    other = np.zeros(len(first), dtype=np.float32)  # the weight of the way back, where there is one
    twice = np.diff(first, append=len(positions)) == 2
    other[twice] = weights[first[twice] + 1]
    weights, positions = weights[first], positions[first]
    return Edges(n_cells, positions // n_cells, positions % n_cells, weights + other - weights * other)


class Leiden:
    """Communities of greatest modularity on one graph, which is built once; each pair of seed and resolution is run once.

    With flavor "igraph", igraph's generator is replaced by the one that scanpy hands it, numpy's Mersenne twister. Every
    edge enters twice in the order of the rows, as scanpy adds them: both decide which of many near-equal partitions
    comes out.

    With "leidenalg" the graph is directed and modularity that of Reichardt and Bornholdt, as scanpy's older default.
    """

    def __init__(self, edges: Edges, n_iterations: int = 2, flavor: str = "igraph") -> None:
        with without_optional("matplotlib", "cairo", "plotly"):
            import igraph

        pairs = np.column_stack([edges.sources, edges.targets])
        self._graph = igraph.Graph(n=edges.n_nodes, edges=pairs, directed=flavor == "leidenalg")
        self._graph.es["weight"] = edges.weights.tolist()
        self._n_iterations, self._flavor = n_iterations, flavor
        self._runs: dict[tuple[int, float], np.ndarray] = {}

    def communities(self, seed: int, resolution: float = 1.0) -> np.ndarray:
        """Return the community of each cell, int64, shape (n_nodes,)."""
        key = seed, resolution
        if key not in self._runs:
            find = _leidenalg_communities if self._flavor == "leidenalg" else _communities
            self._runs[key] = find(self._graph, seed, resolution, self._n_iterations)
        return self._runs[key]

    def resolution_for(self, n_communities: int, seed: int, resolutions: Sequence[float]) -> float:
        """Return the resolution whose number of communities is nearest to `n_communities`; of equally near ones the lowest.

        The number grows with the resolution, but for the luck of the seed, so the resolutions are bisected: running each of
        them takes three times as long.

        Args:
            resolutions: ascending.
        """

        numbers: dict[float, int] = {}

        def number(resolution: float) -> int:
            numbers[resolution] = int(self.communities(seed, resolution).max()) + 1
            return numbers[resolution]

        above = bisect_left(resolutions, n_communities, key=number)
        if above:  # the lowest one with as many as the last below
            bisect_left(resolutions, number(resolutions[above - 1]), hi=above, key=number)
        return min(numbers, key=lambda resolution: (abs(numbers[resolution] - n_communities), resolution))


def _communities(graph: igraph.Graph, seed: int, resolution: float, n_iterations: int) -> np.ndarray:
    import random

    import igraph

    igraph.set_random_number_generator(_ScanpyGenerator(seed))
    try:
        communities = graph.community_leiden(
            objective_function="modularity", weights="weight", resolution=resolution, n_iterations=n_iterations
        )
    finally:
        igraph.set_random_number_generator(random)
    return np.asarray(communities.membership, dtype=np.int64)


def _leidenalg_communities(graph: igraph.Graph, seed: int, resolution: float, n_iterations: int) -> np.ndarray:
    with without_optional("matplotlib", "cairo", "plotly"):
        import leidenalg

    communities = leidenalg.find_partition(
        graph,
        leidenalg.RBConfigurationVertexPartition,
        weights=np.asarray(graph.es["weight"], dtype=np.float64),
        n_iterations=n_iterations,
        seed=seed,
        resolution_parameter=resolution,
    )
    return np.asarray(communities.membership, dtype=np.int64)


class _ScanpyGenerator:
    """numpy's Mersenne twister with the four methods that igraph asks of a generator, drawn as scanpy draws them."""

    def __init__(self, seed: int) -> None:
        self._state = np.random.RandomState(seed)

    def getrandbits(self, n_bits: int) -> int:
        return int(self._state.tomaxint() & ((1 << n_bits) - 1))

    def randint(self, low: int, high: int) -> int:
        return int(self._state.randint(low, high + 1))

    def random(self) -> float:
        return float(self._state.random_sample())

    def gauss(self, mean: float, deviation: float) -> float:
        return float(self._state.normal(mean, deviation))


def _memberships(indices: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Return how far each neighbor belongs to the cell, exp(-(d - rho) / sigma), float32, shape (n_cells, k); self 0."""
    positive = distances > 0
    nearest = np.where(positive, distances, np.inf).min(axis=1)
    nearest = np.where(positive.any(axis=1), nearest, 0).astype(np.float32)  # rho: to the nearest cell not on the spot
    excess = distances - nearest[:, None]
    bandwidths = _bandwidths(excess[:, 1:].astype(np.float64), target=np.log2(distances.shape[1]))
    typical = np.where(nearest > 0, distances.mean(axis=1), distances.mean())
    bandwidths = np.maximum(bandwidths, LEAST_BANDWIDTH * typical).astype(np.float32)
    # The arguments are float32 as in umap-learn, the exponential is rounded once, as the C library's is.
    scaled = np.divide(excess, bandwidths[:, None], out=np.zeros_like(excess), where=bandwidths[:, None] > 0)
    weights = np.exp(-np.maximum(scaled, 0).astype(np.float64)).astype(np.float32)
    weights[indices == np.arange(len(indices))[:, None]] = 0
    return weights


def _bandwidths(excess: np.ndarray, target: float) -> np.ndarray:
    """Solve sum_j exp(-max(excess_j, 0) / sigma) = target for sigma, row by row, by bisection, as umap-learn does."""
    low = np.zeros(len(excess))
    high = np.full(len(excess), np.inf)
    middle = np.ones(len(excess))
    rows = np.arange(len(excess))
    excess = np.maximum(excess, 0)
    for _ in range(BANDWIDTH_STEPS):
        total = np.exp(-excess / middle[rows, None]).sum(axis=1)
        unsolved = np.abs(total - target) >= BANDWIDTH_TOLERANCE
        rows, excess, total = rows[unsolved], excess[unsolved], total[unsolved]
        if not len(rows):
            break
        above, below = rows[total > target], rows[total <= target]
        high[above] = middle[above]
        low[below] = middle[below]
        bounded = np.isfinite(high[rows])
        middle[rows] = np.where(bounded, (low[rows] + np.where(bounded, high[rows], 0)) / 2, 2 * middle[rows])
    return middle
