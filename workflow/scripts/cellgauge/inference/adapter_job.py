"""What the jobs of all adapters share: what an adapter says of itself, its options, the clock, versions and seeds."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import metadata
from inspect import Parameter, signature
from typing import Any

from cellgauge.core.errors import CellgaugeError, did_you_mean
from cellgauge.core.plugins import Source


@dataclass(frozen=True)
class Traits:
    """The constants of an adapter, under their names in lower case; `models.base` and `predictors.base` say what they mean.

    `modality` is the data that it takes; `species_sources` and `species_options` the keywords of its `build_species` without
    and with defaults, none where it has no such function.
    """

    scope: str = "split"
    shared_space: bool = True
    stochastic: bool = False
    needs_device: bool = False
    needs_ensembl: bool = False
    uses_controls: bool = True
    packages: tuple[str, ...] = ()
    modality: str = "expression"
    path: str = ""
    uninformed: bool = False
    fitted_on_split: bool = False
    reference_on_counts: bool = False
    common_units: bool = False
    czbenchmarks: str = ""
    by_cell: Mapping[str, Any] | None = None
    species_sources: tuple[str, ...] = ()
    species_options: tuple[str, ...] = ()

    @classmethod
    def read(cls, module: Source, **others: Any) -> Traits:
        """Return the constants that a module has, and `others`."""
        names = [field.name for field in fields(cls) if field.name.upper() in module.constants]
        return cls(**{name: module.constant(name.upper()) for name in names}, **others)

    def embeds_by_cell(self, params: Mapping[str, Any]) -> bool:
        """Return whether with these params the embedding of a cell depends on no other cell."""
        return self.by_cell is not None and all(params.get(name, v) == v for name, v in self.by_cell.items())


class Stopwatch:
    """Wall and CPU seconds since it was made, those of processes that ended included, and the peak memory of this process."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), _cpu_seconds()

    def read(self) -> dict[str, float]:
        """Return wall_seconds, cpu_seconds and peak_memory_mb (MiB, of the whole process so far)."""
        return {
            "wall_seconds": time.perf_counter() - self._wall,
            "cpu_seconds": _cpu_seconds() - self._cpu,
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the installed versions of `packages` and of numpy and anndata."""
    return {name: metadata.version(name) for name in sorted({*packages, "numpy", "anndata"})}


def check_options(adapter: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Raise CellgaugeError for an option that the adapter's `function` does not take, or lacks."""
    parameters = signature(function).parameters
    keywords = [name for name, parameter in parameters.items() if parameter.kind is Parameter.KEYWORD_ONLY]
    known = [name for name in keywords if name not in ("device", "seed")]
    for name in options:
        if name not in known:
            raise CellgaugeError(f"adapter '{adapter}': unknown option '{name}'{did_you_mean(name, known)}")
    missing = [name for name in known if parameters[name].default is Parameter.empty and name not in options]
    if missing:
        raise CellgaugeError(f"adapter '{adapter}': option '{missing[0]}' must be given in the model's `params`")


def seed_everything(seed: int) -> None:
    """Seed the global generators too: a library may draw from them whatever it is told."""
    import numpy as np

    random.seed(seed)
    np.random.seed(seed)
