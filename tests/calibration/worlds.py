"""What a planted world is: data, models, and which of them is known to be the better one.

A world is a short function with a docstring that says what is planted. It takes a random generator and returns a `CellWorld`
or a `ScreenWorld`; the decorator `world` names the tasks whose scores must see the order that it states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import getdoc

import numpy as np


@dataclass(frozen=True)
class Better:
    """`better` is the better model of the two. `tie` says why a score may call them equal, "" where it may not."""

    better: str
    worse: str
    tie: str = ""


@dataclass(frozen=True)
class Alike:
    """Two models hold the same information, so a score gives them the same value within `tolerance`."""

    first: str
    second: str
    tolerance: float = 0.03


@dataclass(frozen=True)
class Expected:
    """The value of a metric is known, within `tolerance`; every classifier and subset of it, or those of `subset` alone."""

    model: str
    metric: str
    value: float
    tolerance: float = 0.05
    subset: str | None = None


Claim = Better | Alike | Expected


@dataclass(frozen=True)
class CellWorld:
    """Cells, and embeddings of them.

    Attributes:
        obs: columns of str by name, shape (n_cells,): "label", "donor", "batch", "organism".
        models: embeddings by the name of the model, shape (n_cells, n_dims); a cell that is not embedded is a row of NaN.
        claims: what is known of the models.
    """

    obs: Mapping[str, np.ndarray]
    models: Mapping[str, np.ndarray]
    claims: Sequence[Claim]


@dataclass(frozen=True)
class Change:
    """A prediction: what is added to the mean log-normalised expression of the controls.

    Attributes:
        values: shape (n_test_conditions, n_genes), conditions in the order of `ScreenWorld.test`.
        genes: positions of the genes that are predicted; None for all.
        cells: "" to predict means; "moved" to predict the control cells, moved by the change; "equal" to predict as many
            cells that are all the same.
    """

    values: np.ndarray
    genes: np.ndarray | None = None
    cells: str = ""


@dataclass(frozen=True)
class Copy:
    """A prediction: the mean that was measured of a training condition, for each of `ScreenWorld.test`."""

    of: Sequence[str]


@dataclass(frozen=True)
class ScreenWorld:
    """A perturbation screen, and predictions of it.

    Attributes:
        counts: whole numbers, shape (n_cells, n_genes); genes are called GENE0, GENE1, ...
        conditions: of each cell, str, shape (n_cells,), as `cellgauge.screens.screen` writes them.
        test: the conditions that are held out.
        models: predictions by the name of the model: a `Change`, a `Copy`, or the name of one of cellgauge's
            predictors.
        claims: what is known of the models.
    """

    counts: np.ndarray
    conditions: np.ndarray
    test: Sequence[str]
    models: Mapping[str, Change | Copy | str]
    claims: Sequence[Claim]


@dataclass(frozen=True)
class Planted:
    """A world by name. `tasks` must see its order; `shown` are scored beside them, and nothing is asked of their scores."""

    name: str
    make: Callable[[np.random.Generator], CellWorld | ScreenWorld]
    tasks: tuple[str, ...]
    shown: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ").capitalize()

    @property
    def text(self) -> str:
        """What is planted, in one paragraph."""
        return " ".join((getdoc(self.make) or "").split())

    @cached_property
    def known(self) -> tuple[list[str], Sequence[Claim]]:
        """The names of the models and what is known of them, the same for every seed."""
        made = self.at(0)
        return list(made.models), made.claims

    def at(self, seed: int) -> CellWorld | ScreenWorld:
        """Return the world that a seed makes."""
        return self.make(np.random.default_rng(seed))


WORLDS: dict[str, Planted] = {}


def world(*tasks: str, shown: Sequence[str] = ()) -> Callable[[Callable], Callable]:
    """Register a function that makes a world under its own name."""

    def register(make: Callable[[np.random.Generator], CellWorld | ScreenWorld]) -> Callable:
        WORLDS[make.__name__] = Planted(make.__name__, make, tasks, tuple(shown))
        return make

    return register
