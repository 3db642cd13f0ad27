"""What was measured in a screen, reduced once to what every model's predictions are scored against (`files.truth`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellgauge.core.errors import CellgaugeError
from cellgauge.files.checked import checked_path
from cellgauge.metrics.wilcoxon import ControlRanks
from cellgauge.screens.screen import CONTROL, Screen, mean_of, targets

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


SAMPLED = 100
"""How many cells of a group are written for scores that compare distributions."""
N_COMPONENTS = 50


@dataclass(frozen=True)
class Group:
    """The cells (positions in the screen) that a row stands for."""

    role: str
    condition: str
    stratum: str
    rows: np.ndarray


def groups(screen: Screen) -> Iterator[Group]:
    """Yield the controls and their halves, the training conditions, the test conditions, and those that have two names."""
    seen, withheld = screen.divided_controls()
    yield Group("control", CONTROL, "", screen.rows_of(CONTROL))
    yield Group("control_seen", CONTROL, "", seen)
    yield Group("control_withheld", CONTROL, "", withheld)
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
    expression = screen.in_memory
    all_groups = list(groups(screen))
    rows_of = {group.role: group.rows for group in all_groups}
    ranks = {
        "wilcoxon": ControlRanks(expression[rows_of["control_withheld"]]),
        "wilcoxon_reference": ControlRanks(expression[rows_of["control"]]),
    }
    masked = np.zeros(len(screen.genes), dtype=bool)
    for condition in screen.test_conditions:
        masked[screen.columns_of_targets(condition)[0]] = True
    shape = (len(all_groups), len(screen.genes))
    layers = ("mean", *ranks, "half_mean", *(f"half_{name}" for name in ranks))
    measured = {name: np.full(shape, np.nan) for name in layers}
    sizes = {"n_half": np.zeros(len(all_groups), dtype=np.int64)}
    sizes |= {name: np.full(len(all_groups), np.nan) for name in ("noise", "half_noise")}
    samples: dict[str, dict[int, csr_matrix]] = {"cells": {}, "half_cells": {}}
    for row, group in enumerate(all_groups):
        if not len(group.rows):
            continue
        cells = expression[group.rows]
        measured["mean"][row] = mean_of(cells)
        sizes["noise"][row] = _squared_error_of_mean(cells, masked)
        if group.role in ("training", "control", "control_withheld"):
            continue
        samples["cells"][row] = expression[screen.shuffled(group.rows)[:SAMPLED]]
        if group.role == "control_seen":
            continue
        parts = {"": cells}
        second = screen.halves(group.rows)[1]
        sizes["n_half"][row] = len(second)
        if len(second):
            parts["half_"] = expression[second]
            measured["half_mean"][row] = mean_of(parts["half_"])
            sizes["half_noise"][row] = _squared_error_of_mean(parts["half_"], masked)
            samples["half_cells"][row] = expression[screen.shuffled(second)[:SAMPLED]]
        for half, part in parts.items():
            for name, controls in ranks.items():
                measured[half + name][row] = controls.scores(part, tie_correct=name == "wilcoxon")
    components = _components([cells[:, ~masked] for cells in samples["cells"].values()])
    loadings = np.zeros((shape[1], components.shape[1]), dtype=np.float32)
    loadings[~masked] = components
    _write(output, screen, all_groups, measured, sizes, samples, masked, loadings)


def _squared_error_of_mean(cells: csr_matrix, masked: np.ndarray) -> float:
    """Return the squared standard error of the mean over cells, averaged over the genes not masked; NaN for one cell."""
    n_cells = cells.shape[0]
    if n_cells < 2 or masked.all():
        return float("nan")
    squared = cells.copy()
    squared.data = squared.data.astype(np.float64) ** 2
    variance = (mean_of(squared) - mean_of(cells) ** 2) * n_cells / (n_cells - 1)
    return float(variance[~masked].mean() / n_cells)


def _components(samples: Sequence[csr_matrix]) -> np.ndarray:
    """Return the loadings of the leading principal components of the cells, float32, shape (n_genes, <= N_COMPONENTS)."""
    from scipy.sparse import vstack
    from scipy.sparse.linalg import LinearOperator, eigsh

    cells = vstack(samples, format="csr").astype(np.float64)
    n_cells, n_genes = cells.shape
    n_components = min(N_COMPONENTS, n_cells - 1, n_genes - 1)
    if n_components < 1:
        return np.ones((n_genes, 1), dtype=np.float32)
    by_gene, center = cells.T.tocsr(), mean_of(cells)

    def scatter(x: np.ndarray) -> np.ndarray:
        x = x.ravel()
        return by_gene @ (cells @ x) - n_cells * center * (center @ x)

    operator = LinearOperator((n_genes, n_genes), matvec=scatter, dtype=np.float64)
    # A start that no order of genes changes. Where fewer components vary than are asked for, ARPACK draws others at random.
    _, loadings = eigsh(operator, k=n_components, v0=np.ones(n_genes), rng=0)
    return np.ascontiguousarray(loadings, dtype=np.float32)


def _write(
    output: str | Path,
    screen: Screen,
    all_groups: Sequence[Group],
    measured: Mapping[str, np.ndarray],
    sizes: Mapping[str, np.ndarray],
    samples: Mapping[str, Mapping[int, csr_matrix]],
    masked: np.ndarray,
    components: np.ndarray,
) -> None:
    import anndata
    import pandas as pd

    columns = {name: [getattr(group, name) for group in all_groups] for name in ("role", "condition", "stratum")}
    columns |= {"n_cells": [len(group.rows) for group in all_groups], **sizes}
    index = [f"{group.role}:{group.condition}" for group in all_groups]
    dataset, split = screen.split.dataset, screen.split.name
    data = anndata.AnnData(
        X=measured["mean"],
        obs=pd.DataFrame(columns, index=index),
        var=pd.DataFrame({"masked": masked}, index=screen.genes.astype(str)),
        layers={name: values for name, values in measured.items() if name != "mean"},
        varm={"components": components},
        uns={"kind": "truth", "dataset": dataset, "split": split, "semi_synthetic": screen.semi_synthetic},
    )
    for name, of_row in samples.items():
        projected = np.full((len(all_groups), SAMPLED, components.shape[1]), np.nan, dtype=np.float32)
        for row, cells in of_row.items():
            projected[row, : cells.shape[0]] = cells @ components
        data.obsm[name] = projected
    with checked_path(output) as temporary:
        data.write_h5ad(temporary)
