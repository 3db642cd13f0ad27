"""Clustering: do the communities that Leiden finds in the embedding agree with the labels, and are labels compact?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellgauge.core.errors import CellgaugeError
from cellgauge.files.score import Score
from cellgauge.metrics.agreement import adjusted_rand_index, contingency, normalized_mutual_info
from cellgauge.metrics.donors import agreements_without, means_without
from cellgauge.metrics.knn.graph import fuzzy_edges, leiden
from cellgauge.metrics.silhouette import scaled
from cellgauge.tasks.cells import without_donors
from cellgauge.tasks.clustering.neighbors import find

if TYPE_CHECKING:
    from cellgauge.tasks.cells import CellsToScore

SCOPE = "split"
NEEDS = ("label",)
AGREEMENT = {"ari": adjusted_rand_index, "nmi": normalized_mutual_info}
METRICS = ("ari", "nmi", "silhouette")
FLAVORS = ("igraph", "leidenalg")


def score(
    cells: CellsToScore,
    *,
    profiles: Sequence[str],
    seed: int,
    metrics: Sequence[str] = METRICS,
    n_neighbors: int = 15,
    resolution: float = 1.0,
    n_iterations: int = 2,
    n_seeds: int = 10,
    flavor: str = "igraph",
) -> Iterator[Score]:
    """Yield agreement of Leiden's communities with the labels, and the labels' silhouette.

    Profile reference takes the communities of one seed; corrected those of `n_seeds` seeds on the same graph, and reports
    each, their mean and their standard deviation: single seeds differ by more than many models do. It adds
    each score without one donor after the other.

    Args:
        flavor: the implementation of Leiden, "igraph" (the reference's) or "leidenalg".

    Raises:
        CellgaugeError: an unknown metric or flavor.
        NotScorable: all cells carry the same label.
    """
    unknown = set(metrics) - set(METRICS)
    if unknown:
        raise CellgaugeError(f"clustering: unknown metric '{min(unknown)}'; there are {', '.join(METRICS)}")
    if flavor not in FLAVORS:
        raise CellgaugeError(f"clustering: unknown flavor '{flavor}'; there are {', '.join(FLAVORS)}")
    found = cells.neighbors
    if found is None:
        found = find(cells, seed=seed, metrics=metrics, n_neighbors=n_neighbors)
    donors = _donors(cells) if "corrected" in profiles else None
    agreement = [name for name in AGREEMENT if name in metrics]
    if agreement:
        seeds = list(range(seed, seed + (n_seeds if "corrected" in profiles else 1)))
        edges = fuzzy_edges(found["indices"].astype(np.int64), found["distances"])
        communities = leiden(edges, seeds, resolution, n_iterations, flavor)
        codes = np.unique(cells.obs["label"], return_inverse=True)[1]
        yield from _agreement(communities, codes, donors, agreement, profiles, seeds)
    if "silhouette" in metrics:
        widths = scaled(found["widths"])
        yield from (Score("silhouette", float(widths.mean()), profile) for profile in profiles)
        if donors is not None:
            yield from without_donors("silhouette", means_without(widths, donors))


def _agreement(
    communities: Sequence[np.ndarray],
    codes: np.ndarray,
    donors: np.ndarray | None,
    metrics: Sequence[str],
    profiles: Sequence[str],
    seeds: list[int],
) -> Iterator[Score]:
    """Yield how far the communities of each seed agree with the labels, and how many there are."""
    tables = [contingency(codes, found) for found in communities]
    values = {name: [AGREEMENT[name](table) for table in tables] for name in metrics}
    values["n_clusters"] = [float(len(table.second)) for table in tables]
    if "reference" in profiles:
        yield from (Score(name, found[0], "reference") for name, found in values.items())
    if "corrected" in profiles:
        yield from _over_seeds(values, seeds)
        if donors is not None:
            functions = {name: AGREEMENT[name] for name in metrics}
            for name, values in agreements_without(codes, communities, donors, functions).items():
                yield from without_donors(name, values)


def _donors(cells: CellsToScore) -> np.ndarray | None:
    """Return the donor of each cell, None where one is unknown or there is a single one."""
    donors = cells.obs.get("donor")
    if donors is None or (donors == "").any() or len(np.unique(donors)) < 2:
        return None
    return donors


def _over_seeds(values: dict[str, list[float]], seeds: list[int]) -> Iterator[Score]:
    for name, found in values.items():
        yield from (Score(name, value, "corrected", seed=seed) for seed, value in zip(seeds, found, strict=True))
        yield Score(name, float(np.mean(found)), "corrected")
        if name in AGREEMENT and len(found) > 1:
            yield Score(f"{name}_sd", float(np.std(found, ddof=1)), "corrected")
