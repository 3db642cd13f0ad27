"""Cross-species integration: do cells of different species lie among each other, and do their labels meet?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cellgauge.contracts import Score
from cellgauge.metrics.approximate import approximate_neighbourhoods
from cellgauge.metrics.mixing import balanced_subsample, expected_entropy, neighbourhood_entropy
from cellgauge.metrics.neighbours import neighbourhoods
from cellgauge.metrics.resampling import FEWEST, mean_interval
from cellgauge.metrics.silhouette import batch_silhouettes
from cellgauge.tasks.base import NotScorable, is_approximate, of_approximate_neighbours

if TYPE_CHECKING:
    from cellgauge.tasks.base import CellsToScore

SCOPE = "dataset"
NEEDS = ("label",)


def score(
    cells: CellsToScore,
    *,
    profiles: Sequence[str],
    seed: int,
    n_neighbors: int = 200,
    n_draws: int = 3,
    search: str = "exact",
    approximate_above: int = 60_000,
) -> Iterator[Score]:
    """Yield the entropy of species in cells' neighbourhoods and the silhouette of species within labels.

    Profile corrected sets the entropy against its expectation if species were spread at random over the same cells, and
    repeats both on subsamples with as many cells of every species.

    Args:
        search: how neighbours are searched, "exact" at every size, or "approximate" above `approximate_above` cells (of a
            subsample: its own); then the share of true neighbours that was found is a score too.

    Raises:
        CellgaugeError: an unknown search.
        NotScorable: the cells are of one species.
    """
    species, labels = cells.obs["organism"], cells.obs["label"]
    sizes = np.unique(species, return_counts=True)[1]
    codes = np.unique(labels, return_inverse=True)[1]
    if len(sizes) < 2:
        raise NotScorable(f"all {len(species)} cells are of the species {species[0]}: there is nothing to mix")

    def entropies_of(rows: np.ndarray | slice, k: int) -> _Entropies:
        """Return the entropy of cells among each other, and where their neighbours are approximate the recall."""
        matrix, recall = cells.matrix[rows], None
        if is_approximate("cross_species", search, approximate_above, len(matrix)):
            found, recall = approximate_neighbourhoods(matrix, k, seed)
        else:
            found = neighbourhoods(matrix, k, device=cells.device, order=np.argsort(codes[rows], kind="stable"))
        return neighbourhood_entropy(found, species[rows]), recall

    k = min(n_neighbors, len(species))
    entropies, recall = entropies_of(slice(None), k)
    silhouettes = batch_silhouettes(cells.matrix, labels, species, cells.device)
    if "reference" in profiles:
        yield from _told(recall, "reference", _reference(entropies, n_neighbors))
        yield _mean_silhouette(silhouettes, "reference")
    if "corrected" in profiles:
        yield from _told(recall, "corrected", _mixing(entropies, sizes, k, n_neighbors))
        yield from _with_recall(recall, _over_donors(entropies, cells, seed))
        yield from _with_recall(recall, _per_label(entropies, labels))
        yield from _on_balanced_subsamples(species, entropies_of, (entropies, recall), seed, n_neighbors, n_draws)
        yield from _silhouettes(silhouettes, labels, species)


_Entropies = tuple[np.ndarray, float | None]
"""The entropy of each cell's neighbourhood, and the recall of the search where neighbours are approximate."""


def _told(recall: float | None, profile: str, scores: Iterator[Score], **where: Any) -> Iterator[Score]:
    """Yield scores that rest on neighbours, and before them the recall where these are approximate."""
    if recall is not None:
        yield Score("neighbour_recall", recall, profile, **where)
    yield from _with_recall(recall, scores)


def _with_recall(recall: float | None, scores: Iterator[Score]) -> Iterator[Score]:
    return scores if recall is None else of_approximate_neighbours(scores, recall)


def _reference(entropies: np.ndarray, n_neighbors: int) -> Iterator[Score]:
    if len(entropies) >= n_neighbors:
        yield Score("entropy_per_cell", float(entropies.mean()), "reference")
    else:
        yield Score(
            "entropy_per_cell",
            profile="reference",
            status="not_applicable",
            reason=f"there are {len(entropies)} cells, the reference needs {n_neighbors} neighbours of each",
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
    clamped = f"{len(entropies)} cells: neighbourhoods of {k} instead of {n_neighbors}" if k < n_neighbors else ""
    common = {"profile": "corrected", "subset": subset, "seed": seed}
    observed, expected = float(entropies.mean()), expected_entropy(sizes, k)
    yield Score("entropy_per_cell", observed, **common, reason=clamped)
    yield Score("entropy_expected", expected, **common, reason=clamped)
    if everything:
        reason = f"every neighbourhood holds all {k} cells: mixing cannot be told from separation"
        yield Score("entropy_ratio", **common, status="not_applicable", reason=reason)
    else:
        yield Score("entropy_ratio", observed / expected, **common, reason=clamped)


def _over_donors(entropies: np.ndarray, cells: CellsToScore, seed: int) -> Iterator[Score]:
    """Yield the interval of the mean entropy over draws of donors within each species, where each has two or more."""
    donors, species = cells.obs.get("donor"), cells.obs["organism"]
    if donors is None or (donors == "").any():
        return
    donors = np.char.add(np.char.add(species.astype(str), "/"), donors.astype(str))
    of_species = [len(np.unique(donors[species == name])) for name in np.unique(species)]
    if min(of_species) >= 2 and sum(of_species) >= FEWEST:
        low, high = mean_interval(entropies, donors, seed, strata=species)
        yield Score("entropy_per_cell_low", low, "corrected")
        yield Score("entropy_per_cell_high", high, "corrected")


def _per_label(entropies: np.ndarray, labels: np.ndarray) -> Iterator[Score]:
    for label in np.unique(labels):
        value = float(entropies[labels == label].mean())
        yield Score("entropy_per_cell", value, "corrected", condition=str(label))


def _on_balanced_subsamples(
    species: np.ndarray,
    entropies_of: Callable[[np.ndarray, int], _Entropies],
    of_all: _Entropies,
    seed: int,
    n_neighbors: int,
    n_draws: int,
) -> Iterator[Score]:
    """Yield `_mixing` on draws with equal numbers of cells per species: each draw, and the mean where there are several."""
    sizes = np.unique(species, return_counts=True)[1]
    even = np.full_like(sizes, sizes.min())
    k = min(n_neighbors, int(even.sum()))

    def told(of_draw: _Entropies, draw: int | None = None) -> Iterator[Score]:
        entropies, recall = of_draw
        scores = _mixing(entropies, even, k, n_neighbors, subset="balanced", seed=draw)
        return _told(recall, "corrected", scores, subset="balanced", seed=draw)

    if (sizes == sizes.min()).all():
        yield from told(of_all)
        return
    drawn = []
    for draw in range(seed, seed + n_draws):
        drawn.append(entropies_of(balanced_subsample(species, draw), k))
        yield from told(drawn[-1], draw)
    entropies, recalls = zip(*drawn, strict=True)
    yield from told((np.mean(entropies, axis=0), None if None in recalls else float(np.mean(recalls))))


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
