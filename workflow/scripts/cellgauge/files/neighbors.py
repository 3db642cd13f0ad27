"""The neighbors that a task asks for, searched once and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellgauge.core.errors import ContractError, reading
from cellgauge.files.checked import checked_path, open_checked


@dataclass(frozen=True)
class Neighbors:
    """What a task asks of the distances between the cells of a model and split, found once and kept.

    Attributes:
        arrays: by name, as the task's search returned them, of the embedded cells in their order;
            none where the cells cannot be scored, or where nothing was worth keeping.
        embedded: which cells of the splits are embedded, bool, shape (n_cells,); none where the cells cannot be scored.
    """

    arrays: Mapping[str, np.ndarray]
    embedded: np.ndarray

    @classmethod
    def read(cls, path: str | Path, facts: Mapping[str, str], cells: np.ndarray) -> Neighbors:
        """Read a file of neighbors.

        Args:
            facts: what it must be of: task, model, dataset and split.
            cells: the ids of the cells that it must be of, str, shape (n_cells,).

        Raises:
            ContractError: the file is missing or is not one, or is of something else.
        """
        fault = f"{path}: not a file of neighbors, truncated or corrupt"
        with reading(fault, ContractError, "; delete it and run again"):
            with open_checked(path) as raw, np.load(raw, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            facts_of_file = json.loads(str(arrays.pop("facts")))
            digest, embedded = str(arrays.pop("cells")), arrays.pop("embedded")
        others = {name: facts_of_file.get(name) for name in facts if facts_of_file.get(name) != facts[name]}
        wrong = [f"{name} {other} instead of {facts[name]}" for name, other in others.items()]
        if not wrong and digest != _digest(cells):
            wrong = ["other cells, or the same cells in another order"]
        if wrong:
            raise ContractError(f"{path}: these neighbors are for {', '.join(wrong)}; delete the file and run again")
        return cls(arrays, embedded)


def write_neighbors(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    embedded: np.ndarray,
    facts: Mapping[str, str],
    cells: np.ndarray,
) -> None:
    """Write what `Neighbors` describes."""
    about: dict[str, Any] = {"facts": np.array(json.dumps(facts)), "cells": np.array(_digest(cells))}
    about |= {"embedded": embedded, **arrays}
    with checked_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **about)


def _digest(cells: np.ndarray) -> str:
    return hashlib.sha256("\n".join(cells).encode()).hexdigest()
