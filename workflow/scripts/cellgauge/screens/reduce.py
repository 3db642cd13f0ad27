"""Predicted cells of one condition after the other, reduced as they are made to what scores need."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from cellgauge.core.errors import ContractError
from cellgauge.files.checked import checked_path
from cellgauge.files.h5ad import as_plain
from cellgauge.files.prediction import NOT_PREDICTED
from cellgauge.files.profiles import SUFFIX
from cellgauge.metrics.wilcoxon import ControlRanks
from cellgauge.screens.screen import CONTROL, Screen, mean_of

SAMPLED = 64
"""How many predicted cells of a condition are written, for scores that compare distributions."""


class Reducer:
    """Takes a model's responses one by one and keeps of each what the scores of either profile need.

    Args:
        screen: the screen that was predicted, with all of its controls.
        genes: the gene ids of the columns of every response.

    Raises:
        ContractError: a gene that the screen has not, or one that appears twice.
    """

    def __init__(self, screen: Screen, genes: Sequence[str]) -> None:
        self._genes = np.asarray(genes, dtype=object)
        self._conditions = screen.test_conditions
        self._rows = {condition: row for row, condition in enumerate(self._conditions)}
        place = {gene: column for column, gene in enumerate(screen.genes)}
        unknown = [gene for gene in self._genes if gene not in place]
        if unknown or not len(self._genes):
            raise ContractError(
                f"predictions of {screen.where}: {len(unknown)} of {len(self._genes)} genes"
                f"{f' (such as {unknown[0]})' if unknown else ''} are not genes of the screen; columns must be its gene ids"
            )
        if len(set(self._genes)) < len(self._genes):
            raise ContractError(f"predictions of {screen.where}: a gene has more than one column")
        controls = screen.controls()[:, [place[gene] for gene in self._genes]]
        seen = np.isin(screen.rows_of(CONTROL), screen.divided_controls()[0])
        self._ranks = {"corrected": ControlRanks(controls[np.flatnonzero(seen)]), "reference": ControlRanks(controls)}
        shape = (len(self._conditions), len(self._genes))
        self._means = {profile: np.full(shape, np.nan) for profile in SUFFIX}
        self._scores = {profile: np.full(shape, np.nan) for profile in SUFFIX}
        self._reasons = {profile: np.full(shape[0], NOT_PREDICTED, dtype=object) for profile in SUFFIX}
        self._n_cells = np.zeros(shape[0], dtype=np.int64)
        self._samples: dict[int, np.ndarray] = {}

    def add(
        self,
        condition: str,
        *,
        cells: np.ndarray | csr_matrix | None = None,
        mean: np.ndarray | None = None,
        reason: str = "",
        profiles: Iterable[str] = tuple(SUFFIX),
    ) -> None:
        """Take what was predicted for one condition: cells (n_cells, n_genes), their mean (n_genes,), or why neither.

        Args:
            profiles: those that are to score it; both, where the result does not depend on which controls were seen.

        Raises:
            ContractError: a condition that is not to be predicted or comes twice, a wrong shape, a value not finite.
        """
        for profile in profiles:
            row, reasons = self._rows.get(condition), self._reasons[profile]
            if row is None or reasons[row] != NOT_PREDICTED:
                fault = "no test condition" if row is None else "predicted more than once"
                raise ContractError(f"condition {condition} is {fault}")
            values = mean if cells is None else cells
            if values is None:
                reasons[row] = reason or NOT_PREDICTED
                continue
            check_values(values, condition, 1 if cells is None else 2, len(self._genes))
            reasons[row] = ""
            self._means[profile][row] = mean if cells is None else mean_of(cells)
            ranks, corrected = self._ranks[profile], profile == "corrected"
            if cells is not None:
                self._scores[profile][row] = ranks.scores(cells, tie_correct=corrected)
            elif not corrected:
                self._scores[profile][row] = ranks.scores_of_constant(mean, ranks.n_controls)
            if corrected and cells is not None:
                self._n_cells[row] = cells.shape[0]
                sample = cells[_sampled_rows(cells, row)]
                self._samples[row] = sample if isinstance(sample, np.ndarray) else sample.toarray()

    def write(self, path: str | Path, uns: Mapping[str, Any]) -> None:
        """Write the prediction file; where nothing was predicted it holds the reasons."""
        reasons = {f"reason{SUFFIX[profile]}": values.astype(str) for profile, values in self._reasons.items()}
        unpredicted = int((self._reasons["corrected"] != "").sum())
        facts = {**uns, "unpredicted": unpredicted, "controls_compared": self._ranks["corrected"].n_controls}
        data = anndata.AnnData(
            X=self._means["corrected"],
            obs=pd.DataFrame({"n_cells": self._n_cells, **reasons}, index=self._conditions),
            var=pd.DataFrame(index=self._genes.astype(str)),
            layers={f"wilcoxon{SUFFIX[profile]}": values for profile, values in self._scores.items()}
            | {"mean_reference": self._means["reference"]},
            uns={key: as_plain(value) for key, value in facts.items() if value is not None},
        )
        if self._samples:
            most = max(map(len, self._samples.values()))
            sampled = np.full((len(self._conditions), most, len(self._genes)), np.nan, dtype=np.float32)
            for row, sample in self._samples.items():
                sampled[row, : len(sample)] = sample
            data.obsm["cells"] = sampled
        with checked_path(path) as temporary:
            data.write_h5ad(temporary)


def _sampled_rows(cells: np.ndarray | csr_matrix, seed: int) -> np.ndarray:
    """Return the positions of up to `SAMPLED` cells, ascending: the same cells in whatever order they come."""
    totals = np.asarray(cells.sum(axis=1, dtype=np.float64)).ravel()
    sample = np.random.default_rng(seed).permutation(len(totals))[:SAMPLED]
    return np.sort(np.argsort(totals, kind="stable")[sample])


def check_values(values: np.ndarray | csr_matrix, condition: str, n_dims: int, n_genes: int) -> None:
    """Raise ContractError where what was predicted of a condition has another shape, or holds what is not finite."""
    shape = values.shape
    if len(shape) != n_dims or shape[-1] != n_genes or 0 in shape:
        expected = f"({n_genes},)" if n_dims == 1 else f"(cells, {n_genes})"
        raise ContractError(f"condition {condition}: the prediction has shape {shape}, not {expected}")
    if not np.isfinite(values if isinstance(values, np.ndarray) else values.data).all():
        raise ContractError(f"condition {condition}: the prediction contains a value that is not finite")
