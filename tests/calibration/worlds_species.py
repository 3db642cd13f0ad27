"""Worlds of cells of several species in one space."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from worlds import Alike, Better, CellWorld, Expected, world
from worlds_cells import N_DIMS, N_DONORS, centers, noise

SPECIES = ("human", "mouse", "chicken", "opossum")
FAR = 20.0
"""How far species that are apart lie from each other, in standard deviations of cells; labels lie about 19 apart."""


def observed(sizes: Mapping[str, list[int]]) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return the codes of labels and species, and obs, given how many cells each species has of each label."""
    codes = np.concatenate([np.repeat(np.arange(len(counts)), counts) for counts in sizes.values()])
    species = np.repeat(np.arange(len(sizes)), [sum(counts) for counts in sizes.values()])
    donors = [f"donor {cell % N_DONORS}" for cell in range(len(codes))]
    obs = {
        "label": np.asarray([f"type {code}" for code in codes], dtype=object),
        "organism": np.asarray(list(sizes), dtype=object)[species],
        "donor": np.asarray(donors, dtype=object),
        "batch": np.asarray(donors, dtype=object),
    }
    return codes, species, obs


def shift(steps: np.ndarray) -> np.ndarray:
    """Return a shift of each cell by so many steps of `FAR`, each step along an axis of its own."""
    moved = np.zeros((len(steps), N_DIMS))
    moved[np.arange(len(steps)), steps] = FAR
    return moved


@world("cross_species")
def species_mixed_or_apart(rng):
    """Four species, four labels. Perfect: labels apart, species mixed. Pairs apart: human with mouse, chicken with
    opossum. All apart: each species separate, moved as a whole. Wrong types: species mixed, but each label of one
    lies on another label of the next. Noise; and all cells on one point.
    """
    codes, species, obs = observed(dict.fromkeys(SPECIES, [60] * 4))
    n, places = len(codes), centers(rng, 4, 3)
    models = {
        "perfect": places[codes] + noise(rng, n),
        "pairs apart": places[codes] + shift(species // 2) + noise(rng, n),
        "all apart": places[codes] + shift(species) + noise(rng, n),
        "wrong types": places[(codes + species) % 4] + noise(rng, n),
        "noise": noise(rng, n),
        "one point": np.ones((n, N_DIMS)),
        "perfect, times a million": 1e6 * (places[codes] + noise(rng, n)),
    }
    tie = "labels can be carried over wherever their order among each other is kept"
    claims = [
        Better("perfect", "pairs apart", tie),
        Better("pairs apart", "all apart", tie),
        *(Better("perfect", worse) for worse in ("wrong types", "noise", "one point")),
        *(Better("pairs apart", worse) for worse in ("wrong types", "noise", "one point")),
        Better("all apart", "noise"),
        Alike("perfect", "perfect, times a million"),
        Expected("perfect", "entropy_ratio", 1),
    ]
    return CellWorld(obs, models, claims)


@world("cross_species")
def unequal_proportions(rng):
    """Two species have the same labels in other proportions, 4 to 1. A right model puts each label on the same
    label, so neighborhoods are as uneven as the labels. The forced one mixes the species evenly everywhere,
    across labels, as does an integration that takes proportions for a batch effect.
    """
    codes, species, obs = observed({"human": [240, 60, 60, 240], "mouse": [60, 240, 240, 60]})
    n, places = len(codes), centers(rng, 4, 3)
    forced = np.empty(n, dtype=int)
    for one in (0, 1):  # the same quarter of each species, by the order of its labels, comes to each place
        cells = np.flatnonzero(species == one)
        forced[cells] = np.arange(len(cells)) * 4 // len(cells)
    models = {
        "label on label": places[codes] + noise(rng, n),
        "mixing forced": places[forced] + noise(rng, n),
        "noise": noise(rng, n),
    }
    claims = [Better("label on label", "mixing forced"), Better("label on label", "noise")]
    return CellWorld(obs, models, [*claims, Expected("label on label", "entropy_ratio", 1)])


@world("cross_species")
def a_label_of_one_species(rng):
    """Three labels are shared, one exists only in humans. A right model leaves it alone; the other puts it on a
    label of mice.
    """
    codes, _, obs = observed({"human": [80, 80, 80, 80], "mouse": [80, 80, 160, 0]})
    n, places = len(codes), centers(rng, 4, 3)
    models = {
        "left alone": places[codes] + noise(rng, n),
        "laid on another": places[np.minimum(codes, 2)] + noise(rng, n),
        "noise": noise(rng, n),
    }
    tie = "the labels that both species have are the same in both models"
    return CellWorld(obs, models, [Better("left alone", "laid on another", tie), Better("laid on another", "noise")])


@world("cross_species")
def a_species_of_few_cells(rng):
    """Two species have 300 cells each, a third has 100. One model keeps the small species apart, label by label."""
    codes, species, obs = observed({"human": [75] * 4, "mouse": [75] * 4, "chicken": [25] * 4})
    n, places = len(codes), centers(rng, 4, 3)
    alone = centers(rng, 4, 3)  # a place of its own for each label
    models = {
        "all mixed": places[codes] + noise(rng, n),
        "the small one apart": np.where((species == 2)[:, None], alone[codes], places[codes]) + noise(rng, n),
        "noise": noise(rng, n),
    }
    return CellWorld(obs, models, [Better("all mixed", "the small one apart"), Better("the small one apart", "noise")])
