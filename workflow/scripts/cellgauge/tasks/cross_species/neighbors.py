"""What cross-species integration asks of the distances between cells: neighborhoods, and the species' silhouette widths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellgauge.metrics.entropy import balanced_subsample
from cellgauge.metrics.knn.exact import neighborhoods
from cellgauge.metrics.silhouette import batch_widths
from cellgauge.tasks.cells import NotScorable

if TYPE_CHECKING:
    from cellgauge.tasks.cells import CellsToScore

ALL = "all"
WIDTHS = "widths"


def find(
    cells: CellsToScore,
    *,
    seed: int,
    profiles: Sequence[str],
    n_neighbors: int,
    n_draws: int,
) -> dict[str, np.ndarray]:
    """Find the neighborhoods of the cells of all species, those of balanced subsamples, and silhouette widths of species.

    Args:
        profiles: subsamples are searched for profile corrected alone.
        n_neighbors, n_draws: as for `tasks.cross_species.score`.

    Returns:
        `all`: the k nearest of every cell, in no order, itself among them, int32, shape (n_cells, k), and for each of the
        `subsamples` the same of its cells under the name `draw_<seed>`; `widths` of the species within each label, float64,
        shape (n_cells,), NaN where not defined.

    Raises:
        NotScorable: the cells are of one species.
    """
    names, species = np.unique(cells.obs["organism"], return_inverse=True)  # sorted once: comparing strings is slow
    if len(names) < 2:
        raise NotScorable(f"all {len(species)} cells are of the species {names[0]}: there is nothing to mix")
    codes = np.unique(cells.obs["label"], return_inverse=True)[1]
    found = {WIDTHS: batch_widths(cells.matrix, codes, species, cells.device)}
    parts: dict[str, slice | np.ndarray] = {ALL: slice(None)}
    if "corrected" in profiles:
        parts |= {draw_name(draw): rows for draw, rows in subsamples(species, seed, n_draws)}
    for name, rows in parts.items():
        matrix = cells.matrix[rows]
        k = min(n_neighbors, len(matrix))
        by_label = np.argsort(codes[rows], kind="stable")
        found[name] = neighborhoods(matrix, k, device=cells.device, order=by_label)
    return found


def subsamples(species: np.ndarray, seed: int, n_draws: int) -> list[tuple[int, np.ndarray]]:
    """Return the seed and the rows of each draw with as many cells of every species; none where these are equal anyway."""
    sizes = np.unique(species, return_counts=True)[1]
    if (sizes == sizes.min()).all():
        return []
    return [(draw, balanced_subsample(species, draw)) for draw in range(seed, seed + n_draws)]


def draw_name(seed: int) -> str:
    """Return the name of a subsample's neighborhoods."""
    return f"draw_{seed}"
