"""From the cells of a screen, as published, to a screen: conditions, what is held out, log-normalized expression."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anndata
import numpy as np
import pandas as pd

from cellgauge.core.errors import CellgaugeError
from cellgauge.files.split import as_expression, log_normalized
from cellgauge.files.text_columns import shorten
from cellgauge.screens.condition_names import ConditionNames, check_targets
from cellgauge.screens.screen import CONTROL, PARTITIONS, in_second_half, simulation_split, strata, targets


@dataclass(frozen=True)
class ScreenOptions:
    """What a dataset's entry says of a screen, under the keys that config/README.md explains.

    Attributes:
        partition: the column with train, val and test, from `columns` of the entry.
        planted: the options of `cellgauge.screens.simulate.plant_screen`; None where effects are measured.
    """

    control: Sequence[str] = (CONTROL,)
    separator: str = ""
    pool_guides: bool = False
    expression: str = ""
    partition: str = ""
    partition_seed: int = 1
    test_conditions: Sequence[str] = ()
    planted: Mapping[str, Any] | None = None


def complete_screen(data: anndata.AnnData, options: ScreenOptions, of_cell: np.ndarray | None, where: str) -> list[str]:
    """Add to cells what makes them a screen: conditions and partition in obs, expression as a layer; return notes.

    Args:
        data: raw counts, in obs["label"] the conditions as published, and the layer "expression" where it was published.
        of_cell: what the column of the partition holds, str, shape (n_cells,); None without such a column.
        where: what errors begin with.

    Raises:
        CellgaugeError: no control, names or a partition that are not understood, or no log-normalized expression.
    """
    published = data.obs["label"].astype(str)
    names = _condition_names(data, options)
    written = names.names(published)
    _check_controls(written, names, options)
    notes = [] if options.planted is not None else _notes(written, names, options, where)
    conditions = [written[label] for label in published]
    partition, held_out = _held_out(conditions, of_cell, names, options)
    data.obs["label"] = pd.Categorical(conditions)
    data.obs["partition"] = pd.Categorical([partition.get(condition, "") for condition in conditions])
    data.obs["withheld"] = in_second_half(data.obs_names.to_numpy()) & (data.obs["label"] == CONTROL).to_numpy()
    data.uns["strata"] = json.dumps(held_out, sort_keys=True)
    if options.planted is None:
        about = {"control": list(names.control), "separator": names.separator, "pool_guides": names.pool_guides}
        data.uns["condition_names"] = json.dumps(about, sort_keys=True)
    layer = data.layers.get("expression")
    data.layers["expression"] = log_normalized(data.X) if layer is None else as_expression(layer, where, data.X)
    return notes


def _condition_names(data: anndata.AnnData, options: ScreenOptions) -> ConditionNames:
    """Return how the screen names its conditions; effects that were planted are named as cellgauge does."""
    if options.planted is not None:
        return ConditionNames(separator="+")
    genes = frozenset([*data.var_names, *data.var["feature_name"]]) - {""}
    names = ConditionNames(options.control, options.separator.strip() or options.separator, options.pool_guides, genes)
    return names.recognized(data.obs["label"].astype(str).unique())


def _check_controls(written: Mapping[str, str], names: ConditionNames, options: ScreenOptions) -> None:
    controls = [label for label, condition in written.items() if condition == CONTROL]
    declared = " or ".join(options.control)
    if not any(map(names.is_all_control, controls)):
        raise CellgaugeError(
            f"no cell has the control condition '{declared}' (found: {shorten(sorted(written))}); name it with `control` in"
            " the dataset's entry"
        )
    if undeclared := [label for label in controls if not names.is_all_control(label)]:
        raise CellgaugeError(
            f"'{undeclared[0]}' is a condition besides the control '{declared}'; if it is a control too, add it to `control`:"
            f" [{', '.join([*options.control, *undeclared])}]"
        )


def _notes(written: Mapping[str, str], names: ConditionNames, options: ScreenOptions, where: str) -> list[str]:
    """Return notes on conditions; raise CellgaugeError where most of their names were not understood."""
    sign = names.separator
    notes = [f"conditions are read as combinations with '{sign}' between genes (`separator` says otherwise)"]
    further = check_targets(where, names, written, declared=bool(options.separator))
    return further if sign == "+" or options.separator else notes + further


def _held_out(
    conditions: Sequence[str], of_cell: np.ndarray | None, written: ConditionNames, options: ScreenOptions
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the partition of each condition, and the stratum of each test condition."""
    names = [condition for condition in dict.fromkeys(conditions) if condition != CONTROL]
    if options.test_conditions:
        listed = {written.name(name) for name in options.test_conditions} - {CONTROL}
        sets = {targets(name) for name in listed}
        partition = {name: "test" if targets(name) in sets else "train" for name in names}
        without_cells = {name for name in listed if targets(name) not in set(map(targets, names))}
        return partition, strata(partition | dict.fromkeys(without_cells, "test"))
    if of_cell is None:
        return simulation_split(names, seed=options.partition_seed)
    perturbed = [(c, part) for c, part in zip(conditions, of_cell, strict=True) if c != CONTROL]
    unknown = sorted({part for _, part in perturbed} - set(PARTITIONS))
    if unknown:
        examples = shorten([f"'{part}'" if part == "" else part for part in unknown])
        raise CellgaugeError(
            f"column '{options.partition}' must hold {', '.join(PARTITIONS)}, not {examples}"
            f"{' (missing)' if '' in unknown else ''}; only controls need none"
        )
    parts: dict[frozenset[str], set[str]] = {}
    for condition, part in perturbed:
        parts.setdefault(targets(condition), set()).add(part)
    # as cz-benchmarks: a condition with one test cell is a test condition
    partition = {c: next(part for part in reversed(PARTITIONS) if part in parts[targets(c)]) for c in names}
    if "test" not in partition.values():
        raise CellgaugeError(f"column '{options.partition}' names no test condition")
    return partition, strata(partition)
