"""Worlds of cells of one species: what embeddings of them are worth to clustering, label prediction and the scIB suite."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from worlds import Alike, Better, CellWorld, Expected, world

CLUSTERS, LABELS, SCIB = "clustering", "label_prediction", "scib"
N_DIMS, N_DONORS = 20, 4
CLEAR, BLURRED = 1.5, 0.45
"""Spread of the labels' centers in standard deviations of the cells: labels apart, and labels that overlap."""


def observed(rng: np.random.Generator, sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return the codes of labels and donors, and obs: every donor has cells of every label, two donors are a batch."""
    codes = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    donors = np.zeros(len(codes), dtype=int)
    for code in range(len(sizes)):
        donors[codes == code] = np.arange(sizes[code]) % N_DONORS
    return codes, donors, columns(codes, donors)


def columns(codes: np.ndarray, donors: np.ndarray) -> dict[str, np.ndarray]:
    """Return obs of the codes of labels and donors."""
    return {
        "label": np.asarray([f"type {code}" for code in codes], dtype=object),
        "donor": np.asarray([f"donor {donor}" for donor in donors], dtype=object),
        "batch": np.asarray([f"batch {donor % 2}" for donor in donors], dtype=object),
        "organism": np.full(len(codes), "human", dtype=object),
    }


def centers(rng: np.random.Generator, n: int, spread: float, n_dims: int = N_DIMS) -> np.ndarray:
    """Return random places."""
    return rng.normal(0, spread, (n, n_dims))


def noise(rng: np.random.Generator, n_cells: int, n_dims: int = N_DIMS) -> np.ndarray:
    """Return an embedding that knows nothing."""
    return rng.normal(size=(n_cells, n_dims))


def chance(model: str, n_labels: int) -> list[Expected]:
    """Return what scores of an embedding without information must be, where the labels are of one size."""
    known = {"ari": 0, "ami": 0, "nmi": 0, "accuracy": 1 / n_labels, "balanced_accuracy": 1 / n_labels}
    known |= {"recall": 1 / n_labels, "f1": 1 / n_labels, "auroc": 0.5, "silhouette": 0.5}
    return [Expected(model, metric, value) for metric, value in known.items()]


@world(CLUSTERS, LABELS, SCIB)
def more_or_less_is_known(rng):
    """Five labels of equal size. One model separates them, one blurs them, one is noise."""
    codes, _, obs = observed(rng, [80] * 5)
    places = centers(rng, 5, 1)
    models = {
        "labels apart": CLEAR * places[codes] + noise(rng, 400),
        "labels blurred": BLURRED * places[codes] + noise(rng, 400),
        "noise": noise(rng, 400),
    }
    order = [Better("labels apart", "labels blurred"), Better("labels blurred", "noise")]
    return CellWorld(obs, models, [*order, *chance("noise", 5)])


@world(CLUSTERS, LABELS, SCIB)
def all_cells_on_one_point(rng):
    """One model gives every cell the same vector: all information is lost, and batches are mixed perfectly."""
    codes, _, obs = observed(rng, [80] * 5)
    models = {
        "labels blurred": centers(rng, 5, BLURRED)[codes] + noise(rng, 400),
        "one point": np.ones((400, N_DIMS)),
    }
    known = [
        Expected("one point", metric, value) for metric, value in {"ari": 0, "silhouette": 0.5, "auroc": 0.5}.items()
    ]
    return CellWorld(obs, models, [Better("labels blurred", "one point"), *known])


@world(CLUSTERS, LABELS, SCIB)
def batches_apart(rng):
    """Both models separate the labels. In one of them each label forms two islands, one for each technical batch."""
    codes, donors, obs = observed(rng, [80] * 5)
    places, batches = centers(rng, 5, 2 * CLEAR), centers(rng, 2, CLEAR)
    models = {
        "batches mixed": places[codes] + noise(rng, 400),
        "batches apart": places[codes] + batches[donors % 2] + noise(rng, 400),
        "noise": noise(rng, 400),
    }
    tie = "a classifier that has seen both batches names the labels in either"
    return CellWorld(obs, models, [Better("batches mixed", "batches apart", tie), Better("batches apart", "noise")])


@world(CLUSTERS, LABELS, SCIB)
def types_on_each_other(rng):
    """Six labels. One model puts two of them in the same place, one puts all of them together in pairs."""
    codes, _, obs = observed(rng, [70] * 6)
    places = centers(rng, 6, CLEAR)
    models = {
        "all apart": places[codes] + noise(rng, 420),
        "one pair merged": places[np.maximum(codes, 1)] + noise(rng, 420),
        "three pairs merged": places[codes // 2 * 2] + noise(rng, 420),
        "noise": noise(rng, 420),
    }
    names = list(models)
    return CellWorld(obs, models, [Better(a, b) for a, b in pairwise(names)])


@world(CLUSTERS, LABELS)
def a_rare_label_is_merged(rng):
    """Labels of 200, 120, 60 and 20 cells. One model merges the rarest with the most common one."""
    codes, _, obs = observed(rng, [200, 120, 60, 20])
    places = centers(rng, 4, CLEAR)
    models = {
        "all apart": places[codes] + noise(rng, 400),
        "rare label merged": places[np.where(codes == 3, 0, codes)] + noise(rng, 400),
        "only the common label apart": places[np.minimum(codes, 1)] + noise(rng, 400),
    }
    names = list(models)
    return CellWorld(obs, models, [Better(a, b) for a, b in pairwise(names)])


@world(CLUSTERS, LABELS)
def one_label_dominates(rng):
    """Four of five cells have the same label. The first model is perfect, the second blurs all labels."""
    codes, _, obs = observed(rng, [320, 20, 20, 20, 20])
    places = centers(rng, 5, 1)
    models = {
        "perfect": CLEAR * places[codes] + 0.05 * noise(rng, 400),
        "labels blurred": 0.7 * places[codes] + noise(rng, 400),
        "noise": noise(rng, 400),
    }
    order = [Better("perfect", "labels blurred"), Better("labels blurred", "noise")]
    order.append(Expected("perfect", "ari", 1, 0.1))
    known = [("ari", 0), ("ami", 0), ("auroc", 0.5), ("balanced_accuracy", 0.2), ("recall", 0.2)]
    return CellWorld(obs, models, [*order, *(Expected("noise", metric, value) for metric, value in known)])


@world(CLUSTERS, LABELS)
def only_easy_cells_are_embedded(rng):
    """Three labels are easy and three are hard. One model has no rows for cells of the hard labels, one has only 60
    rows.
    """
    codes, _, obs = observed(rng, [70] * 6)
    spread = np.asarray([CLEAR] * 3 + [BLURRED] * 3)[:, None]
    every = (spread * centers(rng, 6, 1))[codes] + noise(rng, 420)
    easy, few = every.copy(), every.copy()
    easy[codes >= 3] = np.nan
    few[rng.permutation(420)[60:]] = np.nan
    few[codes >= 3] = np.nan
    models = {"all cells": every, "only easy cells": easy, "a few easy cells": few}
    return CellWorld(
        obs, models, [Better("all cells", "only easy cells"), Better("only easy cells", "a few easy cells")]
    )


@world(CLUSTERS, LABELS)
def axes_of_unlike_scale(rng):
    """The same embedding in other units (times a million; far from the origin; with constant columns), and one in
    which a meaningless axis is a thousand times as long as the others.
    """
    codes, _, obs = observed(rng, [80] * 5)
    plain = centers(rng, 5, 1)[codes] + noise(rng, 400)
    models = {
        "plain": plain,
        "times a million": 1e6 * plain,
        "far from the origin": plain + 1e3,
        "with constant columns": np.hstack([plain, np.full((400, 10), 7.0)]),
        "one axis dominates": np.hstack([plain, 1e3 * noise(rng, 400, 1)]),
        "noise": noise(rng, 400),
    }
    same = [Alike("plain", name) for name in ("times a million", "far from the origin", "with constant columns")]
    order = [
        Better("plain", "one axis dominates", "a classifier weighs axes for itself"),
        Better("one axis dominates", "noise", "neighbors see the long axis alone"),
    ]
    return CellWorld(obs, models, [*order, *same])


@world(CLUSTERS, LABELS)
def ten_to_two_thousand_dimensions(rng):
    """The same information on 10 axes, on 2,000 (rotated at random), and on 10 together with 1,990 of noise; noise
    on 10 and on 2,000 axes.
    """
    codes, _, obs = observed(rng, [60] * 5)
    few = centers(rng, 5, CLEAR, 10)[codes] + noise(rng, 300, 10)
    turned = few @ np.linalg.qr(rng.normal(size=(2000, 10)))[0].T
    models = {
        "10 axes": few,
        "turned into 2,000": turned,
        "10 axes beside 1,990 of noise": np.hstack([few, noise(rng, 300, 1990)]),
        "noise on 10 axes": noise(rng, 300, 10),
        "noise on 2,000 axes": noise(rng, 300, 2000),
    }
    order = [
        Better("10 axes", "10 axes beside 1,990 of noise"),
        Better("10 axes beside 1,990 of noise", "noise on 2,000 axes"),
        Better("turned into 2,000", "noise on 10 axes"),
    ]
    same = [Alike("10 axes", "turned into 2,000"), Alike("noise on 10 axes", "noise on 2,000 axes")]
    return CellWorld(obs, models, [*order, *same, *chance("noise on 2,000 axes", 5)])


@world(CLUSTERS, LABELS)
def donors_are_memorized(rng):
    """One model puts each label in one place, whatever the donor. The other has a separate place for every label of
    every donor: it has memorized these donors and knows nothing about new ones.
    """
    codes, donors, obs = observed(rng, [80] * 5)
    models = {
        "labels, blurred": centers(rng, 5, 0.7)[codes] + noise(rng, 400),
        "donors by heart": centers(rng, 5 * N_DONORS, CLEAR)[codes * N_DONORS + donors] + noise(rng, 400),
    }
    known = [Expected("donors by heart", "auroc", 0.5, 0.1, "donor_folds")]
    return CellWorld(obs, models, [Better("labels, blurred", "donors by heart"), *known])


@world(LABELS, shown=[CLUSTERS])
def labels_follow_donors(rng):
    """Each donor has mostly one label, as when patients and controls differ. One model knows the labels a little,
    one knows only the donors. Clustering is shown but not required to be right: it sees only labels and cannot
    separate the two.
    """
    codes = np.repeat(np.arange(4), 100)
    donors = np.where(rng.random(400) < 0.85, codes, rng.integers(0, 4, 400))
    models = {
        "labels, blurred": centers(rng, 4, BLURRED)[codes] + noise(rng, 400),
        "donors alone": centers(rng, 4, CLEAR)[donors] + noise(rng, 400),
    }
    return CellWorld(columns(codes, donors), models, [Better("labels, blurred", "donors alone")])


@world(CLUSTERS, LABELS)
def cells_are_in_the_data_twice(rng):
    """Every cell is in the data twice, as in atlases that share a study. One model blurs the labels, the other has a
    vector for each cell that only identifies the cell.
    """
    codes, donors, _ = observed(rng, [60] * 5)
    fingerprints = noise(rng, 300, 100)
    twice = np.tile(np.arange(300), 2)
    slight = 0.01 * noise(rng, 600, 100)
    models = {
        "labels blurred": (centers(rng, 5, BLURRED)[codes] + noise(rng, 300))[twice] + slight[:, :N_DIMS],
        "which cell it is": fingerprints[twice] + slight,
    }
    obs = columns(codes[twice], donors[twice])
    return CellWorld(obs, models, [Better("labels blurred", "which cell it is"), *chance("which cell it is", 5)])


@world(CLUSTERS, LABELS)
def labels_are_trajectories(rng):
    """In the first model each label is a long path, as in differentiation, and the paths run in parallel without
    touching. In the second, labels are round and overlap.
    """
    codes, _, obs = observed(rng, [100] * 4)
    along = np.zeros((400, N_DIMS))
    along[:, 0] = rng.uniform(0, 60, 400)
    along[np.arange(400), 1 + codes] += 10
    models = {
        "long paths, apart": along + noise(rng, 400),
        "round, overlapping": centers(rng, 4, 0.6)[codes] + noise(rng, 400),
    }
    return CellWorld(obs, models, [Better("long paths, apart", "round, overlapping")])


@world(CLUSTERS, LABELS)
def finer_than_the_labels(rng):
    """The first model shows three subtypes within each label and confuses no labels. The second puts the labels
    together in pairs.
    """
    codes, _, obs = observed(rng, [90] * 4)
    labels = centers(rng, 4, 3)
    subtypes = (labels[:, None] + rng.normal(0, 1, (4, 3, N_DIMS))).reshape(-1, N_DIMS)
    models = {
        "subtypes": subtypes[codes * 3 + rng.integers(0, 3, 360)] + noise(rng, 360),
        "pairs merged": labels[codes // 2 * 2] + noise(rng, 360),
    }
    return CellWorld(obs, models, [Better("subtypes", "pairs merged")])
