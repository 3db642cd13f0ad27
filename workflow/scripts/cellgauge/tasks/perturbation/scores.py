"""Genetic perturbation prediction: do predicted responses agree with the measured ones?

Every test condition is scored for itself (rows with `condition`), then the mean over conditions is taken: over all of them,
and over each stratum where there are several. `subset` is the genes scored, and after a slash the stratum.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from cellgauge.core.errors import ContractError
from cellgauge.files.prediction import Prediction
from cellgauge.files.score import Score
from cellgauge.files.truth import Truth, is_truth
from cellgauge.metrics import perturbation as metrics
from cellgauge.screens.ground_truth import measure_truth
from cellgauge.screens.screen import targets
from cellgauge.tasks.cells import NotScorable

SCOPE = "split"
MODALITY = "perturbation"
NEEDS = ()

DISCRIMINATION = ("l1", "l2", "cosine")
N_BEST_EXPRESSED = 10
NO_CELLS = "no cell of the screen has this condition"


@dataclass(frozen=True)
class Value:
    """The value of one metric for one condition; `reason` says why it is None."""

    metric: str
    genes: str
    value: float | None
    reason: str = ""


@dataclass(frozen=True)
class Responses:
    """Predicted and measured responses over the genes that both have.

    Attributes:
        truth: rows are groups of cells (`cellgauge.truths`), columns restricted to the genes predicted.
        predicted: means, float64, shape (n_predictions, n_genes).
        scores: Wilcoxon z scores of the predictions against control, same shape.
        has_cells: whether a prediction is of cells, not of a mean alone, shape (n_predictions,).
        loadings: of the genes predicted on the truth's principal components, shape (n_genes, n_components).
        cells: sampled predicted cells in the truth's principal components, (n_predictions, n_sampled, n_components).
        reasons: why there is no prediction, str, shape (n_predictions,).
        row_of: the row of a prediction by its condition, and by its set of genes.
        n_genes_missing: genes of the screen that the model does not predict; no score sees them.
    """

    truth: Truth
    predicted: np.ndarray
    scores: np.ndarray
    has_cells: np.ndarray
    loadings: np.ndarray
    cells: np.ndarray | None
    reasons: np.ndarray
    row_of: Mapping[str | frozenset[str], int]
    n_genes_missing: int

    @cached_property
    def control(self) -> np.ndarray:
        """The mean expression of the control cells, shape (n_genes,)."""
        return self.truth.means[self.truth.role == "control"][0]

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


def open_responses(prediction_path: str | Path, truth_path: str | Path) -> Responses:
    """Read a prediction and the truth that it is scored against, aligned by gene and by condition.

    Args:
        truth_path: a truth file, or the split that it is made of (which takes longer).

    Raises:
        ContractError: files that do not belong together.
    """
    prediction = Prediction.read(prediction_path)
    truth = _read_truth(truth_path, second_half=prediction.uns.get("scored_against") == "second_half")
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
    row_of: dict[str | frozenset[str], int] = {}
    for row in np.argsort(prediction.conditions.astype(str), kind="stable"):
        row_of[prediction.conditions[row]] = int(row)
        known = row_of.get(targets(prediction.conditions[row]))
        if known is None or (prediction.reasons[known] and not prediction.reasons[row]):
            row_of[targets(prediction.conditions[row])] = int(row)
    return Responses(
        truth=_restricted(truth, shared),
        predicted=prediction.means[:, columns],
        scores=prediction.scores[:, columns],
        has_cells=prediction.n_cells > 0,
        loadings=truth.components[shared],
        cells=_projected(prediction, truth, place),
        reasons=prediction.reasons,
        row_of=row_of,
        n_genes_missing=int((~shared).sum()),
    )


def identity(prediction_path: str | Path, responses: Responses) -> dict[str, str]:
    """Return the model that a prediction file names, and the dataset and split of the truth: a file need not name them."""
    model = str(Prediction.facts(prediction_path).get("model", ""))
    return {"model": model, "dataset": responses.truth.dataset, "split": responses.truth.split}


def _read_truth(path: str | Path, *, second_half: bool) -> Truth:
    if is_truth(path):
        return Truth.read(path, second_half=second_half)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "truth.h5ad"
        measure_truth(path, made)
        return Truth.read(made, second_half=second_half)


def _restricted(truth: Truth, genes: np.ndarray) -> Truth:
    from dataclasses import replace

    if genes.all():
        return truth
    return replace(truth, genes=truth.genes[genes], means=truth.means[:, genes], scores=truth.scores[:, genes])


def _projected(prediction: Prediction, truth: Truth, place: Mapping[str, int]) -> np.ndarray | None:
    """Return the sampled predicted cells in the truth's components; a gene not predicted stays at the control's mean."""
    if prediction.cells is None:
        return None
    have = np.asarray([gene in place for gene in truth.genes])
    columns = np.asarray([place[gene] for gene in truth.genes[have]])
    rest = truth.means[truth.role == "control"][0][~have] @ truth.components[~have]
    return np.stack([cells[:, columns] @ truth.components[have] + rest for cells in prediction.cells])


# --- scores ----------------------------------------------------------------------------------------------------------


def score(
    cells: Responses,
    *,
    profiles: Sequence[str],
    seed: int,
    top: Sequence[int] = (20, 100),
    scale_tolerance: float = 1.33,
) -> Iterator[Score]:
    """Yield the scores of each test condition and their means.

    Profile reference is cz-benchmarks 0.10.2 with genes aligned by name: differentially expressed genes are those with the
    highest Wilcoxon scores, so the up-regulated ones. Profile corrected ranks by the absolute score, compares directions,
    calls a correlation with a constant undefined, and adds scores of specificity and of distributions; there the cells of a
    condition that the data write in two orders are one condition.

    Args:
        top: numbers of differentially expressed genes.
        scale_tolerance: the best expressed genes may be predicted at a level that differs from the control's by this factor
            (the median over conditions).

    Raises:
        NotScorable: the predictions are on another scale.
    """
    _check_scale(cells, scale_tolerance)
    for profile in ("reference", "corrected"):
        if profile in profiles:
            role = {"reference": ("test",), "corrected": ("test", "pooled")}[profile]
            rows = np.flatnonzero(np.isin(cells.truth.role, role))
            if profile == "corrected":
                rows = _one_per_set(cells.truth, rows)
            scored = {int(row): list(_scores_of(cells, int(row), profile, rows, top)) for row in rows}
            yield from _rows(cells, profile, scored)


def _check_scale(cells: Responses, tolerance: float) -> None:
    """Raise NotScorable where the best expressed genes are predicted at another level than the control has them.

    Rarely expressed genes say nothing of the scale: medians, say, have none of them.
    """
    there = cells.reasons == ""
    best = metrics.leading(cells.control, N_BEST_EXPRESSED, cells.tie_breaker)
    control = cells.control[best].sum()
    if not there.any() or control <= 0:
        return
    ratio = float(np.median(cells.predicted[there][:, best].sum(axis=1)) / control)
    if not 1 / tolerance <= ratio <= tolerance:
        raise NotScorable(
            f"the predictions are on another scale: the {N_BEST_EXPRESSED} best expressed genes are predicted at {ratio:.3g}"
            f" times their expression in the control (between {1 / tolerance:.2f} and {tolerance:.2f} is expected of"
            " log-normalised expression as the screen has it)"
        )


def _one_per_set(truth: Truth, rows: np.ndarray) -> np.ndarray:
    """Return of the rows with one set of genes the pooled one, where there is one."""
    chosen: dict[frozenset[str], int] = {}
    for row in rows:
        key = targets(truth.condition[row])
        if key not in chosen or truth.role[row] == "pooled":
            chosen[key] = int(row)
    return np.asarray(sorted(chosen.values()), dtype=int)


def _scores_of(cells: Responses, row: int, profile: str, rows: np.ndarray, top: Sequence[int]) -> Iterator[Value]:
    """Yield the values of one condition: a row of the truth."""
    subsets = ["all", *(f"top{n}_de" for n in top)]
    made = cells.prediction_of(cells.truth.condition[row])
    unmade = cells.reasons[made] if made >= 0 else "the file has no row of this condition"
    reason = unmade or (NO_CELLS if cells.truth.n_cells[row] == 0 else "")
    if reason:
        yield from (Value(m, s, None, reason) for m in ("mse", "pearson_delta") for s in subsets)
        yield from (Value("jaccard", s, None, reason) for s in subsets[1:])
        if profile == "corrected":
            yield from (Value(metric, "all", None, reason) for metric in _specific_metrics())
        return
    absolute = profile == "corrected"
    measured, control = cells.truth.means[row], cells.control
    ranking = np.abs(cells.truth.scores[row]) if absolute else cells.truth.scores[row]
    order = metrics.leading(ranking, max(top), cells.tie_breaker)
    chosen = {"all": np.arange(len(measured))} | {f"top{n}_de": order[:n] for n in top}
    predicted = cells.predicted[made]
    for name, genes in chosen.items():
        yield Value("mse", name, metrics.mean_squared_error(predicted[genes], measured[genes]))
    scale = max(1.0, float(np.abs(control).max()))
    for name, genes in chosen.items():
        yield _pearson(name, (predicted - control)[genes], (measured - control)[genes], scale if absolute else 0.0)
    yield from _overlaps(cells, row, made, order, top, profile)
    if profile == "corrected":
        yield from _specificity(cells, row, made, rows)
        yield _energy(cells, row, made)


def _specific_metrics() -> list[str]:
    return [*(f"discrimination_{kind}" for kind in DISCRIMINATION), "centroid_accuracy", "e_distance"]


def _pearson(genes: str, predicted: np.ndarray, measured: np.ndarray, scale: float) -> Value:
    for change, whose in ((predicted, "predicted"), (measured, "measured")):
        if metrics.is_constant(change, scale):
            return Value("pearson_delta", genes, None, f"the {whose} change is the same for all {len(change)} genes")
    value = metrics.pearson(measured, predicted)
    if not np.isfinite(value):
        return Value("pearson_delta", genes, None, "the change is the same for all genes")
    return Value("pearson_delta", genes, value)


def _overlaps(
    cells: Responses, row: int, made: int, order: np.ndarray, top: Sequence[int], profile: str
) -> Iterator[Value]:
    """Yield the overlap of the genes that change most, measured and predicted.

    A mean has no differential expression; in profile corrected its genes are ranked by their predicted change.
    """
    if profile == "reference":
        ranked = metrics.leading(cells.scores[made], max(top), cells.tie_breaker)
        for n in top:
            yield Value("jaccard", f"top{n}_de", metrics.jaccard(set(order[:n]), set(ranked[:n])))
        return
    effect = cells.scores[made] if cells.has_cells[made] else cells.predicted[made] - cells.control
    if metrics.is_constant(effect, 1.0):
        yield from (Value("jaccard", f"top{n}_de", None, "the prediction changes no gene") for n in top)
        return
    ranked = metrics.leading(np.abs(effect), max(top), cells.tie_breaker)
    for n in top:
        truth = metrics.signed(order[:n], cells.truth.scores[row])
        yield Value("jaccard", f"top{n}_de", metrics.jaccard(truth, metrics.signed(ranked[:n], effect)))


def _specificity(cells: Responses, row: int, made: int, rows: np.ndarray) -> Iterator[Value]:
    """Yield whether the prediction is nearer to its own condition than to the others."""
    truth, own = cells.truth, targets(cells.truth.condition[row])
    change = cells.predicted[made] - cells.control
    others = np.asarray([other for other in rows if other != row and truth.n_cells[other]], dtype=int)
    for kind in DISCRIMINATION:
        name = f"discrimination_{kind}"
        if not len(others):
            yield Value(name, "all", None, "there is no other test condition to tell it from")
        elif kind == "cosine" and metrics.is_constant(change, 1.0):
            yield Value(name, "all", None, "the prediction changes no gene, so it has no direction")
        else:
            compared = np.append(others, row)
            far = metrics.distances(change, truth.means[compared] - cells.control, kind)
            undirected = truth.condition[compared[~np.isfinite(far)]]
            if len(undirected):
                why = f"the measured change of {undirected[-1]} is zero, so it has no direction"
                yield Value(name, "all", None, why)
            else:
                yield Value(name, "all", metrics.share_farther(far[-1], far[:-1]))
    elsewhere = [
        other
        for other in range(len(truth.role))
        if truth.n_cells[other] and truth.role[other] != "pooled" and targets(truth.condition[other]) != own
    ]
    far = metrics.distances(cells.predicted[made], truth.means[[*elsewhere, row]], "l2")
    yield Value("centroid_accuracy", "all", metrics.share_farther(far[-1], far[:-1]))


def _energy(cells: Responses, row: int, made: int) -> Value:
    """Return the energy distance of predicted and measured cells; a mean stands for the controls, moved to it."""
    truth = cells.truth
    if cells.has_cells[made] and cells.cells is not None:
        predicted = _there(cells.cells[made])
    else:
        moved = (cells.predicted[made] - cells.control) @ cells.loadings
        predicted = _there(truth.cells[truth.role == "control"][0]) + moved
    value = metrics.energy_distance(predicted.astype(np.float64), _there(truth.cells[row]).astype(np.float64))
    if not np.isfinite(value):
        return Value("e_distance", "all", None, "fewer than two cells")
    return Value("e_distance", "all", value)


def _there(cells: np.ndarray) -> np.ndarray:
    return cells[np.isfinite(cells).all(axis=1)]


# --- rows ------------------------------------------------------------------------------------------------------------


def _rows(cells: Responses, profile: str, scored: Mapping[int, Sequence[Value]]) -> Iterator[Score]:
    """Yield the rows of single conditions, then their means over all conditions and over each stratum."""
    truth = cells.truth
    found = sorted({truth.stratum[row] for row in scored})
    everything = {"": list(scored)} | {s: [r for r in scored if truth.stratum[r] == s] for s in found if len(found) > 1}
    for row, values in scored.items():
        for value in values:
            yield _score(value, profile, _subset(value.genes, truth.stratum[row]), truth.condition[row])
    missing = f"{cells.n_genes_missing} genes of the screen are not predicted" if cells.n_genes_missing else ""
    yield Score("n_genes", float(len(truth.genes)), profile, subset="all", reason=missing)
    yield Score("n_genes_unpredicted", float(cells.n_genes_missing), profile, subset="all")
    for stratum, rows in everything.items():
        predicted = [row for row in rows if scored[row][0].value is not None]
        yield Score("n_conditions", float(len(predicted)), profile, subset=_subset("all", stratum))
        lacking = Counter(scored[row][0].reason for row in rows if scored[row][0].value is None)
        yield Score(
            "n_unpredicted",
            float(len(rows) - len(predicted)),
            profile,
            subset=_subset("all", stratum),
            reason=f"for one: {next(iter(lacking))}" if lacking else "",
        )
        by_metric: dict[tuple[str, str], list[Value]] = {}
        for row in rows:
            for value in scored[row]:
                by_metric.setdefault((value.metric, value.genes), []).append(value)
        for (metric, genes), values in by_metric.items():
            yield _mean(metric, _subset(genes, stratum), values, profile)


def _subset(genes: str, stratum: str) -> str:
    return f"{genes}/{stratum}" if stratum else genes


def _score(value: Value, profile: str, subset: str, condition: str) -> Score:
    if value.value is None:
        return Score(
            value.metric,
            None,
            profile,
            subset=subset,
            condition=condition,
            status="not_applicable",
            reason=value.reason,
        )
    return Score(value.metric, value.value, profile, subset=subset, condition=condition)


def _mean(metric: str, subset: str, values: Sequence[Value], profile: str) -> Score:
    """Return the mean over the conditions that have a value; how many have none, and why, is its reason."""
    there = [value.value for value in values if value.value is not None]
    reasons = Counter(value.reason for value in values if value.value is None)
    why = reasons.most_common(1)[0][0] if reasons else ""
    if not there:
        return Score(
            metric, None, profile, subset=subset, status="not_applicable", reason=why or "there is no condition"
        )
    note = f"mean over {len(there)} of {len(values)} conditions; of the others for one: {why}" if reasons else ""
    return Score(metric, float(np.mean(there)), profile, subset=subset, reason=note)
