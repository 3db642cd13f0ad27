"""Worlds of perturbation screens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix
from worlds import Alike, Better, Change, Copy, Expected, ScreenWorld, world

from cellgauge.files.split import log_normalized

SCREEN = "perturbation"
N_GENES, N_CONTROLS, N_CELLS = 200, 400, 60
N_TRAINING = 12
MANY = 2000
"""Cells that a change is taken over where it is to hold no noise."""


@dataclass(frozen=True)
class Effects:
    """What is planted: expression of each gene, and the log fold changes of each condition, the training conditions first.

    Attributes:
        rates: shape (n_genes,).
        folds: natural logarithms, shape (n_conditions, n_genes).
    """

    rates: np.ndarray
    folds: np.ndarray

    @property
    def names(self) -> list[str]:
        """The conditions: each perturbs a gene of its own."""
        return [f"GENE{number}+ctrl" for number in range(len(self.folds))]

    @property
    def test(self) -> list[str]:
        """The conditions that are held out."""
        return self.names[N_TRAINING:]

    def counts(self, rng: np.random.Generator, condition: int | None, n_cells: int) -> np.ndarray:
        """Return counts of cells of one condition, None for the control."""
        folds = 0 if condition is None else self.folds[condition]
        depth = rng.gamma(8, 1 / 8, (n_cells, 1))
        counts = rng.poisson(depth * self.rates * np.exp(folds))
        counts[:, -1] += 1  # no cell is empty
        return counts.astype(np.float32)

    def changes(self, rng: np.random.Generator) -> np.ndarray:
        """Return the changes of mean log-normalized expression of the test conditions, all but without noise."""
        groups = [self.counts(rng, condition, MANY) for condition in (None, *range(N_TRAINING, len(self.folds)))]
        cells = log_normalized(csr_matrix(np.vstack(groups))).toarray()
        control, *perturbed = (group.mean(axis=0, dtype=float) for group in np.split(cells, len(groups)))
        return np.asarray(perturbed) - control

    def screen(self, rng: np.random.Generator, models: dict[str, Change | Copy | str], claims: Sequence) -> ScreenWorld:
        """Return the world: controls, and the cells of every condition."""
        parts = [self.counts(rng, None, N_CONTROLS)]
        parts += [self.counts(rng, condition, N_CELLS) for condition in range(len(self.folds))]
        names = np.repeat(np.asarray(["ctrl", *self.names], dtype=object), [len(part) for part in parts])
        return ScreenWorld(np.vstack(parts), names, self.test, models, claims)


def planted(rng: np.random.Generator, n_test: int, shared: float, specific: float) -> Effects:
    """Return effects: a response that all conditions share, and one that each has for itself, on 30 genes each."""
    folds = np.zeros((N_TRAINING + n_test, N_GENES))
    folds[:, 100:130] += rng.normal(0, shared, 30)
    for row in folds:
        row[rng.choice(np.arange(60, N_GENES), 30, replace=False)] += rng.normal(0, specific, 30)
    return Effects(rng.gamma(1.5, 2.0, N_GENES) + 0.2, folds)


NOTHING_KNOWN = ("discrimination_l1", "discrimination_l2", "discrimination_cosine")


def _nothing(rng: np.random.Generator, n_test: int, tolerance: float) -> ScreenWorld:
    effects = planted(rng, n_test, 0, 0)
    drawn = rng.normal(0, 0.05, (n_test, N_GENES))
    models = {"no change": "no_change", "training mean": "training_mean", "ceiling": "ceiling", "noise": Change(drawn)}
    tie = "where nothing happens there is nothing to tell conditions by"
    known = [Expected(model, "pearson_delta", 0, tolerance) for model in ("training mean", "ceiling", "noise")]
    return effects.screen(rng, models, [Better("no change", "noise", tie), *known])


@world(SCREEN)
def nothing_happens_in_4_conditions(rng):
    """A screen without any effect, 4 conditions held out. Predicting a change is wrong, and no prediction is right
    about anything: correlations are 0. (The training mean is no worse than no change: both are the mean of cells
    without effect.)
    """
    return _nothing(rng, 4, 0.1)


@world(SCREEN)
def nothing_happens_in_40_conditions(rng):
    """The same with 40 conditions held out; discrimination is 0.5 as well."""
    made = _nothing(rng, 40, 0.05)
    models = ("training mean", "ceiling", "noise")
    known = [Expected(model, metric, 0.5) for model in models for metric in NOTHING_KNOWN]
    return replace(made, claims=[*made.claims, *known])


@world(SCREEN)
def only_the_target_changes(rng):
    """Each perturbation silences its own gene and does nothing else. Lowering the target only needs to know what was
    perturbed: it is worth as much as no change, and discrimination is 0.5.
    """
    effects = planted(rng, 12, 0, 0)
    effects.folds[np.arange(24), np.arange(24)] = np.log(0.1)
    effects.rates[:24] += 2
    change = effects.changes(rng)
    lowered = np.zeros_like(change)
    tests = np.arange(12)
    lowered[tests, N_TRAINING + tests] = change[tests, N_TRAINING + tests]
    models = {"no change": "no_change", "target lowered": Change(lowered), "training mean": "training_mean"}
    known = [Expected("target lowered", metric, 0.5) for metric in NOTHING_KNOWN]
    return effects.screen(rng, models, [Alike("target lowered", "no change"), *known])


@world(SCREEN)
def true_effects(rng):
    """A response that all conditions share, and one that is specific to each. Models: the true effects, with noise,
    those of other conditions (wrong order), reversed; the mean of the training conditions; no change; every gene
    raised by the same amount.
    """
    effects = planted(rng, 12, 0.5, 0.7)
    true = effects.changes(rng)
    rough = true + rng.normal(0, 2 * true.std(), true.shape)
    models = {
        "true": Change(true),
        "true with noise": Change(true + rng.normal(0, true.std(), true.shape)),
        "true with more noise": Change(rough),
        "wrong order": Change(np.roll(true, 1, axis=0)),
        "reversed": Change(-true),
        "training mean": "training_mean",
        "no change": "no_change",
        "a constant": Change(np.full_like(true, 0.1)),
    }
    claims = [Better("true", worse) for worse in models if worse != "true"]
    claims += [
        Better("true with noise", "true with more noise"),
        Better("true with noise", "wrong order"),
        Better("training mean", "no change"),
        Better("training mean", "reversed"),
        Better("no change", "reversed"),
        Better("no change", "a constant"),
    ]
    return effects.screen(rng, models, claims)


@world(SCREEN)
def right_direction_wrong_size(rng):
    """The true effects, at half and at three times their size, and no change."""
    effects = planted(rng, 12, 0.5, 0.7)
    true = effects.changes(rng)
    models = {
        "true": Change(true),
        "half the size": Change(true / 2),
        "three times the size": Change(3 * true),
        "no change": "no_change",
    }
    claims = [
        Better("true", "half the size"),
        Better("true", "three times the size"),
        Better("half the size", "no change"),
    ]
    return effects.screen(rng, models, claims)


@world(SCREEN)
def half_of_the_genes_are_predicted(rng):
    """Two models are equally right about the genes that both predict, and better than no change for every gene. One
    predicts all genes; one predicts the half that is easiest to predict; one predicts 40 that hardly change.
    """
    effects = planted(rng, 12, 0.5, 0.7)
    true = effects.changes(rng)
    error = true * rng.uniform(-0.8, 0.8, true.shape)
    easy = np.sort(np.argsort(np.abs(error).sum(axis=0) / np.abs(true).sum(axis=0))[: N_GENES // 2])
    still = np.sort(np.argsort(np.abs(true).mean(axis=0))[:40])
    models = {
        "all genes": Change(true + error),
        "the easy half": Change((true + error)[:, easy], easy),
        "40 that hardly change": Change((true + error)[:, still], still),
    }
    return effects.screen(
        rng,
        models,
        [Better("all genes", "the easy half"), Better("all genes", "40 that hardly change")],
    )


@world(SCREEN)
def half_of_the_conditions_do_nothing(rng):
    """Half of the held-out conditions have no effect. A right model says so; another predicts for them what it
    predicts for a condition with an effect; the training mean predicts the same for all; noise has shuffled
    genes.
    """
    effects = planted(rng, 12, 0, 0.8)
    effects.folds[N_TRAINING::2] = 0
    true = effects.changes(rng)
    everywhere = np.repeat(true[1::2], 2, axis=0)
    models = {
        "true": Change(true),
        "effects everywhere": Change(everywhere),
        "training mean": "training_mean",
        "noise": Change(rng.permuted(everywhere, axis=1)),
    }
    claims = [Better("true", worse) for worse in ("effects everywhere", "training mean", "noise")]
    return effects.screen(rng, models, [*claims, Better("effects everywhere", "noise")])


@world(SCREEN)
def conditions_of_one_pathway(rng):
    """Conditions of each of three pathways share most of their effect. One model knows the effects; one copies the
    measurement of a training condition of the same pathway, with its noise; one copies another pathway; one gives
    the training mean.
    """
    effects = planted(rng, 12, 0, 0.25)
    pathways = np.zeros((3, N_GENES))
    pathways[:, 60:] = rng.normal(0, 0.6, (3, N_GENES - 60)) * (rng.random((3, N_GENES - 60)) < 0.3)
    members = np.arange(24) % 3
    effects.folds[:] += pathways[members]
    training = effects.names[:N_TRAINING]
    models = {
        "true": Change(effects.changes(rng)),
        "copy of the pathway": Copy(training),
        "copy of another pathway": Copy([*training[1:], training[0]]),
        "training mean": "training_mean",
    }
    claims = [
        Better("true", "copy of the pathway"),
        Better("true", "training mean"),
        Better("copy of the pathway", "copy of another pathway"),
        Better("copy of the pathway", "training mean"),
    ]
    return effects.screen(rng, models, claims)


@world(SCREEN)
def cells_that_are_all_the_same(rng):
    """Two models predict cells, both with the right mean. In one they vary like real cells, in the other they are
    all the same.
    """
    effects = planted(rng, 12, 0.5, 0.7)
    true = effects.changes(rng)
    models = {"cells that vary": Change(true, cells="moved"), "cells all the same": Change(true, cells="equal")}
    tie = "their means are equal"
    return effects.screen(rng, models, [Better("cells that vary", "cells all the same", tie)])
