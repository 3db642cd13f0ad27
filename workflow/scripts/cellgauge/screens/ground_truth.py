"""What was measured in a screen, reduced once to what every model's predictions are scored against (`files.truth`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellgauge.core.atomic import atomic_path
from cellgauge.core.errors import CellgaugeError
from cellgauge.metrics.wilcoxon import ControlRanks
from cellgauge.screens.screen import CONTROL, Screen, mean_of, targets

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


SAMPLED = 100
"""How many cells of a group are kept for scores that compare distributions."""


N_COMPONENTS = 50


@dataclass(frozen=True)
class Group:
    """The cells (positions in the screen) that a row stands for."""

    role: str
    condition: str
    stratum: str
    rows: np.ndarray


def groups(screen: Screen) -> Iterator[Group]:
    """Yield the control, the training conditions, the test conditions, and those of the latter that have two names."""
    yield Group("control", CONTROL, "", screen.rows_of(CONTROL))
    for condition in screen.training_conditions:
        yield Group("training", condition, "", screen.rows_of(condition))
    same: dict[frozenset[str], list[Group]] = {}
    for condition in screen.test_conditions:
        group = Group("test", condition, screen.strata[condition], screen.rows_of(condition))
        same.setdefault(targets(condition), []).append(group)
        yield group
    for several in same.values():
        if len(several) > 1:
            rows = np.sort(np.concatenate([group.rows for group in several]))
            yield Group("pooled", several[0].condition, several[0].stratum, rows)


def measure_truth(split_path: str | Path, output: str | Path) -> None:
    """Read a screen and write its truth file.

    Raises:
        CellgaugeError: the split is no screen, or has no control or no test condition.
    """
    screen = Screen.open(split_path)
    if not screen.test_conditions:
        raise CellgaugeError(f"{screen.where}: no condition is held out for testing")
    controls = screen.controls()
    expression = screen.in_memory
    ranks = ControlRanks(controls)
    all_groups = list(groups(screen))
    shape = (len(all_groups), len(screen.genes))
    measured = {name: np.full(shape, np.nan) for name in ("mean", "wilcoxon", "half_mean", "half_wilcoxon")}
    n_half = np.zeros(len(all_groups), dtype=np.int64)
    samples: dict[str, dict[int, csr_matrix]] = {"cells": {}, "half_cells": {}}
    for row, group in enumerate(all_groups):
        if not len(group.rows):
            continue
        cells = expression[group.rows]
        measured["mean"][row] = mean_of(cells)
        if group.role == "training":
            continue
        samples["cells"][row] = expression[screen.shuffled(group.rows)[:SAMPLED]]
        if group.role == "control":
            continue
        measured["wilcoxon"][row] = ranks.scores(cells)
        second = screen.halves(group.rows)[1]
        n_half[row] = len(second)
        if len(second):
            half = expression[second]
            measured["half_mean"][row], measured["half_wilcoxon"][row] = mean_of(half), ranks.scores(half)
            samples["half_cells"][row] = expression[screen.shuffled(second)[:SAMPLED]]
    components = _components(list(samples["cells"].values()))
    _write(output, screen, all_groups, measured, n_half, samples, components)


def _components(samples: Sequence[csr_matrix]) -> np.ndarray:
    """Return the loadings of the leading principal components of the cells, float32, shape (n_genes, <= N_COMPONENTS)."""
    from scipy.sparse import vstack
    from scipy.sparse.linalg import LinearOperator, eigsh

    cells = vstack(samples, format="csr").astype(np.float64)
    n_cells, n_genes = cells.shape
    kept = min(N_COMPONENTS, n_cells - 1, n_genes - 1)
    if kept < 1:
        return np.ones((n_genes, 1), dtype=np.float32)
    by_gene, centre = cells.T.tocsr(), mean_of(cells)

    def scatter(x: np.ndarray) -> np.ndarray:
        x = x.ravel()
        return by_gene @ (cells @ x) - n_cells * centre * (centre @ x)

    operator = LinearOperator((n_genes, n_genes), matvec=scatter, dtype=np.float64)
    _, loadings = eigsh(operator, k=kept, v0=np.ones(n_genes))  # a start that no order of cells or genes changes
    return np.ascontiguousarray(loadings, dtype=np.float32)


def _write(
    output: str | Path,
    screen: Screen,
    all_groups: Sequence[Group],
    measured: Mapping[str, np.ndarray],
    n_half: np.ndarray,
    samples: Mapping[str, Mapping[int, csr_matrix]],
    components: np.ndarray,
) -> None:
    import anndata
    import pandas as pd

    obs = pd.DataFrame(
        {
            "role": [group.role for group in all_groups],
            "condition": [group.condition for group in all_groups],
            "stratum": [group.stratum for group in all_groups],
            "n_cells": [len(group.rows) for group in all_groups],
            "n_half": n_half,
        },
        index=[f"{group.role}:{group.condition}" for group in all_groups],
    )
    data = anndata.AnnData(
        X=measured["mean"],
        obs=obs,
        var=pd.DataFrame(index=screen.genes.astype(str)),
        layers={name: values for name, values in measured.items() if name != "mean"},
        varm={"components": components},
        uns={
            "kind": "truth",
            "dataset": screen.split.dataset,
            "split": screen.split.name,
            "semi_synthetic": screen.semi_synthetic,
        },
    )
    for name, of_row in samples.items():
        projected = np.full((len(all_groups), SAMPLED, components.shape[1]), np.nan, dtype=np.float32)
        for row, cells in of_row.items():
            projected[row, : cells.shape[0]] = cells @ components
        data.obsm[name] = projected
    with atomic_path(output) as temporary:
        data.write_h5ad(temporary)
