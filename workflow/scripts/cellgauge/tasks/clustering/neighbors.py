"""What clustering asks of the distances between cells: the neighbors for its graph, and the labels' silhouette widths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellgauge.metrics.knn.approximate import approximate_neighbors
from cellgauge.metrics.knn.exact import nearest_neighbors
from cellgauge.metrics.knn.graph import neighbor_count
from cellgauge.metrics.silhouette import neighbors_and_widths, silhouette_widths, sums_fit
from cellgauge.tasks.cells import CellsToScore, NotScorable, is_estimated, sampled_rows

AGREEMENT = ("ari", "nmi", "ami")
"""The metrics that need the graph of neighbors."""
WIDTHS = 20_000
"""Cells whose silhouette widths are computed where they are estimated: their mean has a standard error of .0035 at most."""
KEPT_FOR = {"metrics": AGREEMENT}


def find(
    cells: CellsToScore,
    *,
    seed: int,
    profiles: Sequence[str],
    metrics: Sequence[str],
    n_neighbors: int,
    exact_up_to: int,
) -> dict[str, np.ndarray]:
    """Find the nearest neighbors of every cell, and its silhouette width among the labels, in one pass where that is cheaper.

    Args:
        profiles, metrics, n_neighbors, exact_up_to: as for `tasks.clustering.score`.

    Returns:
        `indices`, int32, and `distances`, float32, shape (n_cells, k), nearest first, itself among them, where `AGREEMENT` is
        asked for; `widths`, float64, shape (n_cells,), where the silhouette is. Where they are estimated, also `recall`, the
        share of true neighbors, shape (); and the rows that `widths` are of, `sample`, int64, shape (n_sampled,).

    Raises:
        NotScorable: all cells carry the same label.
    """
    labels = cells.obs["label"]
    names, codes = np.unique(labels, return_inverse=True)  # sorted once: comparing strings is slow
    if len(names) < 2:
        raise NotScorable(f"all {len(labels)} cells have the label '{labels[0]}', so there is nothing to compare")
    with_graph, with_widths = bool(set(AGREEMENT) & set(metrics)), "silhouette" in metrics
    k, arrays = neighbor_count(len(labels), n_neighbors), {}
    if is_estimated(len(cells.embedded), profiles, exact_up_to):  # of all cells: the same for every model
        if with_graph:
            arrays["indices"], arrays["distances"], recall = approximate_neighbors(cells.matrix, k, seed)
            arrays["recall"] = np.array(recall)
        if with_widths:
            arrays["sample"] = sampled_rows(len(labels), min(exact_up_to, WIDTHS, len(labels)), seed)
            arrays["widths"] = silhouette_widths(cells.matrix, codes, cells.device, of=arrays["sample"])
        return arrays
    in_one_pass = with_graph and with_widths and cells.device is None and sums_fit(len(labels), len(names))
    if in_one_pass:
        indices, distances, arrays["widths"] = neighbors_and_widths(cells.matrix, k, codes)
    elif with_graph:
        by_label = np.argsort(codes, kind="stable")
        indices, distances = nearest_neighbors(cells.matrix, k, device=cells.device, order=by_label)
    if with_graph:
        arrays |= {"indices": indices.astype(np.int32), "distances": distances.astype(np.float32)}
    if with_widths and not in_one_pass:
        arrays["widths"] = silhouette_widths(cells.matrix, codes, cells.device)
    return arrays
