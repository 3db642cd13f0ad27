"""Clustering: do the communities that Leiden finds in the embedding agree with the labels, and are labels compact?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from cellgauge.files.score import Score
from cellgauge.metrics.agreement import adjusted_mutual_info, adjusted_rand_index, contingency, normalized_mutual_info
from cellgauge.metrics.donors import agreements_without, means_without
from cellgauge.metrics.knn.graph import Leiden, fuzzy_edges, neighbor_count
from cellgauge.tasks.cells import CellsToScore, check_names, joined, without_donors
from cellgauge.tasks.clustering.neighbors import find

SCOPE = "split"
NEEDS = ("label",)
AGREEMENT = {"ari": adjusted_rand_index, "nmi": normalized_mutual_info, "ami": adjusted_mutual_info}
CORRECTED_ONLY = ("ami",)
METRICS = ("ari", "nmi", "ami", "silhouette")
RESOLUTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0)
"""Those that scIB sweeps (Luecken et al. 2022)."""
FLAVORS = ("igraph", "leidenalg")


def score(
    cells: CellsToScore,
    *,
    profiles: Sequence[str],
    seed: int,
    metrics: Sequence[str] = METRICS,
    n_neighbors: int = 15,
    resolution: float = 1.0,
    resolutions: Sequence[float] = RESOLUTIONS,
    n_iterations: int = 2,
    n_seeds: int = 10,
    flavor: str = "igraph",
    exact_up_to: int = 100_000,
) -> Iterator[Score]:
    """Yield agreement of Leiden's communities with the labels, and the labels' silhouette.

    Profile reference takes the communities of one seed at `resolution`. Corrected first chooses among `resolutions` with one
    seed: that with as many communities as there are labels (see `_n_findable`), or nearly as many. There it takes `n_seeds`
    seeds on the same graph, and reports each, their mean and their standard deviation: single seeds differ by more than many
    models do. It adds each score without one donor after the other.

    A cell that the model did not embed is put into a community by chance in corrected, as often as the community is large,
    anew for each seed. That tells nothing of the labels, so it lowers the agreement of communities that tell anything. As
    communities of their own such cells would raise the NMI, and the ARI too wherever they replace wrong ones; as one
    community all pairs of them that share a label would count as found.

    Args:
        resolutions: ascending.
        flavor: the implementation of Leiden, "igraph" (the reference's) or "leidenalg".
        exact_up_to: number of cells beyond which a run in profile corrected alone takes approximate neighbors, and the
            silhouette widths of random cells, each among all.

    Raises:
        CellgaugeError: an unknown metric or flavor.
        NotScorable: all cells carry the same label.
    """
    check_names("clustering", "metric", metrics, METRICS)
    check_names("clustering", "flavor", [flavor], FLAVORS)
    arrays = cells.neighbors
    if arrays is None:
        options = {"seed": seed, "profiles": profiles, "metrics": metrics, "n_neighbors": n_neighbors}
        arrays = find(cells, **options, exact_up_to=exact_up_to)
    agreement = [name for name in AGREEMENT if name in metrics]
    if agreement:
        edges = fuzzy_edges(arrays["indices"].astype(np.int64), arrays["distances"])
        leiden = Leiden(edges, n_iterations, flavor)
        if "reference" in profiles:
            codes = np.unique(cells.obs["label"], return_inverse=True)[1]
            table = contingency(codes, leiden.communities(seed, resolution))
            of_reference = [name for name in agreement if name not in CORRECTED_ONLY]
            yield from (Score(name, AGREEMENT[name](table), "reference") for name in of_reference)
            yield Score("n_clusters", float(len(table.second)), "reference")
        if "corrected" in profiles:
            seeds = range(seed, seed + n_seeds)
            scores = _corrected(cells, leiden, agreement, seeds, sorted(resolutions), n_neighbors)
            note = f"approximate neighbors, {arrays['recall']:.1%} of them right" if "recall" in arrays else ""
            yield from (replace(score, reason=joined(score.reason, note)) for score in scores)
    if "silhouette" in metrics:
        # from [-1, 1] to [0, 1], as scib-metrics' `silhouette_label` (cell type ASW, Luecken et al. 2022)
        widths, sample, note = (arrays["widths"] + 1) / 2, arrays.get("sample", slice(None)), ""
        if "sample" in arrays:
            error = widths.std() / np.sqrt(len(widths))
            note = f"of {len(widths)} of {cells.n_cells} cells, standard error {error:.1g}"
        yield from (Score("silhouette", float(widths.mean()), profile, reason=note) for profile in profiles)
        donors = _donors(cells.obs.get("donor")) if "corrected" in profiles else None
        if donors is not None:
            yield from without_donors("silhouette", means_without(widths, donors[sample]))


def _corrected(
    cells: CellsToScore,
    leiden: Leiden,
    metrics: Sequence[str],
    seeds: Sequence[int],
    resolutions: Sequence[float],
    n_neighbors: int,
) -> Iterator[Score]:
    """Yield how far the communities of each seed agree with the labels of all cells, and how they were found."""
    codes, sizes = np.unique(cells.of_all("label"), return_inverse=True, return_counts=True)[1:]
    n_labels = _n_findable(sizes, n_neighbors)
    resolution = leiden.resolution_for(n_labels, seeds[0], resolutions)
    of_embedded = [leiden.communities(seed, resolution) for seed in seeds]
    pairs = zip(of_embedded, seeds, strict=True)
    communities = [_with_left_out(groups, cells.embedded, seed) for groups, seed in pairs]
    tables = [contingency(codes, groups) for groups in communities]
    values = {name: [AGREEMENT[name](table) for table in tables] for name in metrics}
    values["n_clusters"] = [float(groups.max() + 1) for groups in of_embedded]
    n_clusters = int(of_embedded[0].max()) + 1
    reason = f"{n_clusters} clusters with seed {seeds[0]}, {n_labels} labels have at least {n_neighbors} cells"
    yield Score("resolution", float(resolution), "corrected", reason=reason)
    for name, of_seeds in values.items():
        yield from (Score(name, value, "corrected", seed=seed) for seed, value in zip(seeds, of_seeds, strict=True))
        yield Score(name, float(np.mean(of_seeds)), "corrected")
        if name in AGREEMENT and len(of_seeds) > 1:
            yield Score(f"{name}_sd", float(np.std(of_seeds, ddof=1)), "corrected")
    donors = _donors(cells.of_all("donor") if "donor" in cells.obs else None)
    if donors is not None:
        functions = {name: AGREEMENT[name] for name in metrics}
        for name, without in agreements_without(codes, communities, donors, functions).items():
            yield from without_donors(name, without)


def _n_findable(sizes: np.ndarray, n_neighbors: int) -> int:
    """Return how many labels could be communities: those of at least as many cells as a neighborhood has, at least two.

    The neighborhoods of cells of a smaller label reach into others, however well it is embedded. If it were counted too, its
    community would be had by cutting the largest label in two, which lowers the agreement of the very best embeddings.

    Args:
        sizes: how many cells carry each label, whether or not they are embedded.
    """
    return max(2, int((sizes >= neighbor_count(int(sizes.sum()), n_neighbors)).sum()))


def _with_left_out(communities: np.ndarray, embedded: np.ndarray, seed: int) -> np.ndarray:
    """Return the community of every cell: those that are not embedded are in one by chance, as often as it is large."""
    if embedded.all():
        return communities
    everyone = np.empty(len(embedded), dtype=np.int64)
    everyone[embedded] = communities
    everyone[~embedded] = np.random.default_rng(seed).choice(communities, size=int((~embedded).sum()))
    return everyone


def _donors(donors: np.ndarray | None) -> np.ndarray | None:
    """Return the donor of each cell, None where one is unknown or there is a single one."""
    if donors is None or (donors == "").any() or len(np.unique(donors)) < 2:
        return None
    return donors
