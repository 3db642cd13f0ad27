"""Screens with known effects, in which the right conclusion is known: cells of independent genes, Poisson counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import anndata
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from cellgauge.core.errors import CellgaugeError
from cellgauge.predictors.base import predict_files
from cellgauge.screens.ground_truth import measure_truth
from cellgauge.screens.reduce import Reducer
from cellgauge.screens.screen import CONTROL, Screen
from cellgauge.tasks.run import score_files

N_GENES = 300
Effect = Callable[[int], np.ndarray]
"""The log fold change of every gene where the gene at a position is perturbed, shape (N_GENES,)."""


def nothing(gene: int) -> np.ndarray:
    return np.zeros(N_GENES)


def target_alone(gene: int) -> np.ndarray:
    effect = np.zeros(N_GENES)
    effect[gene] = -3
    return effect


def true_effects(gene: int) -> np.ndarray:
    """A common response of 20 genes, one of the gene's own on 30 others, and the target knocked down."""
    common = np.zeros(N_GENES)
    common[-20:] = np.random.default_rng(0).normal(0, 0.7, 20)
    generator = np.random.default_rng(1000 + gene)
    own = np.zeros(N_GENES)
    own[generator.choice(N_GENES, 30, replace=False)] = generator.normal(0, 1, 30)
    return common + own + target_alone(gene)


class World:
    """A screen on disk with its truth, and how predictions of it score.

    Args:
        n_test, n_train: conditions of single genes, the first genes of the panel.
        effect: what perturbing a gene does.
        n_controls, n_cells: controls, and cells of each condition.
    """

    def __init__(
        self,
        folder,
        n_test: int,
        n_train: int = 40,
        *,
        effect: Effect = nothing,
        n_controls: int = 600,
        n_cells: int = 50,
        seed: int = 0,
    ) -> None:
        self.folder, self.effect = folder, effect
        generator = np.random.default_rng(seed)
        base = np.random.default_rng(99).gamma(1, 1.5, N_GENES) + 0.05
        names = [f"G{gene}+{CONTROL}" for gene in range(n_test + n_train)]
        conditions = np.repeat([CONTROL, *names], [n_controls, *[n_cells] * len(names)])
        changes = np.repeat(
            [nothing(0), *map(effect, range(len(names)))], [n_controls, *[n_cells] * len(names)], axis=0
        )
        depth = generator.gamma(10, 0.1, (len(conditions), 1))
        counts = generator.poisson(base * np.exp(changes) * depth).astype(np.float32)
        counts[:, -1] += 1
        order = generator.permutation(len(conditions))
        part = np.where(np.isin(conditions, names[:n_test]), "test", "train")
        obs = pd.DataFrame(
            {"condition": conditions, "split": part}, index=[f"cell{seed}_{n}" for n in range(len(order))]
        )
        var = pd.DataFrame(index=[f"G{gene}" for gene in range(N_GENES)])
        expression = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 300).astype(np.float32)
        data = anndata.AnnData(csr_matrix(expression), obs, var, layers={"counts": csr_matrix(counts)})
        self.write(data[order].copy())

    def write(self, data: anndata.AnnData) -> None:
        """Make the split and the truth of published cells."""
        from cellgauge.data.make_split import make_split

        data.write_h5ad(self.folder / "published.h5ad")
        options = {"dataset": "world", "split": "cells", "organism": "human", "label": "condition", "symbol": "index"}
        options |= {"modality": "perturbation", "counts": "layers/counts", "expression": "X", "partition": "split"}
        make_split(self.folder / "published.h5ad", self.folder / "split.h5ad", options)
        measure_truth(self.folder / "split.h5ad", self.folder / "truth.h5ad")
        self.screen = Screen.open(self.folder / "split.h5ad")
        self.visible = self.screen.without_withheld()
        self.seen_controls = self.visible.controls()

    def scores_of(self, model, **params) -> pd.DataFrame:
        """Return the rows of an adapter, or of a function from a condition to the arguments of `Reducer.add`."""
        path = self.folder / "prediction.h5ad"
        if isinstance(model, str):
            predict_files(model, self.folder / "split.h5ad", path)
        else:
            genes = params.pop("genes", self.screen.genes)
            reducer = Reducer(self.screen, genes)
            for condition in self.screen.test_conditions:
                reducer.add(condition, **model(condition))
            reducer.write(path, {"model": "mine"})
        rows = score_files("perturbation", [path], [self.folder / "truth.h5ad"], profiles=["corrected"], **params)
        return pd.DataFrame([vars(row) for row in rows]).astype({"value": "float64"})

    def copied_controls(self, condition: str) -> Mapping[str, object]:
        """Return cells that are controls, drawn with replacement from those that predictors see."""
        generator = np.random.default_rng(self.screen.test_conditions.index(condition))
        return {"cells": self.seen_controls[generator.integers(0, self.seen_controls.shape[0], 100)]}

    def lowered_target(self, condition: str) -> Mapping[str, object]:
        """Return the mean of the controls that predictors see, the target lowered."""
        mean = np.asarray(self.seen_controls.mean(axis=0), dtype=np.float64).ravel()
        mean[int(condition.split("+")[0][1:])] *= 0.1
        return {"mean": mean}


def single(table: pd.DataFrame, metric: str, subset: str = "all") -> pd.Series:
    """Return the values of single conditions of any stratum, by condition, where they are defined."""
    rows = table[(table["metric"] == metric) & (table["condition"] != "") & (table["status"] == "ok")]
    rows = rows[rows["subset"].str.partition("/")[0] == subset]
    return rows.set_index("condition")["value"]


def mean(table: pd.DataFrame, metric: str, subset: str = "all") -> float:
    """Return the mean over all conditions; NaN where it is not defined."""
    rows = table[(table["metric"] == metric) & (table["condition"] == "") & (table["subset"] == subset)]
    if len(rows) != 1:
        raise CellgaugeError(f"{len(rows)} rows of {metric}, {subset}")
    return float(rows["value"].iloc[0])
