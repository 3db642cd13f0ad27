"""What a task says of itself, read from its source without running it: planning needs nothing but the standard library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import Any

from cellgauge import tasks
from cellgauge.core.errors import CellgaugeError
from cellgauge.core.plugins import Source, check_name

PROFILES = ("reference", "corrected")
NOT_PARAMS = ("profiles", "seed")
"""Keywords of `score` that no entry of a task sets."""


@dataclass(frozen=True)
class TaskTraits:
    """The constants of a task and of its search of neighbors, and the parameters of both."""

    scope: str  # "split" (scored per split) or "dataset" (over all splits of a dataset)
    compares: str = ""  # "organism" where a task of scope "dataset" needs several species, else ""
    modality: str = "expression"  # "expression" (scores embedded cells) or "perturbation" (predicted responses)
    needs: tuple[str, ...] = ()  # columns of obs that every split must have
    profiles: tuple[str, ...] = PROFILES  # the profiles that it has rows in
    # the defaults of its parameters; tuples are lists, as in YAML and JSON
    params: Mapping[str, Any] = field(default_factory=dict)
    # the parameters, `profiles` among them, that change which neighbors are found; None: it keeps none
    searched: tuple[str, ...] | None = None
    # values by parameter, of which one must be asked for, else nothing is worth keeping
    kept_for: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def keeps_neighbors(self, params: Mapping[str, Any]) -> bool:
        """Return whether a search finds anything worth keeping where the task is given `params`."""
        if self.searched is None:
            return False
        return all(set(params[name]) & set(values) for name, values in self.kept_for.items())


@cache
def task_traits(task: str) -> TaskTraits:
    """Return what a task says of itself; raise CellgaugeError where there is no such task, or its module does not say what it
    must as plain values.
    """
    check_name(tasks, task, "task")
    module = Source(f"{tasks.__name__}.{task}.scores")
    constants = {
        name.lower(): module.constant(name)
        for name in ("SCOPE", "COMPARES", "MODALITY", "NEEDS", "PROFILES")
        if name == "SCOPE" or name in module.constants
    }
    params = {name: default for name, default in module.defaults("score").items() if name not in NOT_PARAMS}
    if lacking := set(module.parameters("score")) - {*params, *NOT_PARAMS}:
        raise CellgaugeError(f"{module.path}: parameter '{min(lacking)}' of `score` has no default")
    if find_spec(f"{tasks.__name__}.{task}.neighbors") is None:
        return TaskTraits(**constants, params=params)
    search = Source(f"{tasks.__name__}.{task}.neighbors")
    searched = tuple(name for name in search.parameters("find") if name != "seed")
    if strange := set(searched) - {*params, "profiles"}:
        raise CellgaugeError(f"{search.path}: `find` takes '{min(strange)}', which is no parameter of the task")
    kept_for = search.constant("KEPT_FOR") if "KEPT_FOR" in search.constants else {}
    return TaskTraits(**constants, params=params, searched=searched, kept_for=kept_for)
