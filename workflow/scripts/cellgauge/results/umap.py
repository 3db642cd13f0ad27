"""Pictures of embeddings: the places of some cells on a plane, by UMAP, for the report. No score is made from them.

The same cells of a split are drawn for every model, so that pictures can be set side by side.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cellgauge.core.optional_imports import without_optional
from cellgauge.files.checked import checked_path
from cellgauge.files.embedding import Embedding, match_embeddings
from cellgauge.files.split import Split
from cellgauge.metrics.knn.distances import column_means
from cellgauge.metrics.knn.exact import nearest_neighbors
from cellgauge.metrics.knn.graph import neighbor_count

COLUMNS = ("split", "cell", "label", "batch", "x", "y")
N_CELLS = 1000
"""Cells drawn of each split at most: more of them hide each other."""
N_NEIGHBORS, MIN_DIST, EPOCHS = 15, 0.3, 200


def lay_out(embeddings: Sequence[Path], splits: Sequence[Path], output: str | Path, *, seed: int = 42) -> None:
    """Write the places of up to N_CELLS cells of each split as TSV (COLUMNS); x and y run from 0 to 1.

    A cell that the model could not embed has no row. The batch is the donor where no batch is known, "" where neither is. Raise
    ContractError where an embedding is missing, or its cells are not the split's.
    """
    of_splits = [Split.open(path) for path in splits]
    matched = match_embeddings([Embedding.read(path) for path in embeddings], of_splits)
    with checked_path(output) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(COLUMNS)
        for place, (embedding, split) in enumerate(zip(matched, of_splits, strict=True)):
            writer.writerows(_rows(embedding.rows_of(split), split, seed))
            if all(other is not embedding for other in matched[place + 1 :]):
                embedding.forget()  # one is in memory at a time


def _rows(matrix: np.ndarray, split: Split, seed: int) -> Iterator[tuple[str, ...]]:
    chosen = sample(len(matrix), seed)
    chosen = chosen[np.isfinite(matrix[chosen]).all(axis=1)]
    if len(chosen) < 3:
        return
    batch = next((split.column(name) for name in ("batch", "donor") if name in split.columns), None)
    labels = split.column("label")
    for row, (x, y) in zip(chosen, umap(matrix[chosen], seed), strict=True):
        place = (f"{x:.4f}", f"{y:.4f}")
        yield split.name, str(split.cells[row]), str(labels[row]), "" if batch is None else str(batch[row]), *place


def sample(n_cells: int, seed: int) -> np.ndarray:
    """Return up to N_CELLS row numbers, ascending."""
    if n_cells <= N_CELLS:
        return np.arange(n_cells)
    return np.sort(np.random.default_rng(seed).choice(n_cells, N_CELLS, replace=False))


def umap(matrix: np.ndarray, seed: int) -> np.ndarray:
    """Lay rows out on a plane (McInnes et al. 2018, igraph's implementation), from their first two principal components.

    Args:
        matrix: float32, finite, shape (n_cells, n_dims).

    Returns:
        float64, shape (n_cells, 2), each column scaled to [0, 1].
    """
    import random

    with without_optional("matplotlib", "cairo", "plotly"):
        import igraph

    indices, distances = nearest_neighbors(matrix, neighbor_count(len(matrix), N_NEIGHBORS))
    sources = np.repeat(np.arange(len(matrix)), indices.shape[1])
    others = indices.ravel() != sources
    pairs = np.column_stack([sources, indices.ravel()])[others]
    graph = igraph.Graph(n=len(matrix), edges=pairs, directed=True)
    igraph.set_random_number_generator(random.Random(seed))
    try:
        places = graph.layout_umap(
            dist=distances.ravel()[others].tolist(),
            seed=(10 * _unit(_components(matrix))).tolist(),
            min_dist=MIN_DIST,
            epochs=EPOCHS,
        )
    finally:
        igraph.set_random_number_generator(random)
    return _unit(np.array(places.coords))


def _components(matrix: np.ndarray) -> np.ndarray:
    """Return the first two principal components, float64, shape (n_cells, 2); the second is 0 where there is only one."""
    centred = (matrix - column_means(matrix)).astype(np.float64)
    vectors = np.linalg.eigh(centred.T @ centred if matrix.shape[1] <= len(matrix) else centred @ centred.T)[1]
    components = vectors[:, ::-1][:, :2]
    if matrix.shape[1] <= len(matrix):
        components = centred @ components
    return components if components.shape[1] == 2 else np.column_stack([components, np.zeros(len(components))])


def _unit(places: np.ndarray) -> np.ndarray:
    low, high = places.min(axis=0), places.max(axis=0)
    return (places - low) / np.where(high > low, high - low, 1)
