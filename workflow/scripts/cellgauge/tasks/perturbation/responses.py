"""Predicted and measured responses of one screen, aligned by gene and by condition, as one profile scores them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from cellgauge.core.errors import ContractError
from cellgauge.files.prediction import Prediction
from cellgauge.files.profiles import SUFFIX
from cellgauge.files.truth import Truth, is_truth
from cellgauge.screens.ground_truth import measure_truth
from cellgauge.screens.screen import targets

NO_CELLS = "no cell of the screen has this condition"
NO_ROW = "the file has no row of this condition"


@dataclass(frozen=True)
class Value:
    """The value of one metric for one condition; `reason` says why it is None."""

    metric: str
    genes: str
    value: float | None
    reason: str = ""


@dataclass(frozen=True)
class Responses:
    """Predicted and measured responses of one profile.

    Reference takes the genes that both have; corrected takes all genes of the screen, and of those that are not predicted that
    they do not change.
    """

    truth: Truth  # rows are groups of cells (`cellgauge.files.truth`), columns the genes taken
    predicted: np.ndarray  # means, float64, shape (n_predictions, n_genes)
    scores: np.ndarray  # Wilcoxon z scores of the predictions, same shape
    has_cells: np.ndarray  # whether a prediction is of cells, not of a mean alone, shape (n_predictions,)
    # sampled predicted cells in the truth's principal components, (n_predictions, n_sampled, n_components)
    cells: np.ndarray | None
    reasons: np.ndarray  # why there is no prediction, str, shape (n_predictions,)
    row_of: Mapping[str | frozenset[str], int]  # the row of a prediction by its condition, and by its set of genes
    n_genes_missing: int  # genes of the screen that the model does not predict
    note: str = ""  # what must be known of every score, "" for nothing

    @cached_property
    def baseline(self) -> np.ndarray:
        """The mean expression of the controls that predictors saw, shape (n_genes,)."""
        return self.truth.means[self.truth.predicted_from]

    @cached_property
    def control(self) -> np.ndarray:
        """The mean expression of the controls that measured changes are differences from, shape (n_genes,)."""
        return self.truth.means[self.truth.measured_from]

    @cached_property
    def tie_breaker(self) -> np.ndarray:
        """The place of each gene in the alphabet of ids, shape (n_genes,)."""
        return np.argsort(np.argsort(self.truth.genes.astype(str), kind="stable"), kind="stable")

    def prediction_of(self, condition: str) -> int:
        """Return the row of the prediction for a condition; -1 for none.

        Where none of that name is predicted, one of the same set of genes serves.
        """
        named, same = self.row_of.get(condition, -1), self.row_of.get(targets(condition), -1)
        return same if named < 0 or (self.reasons[named] and not self.reasons[same]) else named

    def why_not(self, row: int) -> str:
        """Return why a row of the truth cannot be scored, "" where it can."""
        prediction = self.prediction_of(self.truth.condition[row])
        reason = self.reasons[prediction] if prediction >= 0 else NO_ROW
        return reason or (NO_CELLS if self.truth.n_cells[row] == 0 else "")

    def predicted_change(self, row: int) -> np.ndarray:
        """Return the predicted change of the condition of a row of the truth, shape (n_genes,)."""
        return self.predicted[self.prediction_of(self.truth.condition[row])] - self.baseline

    def measured_change(self, row: int) -> np.ndarray:
        """Return the measured change of a row of the truth, shape (n_genes,)."""
        return self.truth.means[row] - self.control


def open_responses(prediction_path: str | Path, truth_path: str | Path) -> dict[str, Responses]:
    """Read a prediction and the truth that it is scored against, by profile.

    Args:
        truth_path: a truth file, or the split that it is made of (which takes longer).

    Raises:
        ContractError: files that do not belong together.
    """
    if is_truth(truth_path):
        return {profile: _read(prediction_path, truth_path, profile) for profile in SUFFIX}
    with tempfile.TemporaryDirectory() as folder:
        measured = Path(folder) / "truth.h5ad"
        measure_truth(truth_path, measured)
        return {profile: _read(prediction_path, measured, profile) for profile in SUFFIX}


def identity(prediction_path: str | Path, responses: Mapping[str, Responses]) -> dict[str, str]:
    """Return the model that a prediction file names, and the dataset and split of the truth: a file need not name them."""
    model, truth = str(Prediction.facts(prediction_path).get("model", "")), responses["corrected"].truth
    return {"model": model, "dataset": truth.dataset, "split": truth.split}


def _read(prediction_path: str | Path, truth_path: str | Path, profile: str) -> Responses:
    prediction = Prediction.read(prediction_path, profile)
    halved = prediction.uns.get("scored_against") == "second_half"
    truth = Truth.read(truth_path, profile=profile, second_half=halved)
    named = str(prediction.uns.get("dataset", truth.dataset)), str(prediction.uns.get("split", truth.split))
    if named != (truth.dataset, truth.split):
        raise ContractError(
            f"{prediction.path}: predictions of {'/'.join(named)} cannot be scored against {truth.dataset}/{truth.split}"
        )
    place = {gene: column for column, gene in enumerate(prediction.genes)}
    shared = np.asarray([gene in place for gene in truth.genes])
    if not shared.any():
        raise ContractError(f"{prediction.path}: none of its genes is a gene of {truth.dataset}/{truth.split}")
    columns = np.asarray([place[gene] for gene in truth.genes[shared]])
    predicted, scores, cells = prediction.means[:, columns], prediction.scores[:, columns], None
    if profile == "reference":
        truth = _restricted(truth, shared)
    else:
        baseline = truth.means[truth.predicted_from]
        predicted = _filled(predicted, shared, np.where(prediction.reasons[:, None] == "", baseline, np.nan))
        scores = _filled(scores, shared, np.zeros_like(predicted))
        if prediction.cells is not None:
            rest = baseline[~shared] @ truth.components[~shared]
            cells = np.stack([sample[:, columns] @ truth.components[shared] + rest for sample in prediction.cells])
    return Responses(
        truth=truth,
        predicted=predicted,
        scores=scores,
        has_cells=prediction.n_cells > 0,
        cells=cells,
        reasons=prediction.reasons,
        row_of=_rows_by_condition(prediction),
        n_genes_missing=int((~shared).sum()),
        note=_note(prediction) if profile == "corrected" else "",
    )


def _note(prediction: Prediction) -> str:
    if not prediction.uns.get("may_have_used_withheld", False):
        return ""
    return (
        "made elsewhere, perhaps from controls that are withheld here; if not, set `without_withheld: true` in"
        " the model's params"
    )


def _rows_by_condition(prediction: Prediction) -> dict[str | frozenset[str], int]:
    row_of: dict[str | frozenset[str], int] = {}
    for row in np.argsort(prediction.conditions.astype(str), kind="stable"):
        row_of[prediction.conditions[row]] = int(row)
        known = row_of.get(targets(prediction.conditions[row]))
        if known is None or (prediction.reasons[known] and not prediction.reasons[row]):
            row_of[targets(prediction.conditions[row])] = int(row)
    return row_of


def _filled(values: np.ndarray, shared: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Return `values` of the shared genes among those of all genes, the others' from `rest`."""
    if shared.all():
        return values
    rest[:, shared] = values
    return rest


def _restricted(truth: Truth, genes: np.ndarray) -> Truth:
    if genes.all():
        return truth
    by_gene = ("means", "scores", "full_scores")
    columns = {name: getattr(truth, name)[:, genes] for name in by_gene}
    return replace(truth, genes=truth.genes[genes], masked=truth.masked[genes], **columns)
