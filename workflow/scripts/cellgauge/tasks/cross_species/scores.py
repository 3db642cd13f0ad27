"""Cross-species integration: do cells of different species lie among each other, and do their labels meet?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cellgauge.files.score import Score
from cellgauge.metrics.donors import means_without
from cellgauge.metrics.entropy import expected_entropy, neighborhood_entropy
from cellgauge.metrics.silhouette import batch_silhouettes
from cellgauge.tasks.cells import without_donors
from cellgauge.tasks.cross_species.neighbors import ALL, WIDTHS, draw_name, find, subsamples

if TYPE_CHECKING:
    from cellgauge.tasks.cells import CellsToScore

SCOPE = "dataset"
NEEDS = ("label",)


def score(
    cells: CellsToScore,
    *,
    profiles: Sequence[str],
    seed: int,
    n_neighbors: int = 200,
    n_draws: int = 3,
) -> Iterator[Score]:
    """Yield the entropy of species in cells' neighborhoods and the silhouette of species within labels.

    Profile corrected sets the entropy against its expectation if species were spread at random over the same cells, and
    repeats both on subsamples with as many cells of every species.

    Raises:
        NotScorable: the cells are of one species.
    """
    found = cells.neighbors
    if found is None:
        found = find(cells, seed=seed, profiles=profiles, n_neighbors=n_neighbors, n_draws=n_draws)
    species, labels = cells.obs["organism"], cells.obs["label"]
    sizes = np.unique(species, return_counts=True)[1]
    entropies = neighborhood_entropy(found[ALL], species)
    silhouettes = batch_silhouettes(found[WIDTHS], labels)
    if "reference" in profiles:
        yield from _reference(entropies, n_neighbors)
        yield _mean_silhouette(silhouettes, "reference")
    if "corrected" in profiles:
        k = min(n_neighbors, len(species))
        yield from _mixing(entropies, sizes, k, n_neighbors)
        yield from _over_donors(entropies, cells)
        yield from _per_label(entropies, labels)
        draws = {
            draw: neighborhood_entropy(found[draw_name(draw)], species[rows])
            for draw, rows in subsamples(species, seed, n_draws)
        }
        yield from _on_balanced_subsamples(sizes, entropies, draws, n_neighbors)
        yield from _silhouettes(silhouettes, labels, species)


def _reference(entropies: np.ndarray, n_neighbors: int) -> Iterator[Score]:
    if len(entropies) >= n_neighbors:
        yield Score("entropy_per_cell", float(entropies.mean()), "reference")
    else:
        yield Score(
            "entropy_per_cell",
            profile="reference",
            status="not_applicable",
            reason=f"there are {len(entropies)} cells, the reference needs {n_neighbors} neighbors of each",
        )


def _mean_silhouette(silhouettes: dict[str, float], profile: str) -> Score:
    if silhouettes:
        return Score("batch_silhouette", float(np.mean(list(silhouettes.values()))), profile)
    return Score(
        "batch_silhouette",
        profile=profile,
        status="not_applicable",
        reason="no label has cells of two species, and more than one of some",
    )


def _mixing(
    entropies: np.ndarray, sizes: np.ndarray, k: int, n_neighbors: int, subset: str = "", seed: int | None = None
) -> Iterator[Score]:
    """Yield the mean entropy, what it would be under random mixing, and their ratio."""
    everything = k == len(entropies)
    clamped = f"{len(entropies)} cells: neighborhoods of {k} instead of {n_neighbors}" if k < n_neighbors else ""
    common = {"profile": "corrected", "subset": subset, "seed": seed}
    observed, expected = float(entropies.mean()), expected_entropy(sizes, k)
    yield Score("entropy_per_cell", observed, **common, reason=clamped)
    yield Score("entropy_expected", expected, **common, reason=clamped)
    if everything:
        reason = f"every neighborhood holds all {k} cells: mixing cannot be told from separation"
        yield Score("entropy_ratio", **common, status="not_applicable", reason=reason)
    else:
        yield Score("entropy_ratio", observed / expected, **common, reason=clamped)


def _over_donors(entropies: np.ndarray, cells: CellsToScore) -> Iterator[Score]:
    """Yield the mean entropy without one donor after the other, named species/donor, where each species has two or more."""
    donors, species = cells.obs.get("donor"), cells.obs["organism"]
    if donors is None or (donors == "").any():
        return
    donors = np.char.add(np.char.add(species.astype(str), "/"), donors.astype(str))
    if min(len(np.unique(donors[species == name])) for name in np.unique(species)) >= 2:
        yield from without_donors("entropy_per_cell", means_without(entropies, donors))


def _per_label(entropies: np.ndarray, labels: np.ndarray) -> Iterator[Score]:
    for label in np.unique(labels):
        value = float(entropies[labels == label].mean())
        yield Score("entropy_per_cell", value, "corrected", condition=str(label))


def _on_balanced_subsamples(
    sizes: np.ndarray, entropies: np.ndarray, draws: Mapping[int, np.ndarray], n_neighbors: int
) -> Iterator[Score]:
    """Yield `_mixing` on draws with equal numbers of cells per species: each draw, and the mean where there are several."""
    even = np.full_like(sizes, sizes.min())
    k = min(n_neighbors, int(even.sum()))

    mixing = partial(_mixing, sizes=even, k=k, n_neighbors=n_neighbors, subset="balanced")
    for draw, of_draw in draws.items():
        yield from mixing(of_draw, seed=draw)
    yield from mixing(np.mean(list(draws.values()), axis=0) if draws else entropies)


def _silhouettes(silhouettes: dict[str, float], labels: np.ndarray, species: np.ndarray) -> Iterator[Score]:
    names = np.unique(labels)
    shared = [name for name in names if len(np.unique(species[labels == name])) > 1]
    alone = sorted(set(names) - set(shared))
    yield _mean_silhouette(silhouettes, "corrected")
    for label, value in silhouettes.items():
        yield Score("batch_silhouette", value, "corrected", condition=label)
    yield Score("labels_shared", float(len(shared)), "corrected")
    reason = f"in one species only: {', '.join(alone)}" if alone else ""
    yield Score("labels_not_shared", float(len(alone)), "corrected", reason=reason)
