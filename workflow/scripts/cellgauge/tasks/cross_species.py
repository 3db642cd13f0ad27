"""Cross-species integration: do cells of different species lie among each other, and do their labels meet?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellgauge.contracts import Score
from cellgauge.metrics.mixing import expected_entropy, neighbourhood_entropy
from cellgauge.metrics.resampling import FEWEST, mean_interval
from cellgauge.metrics.silhouette import batch_silhouettes
from cellgauge.neighbours.cross_species import ALL, WIDTHS, draw_name, find, recall_name, subsamples
from cellgauge.tasks.base import of_approximate_neighbours

if TYPE_CHECKING:
    from cellgauge.tasks.base import CellsToScore

SCOPE = "dataset"
NEEDS = ("label",)
NEIGHBOURS_SUFFICE = True


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
    found = cells.neighbours
    if found is None:
        how = {"n_neighbors": n_neighbors, "n_draws": n_draws, "search": search, "approximate_above": approximate_above}
        found = find(cells, seed=seed, profiles=profiles, **how)
    species, labels = cells.obs["organism"], cells.obs["label"]
    sizes = np.unique(species, return_counts=True)[1]
    of_all = _Entropies.of(found, ALL, species)
    silhouettes = batch_silhouettes(found[WIDTHS], labels)
    if "reference" in profiles:
        yield from of_all.told("reference", _reference(of_all.values, n_neighbors))
        yield _mean_silhouette(silhouettes, "reference")
    if "corrected" in profiles:
        k = min(n_neighbors, len(species))
        yield from of_all.told("corrected", _mixing(of_all.values, sizes, k, n_neighbors))
        yield from of_all.noted(_over_donors(of_all.values, cells, seed))
        yield from of_all.noted(_per_label(of_all.values, labels))
        draws = {
            draw: _Entropies.of(found, draw_name(draw), species[rows])
            for draw, rows in subsamples(species, seed, n_draws)
        }
        yield from _on_balanced_subsamples(sizes, of_all, draws, n_neighbors)
        yield from _silhouettes(silhouettes, labels, species)


@dataclass(frozen=True)
class _Entropies:
    """The entropy of the neighbourhood of each cell, shape (n_cells,), and the recall where neighbours are approximate."""

    values: np.ndarray
    recall: float | None

    @classmethod
    def of(cls, found: Mapping[str, np.ndarray], name: str, species: np.ndarray) -> _Entropies:
        recall = found.get(recall_name(name))
        return cls(neighbourhood_entropy(found[name], species), None if recall is None else float(recall))

    def told(self, profile: str, scores: Iterator[Score], **where: Any) -> Iterator[Score]:
        """Yield scores that rest on these neighbours, and before them the recall where they are approximate."""
        if self.recall is not None:
            yield Score("neighbour_recall", self.recall, profile, **where)
        yield from self.noted(scores)

    def noted(self, scores: Iterator[Score]) -> Iterator[Score]:
        return scores if self.recall is None else of_approximate_neighbours(scores, self.recall)


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
    sizes: np.ndarray, of_all: _Entropies, draws: Mapping[int, _Entropies], n_neighbors: int
) -> Iterator[Score]:
    """Yield `_mixing` on draws with equal numbers of cells per species: each draw, and the mean where there are several."""
    even = np.full_like(sizes, sizes.min())
    k = min(n_neighbors, int(even.sum()))

    def told(of_draw: _Entropies, draw: int | None = None) -> Iterator[Score]:
        scores = _mixing(of_draw.values, even, k, n_neighbors, subset="balanced", seed=draw)
        return of_draw.told("corrected", scores, subset="balanced", seed=draw)

    if not draws:
        yield from told(of_all)
        return
    for draw, of_draw in draws.items():
        yield from told(of_draw, draw)
    recalls = [of_draw.recall for of_draw in draws.values()]
    mean = np.mean([of_draw.values for of_draw in draws.values()], axis=0)
    yield from told(_Entropies(mean, None if None in recalls else float(np.mean(recalls))))


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
