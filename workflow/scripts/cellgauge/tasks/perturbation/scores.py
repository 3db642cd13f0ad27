"""Genetic perturbation prediction: do predicted responses agree with the measured ones?

Every test condition is scored for itself (rows with `condition`), then the mean over conditions is taken: over all of them,
and over each stratum where there are several or where no condition has an effect. `subset` is the genes scored, and after a
slash the stratum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from cellgauge.files.score import Score
from cellgauge.metrics import perturbation as metrics
from cellgauge.tasks.cells import NotScorable, joined
from cellgauge.tasks.perturbation import reference
from cellgauge.tasks.perturbation.corrected import NO_EFFECT, Corrected
from cellgauge.tasks.perturbation.responses import Responses, Value, identity, open_responses

__all__ = ["identity", "open_responses", "score"]

SCOPE = "split"
MODALITY = "perturbation"
NEEDS = ()

N_BEST_EXPRESSED = 10


def score(
    cells: Mapping[str, Responses],
    *,
    profiles: Sequence[str],
    seed: int,
    top: Sequence[int] = (20, 100),
    fdr: float = 0.05,
    scale_tolerance: float = 1.33,
) -> Iterator[Score]:
    """Yield the scores of each test condition and their means.

    Profile reference is cz-benchmarks 0.10.2 with genes aligned by name (`perturbation.reference`); `perturbation.corrected`
    says what profile corrected does.

    Args:
        cells: the responses as each profile scores them.
        top: numbers of differentially expressed genes.
        fdr: the false discovery rate below which a gene is differentially expressed (corrected).
        scale_tolerance: the best expressed genes may be predicted at a level that differs from the control's by this factor
            (the median over conditions).

    Raises:
        NotScorable: the predictions are on another scale.
    """
    responses = cells["reference"]
    _check_scale(responses, scale_tolerance)
    if "reference" in profiles:
        rows = [int(row) for row in np.flatnonzero(responses.truth.role == "test")]
        strata = {row: responses.truth.stratum[row] for row in rows}
        values = {row: list(reference.values(responses, row, top)) for row in rows}
        yield from _rows(responses, "reference", values, strata)
    if "corrected" in profiles:
        scorer = Corrected(cells["corrected"], top, fdr)
        values = {row: list(scorer.values(row)) for row in scorer.rows}
        yield from _rows(cells["corrected"], "corrected", values, scorer.strata, scorer)


def _check_scale(responses: Responses, tolerance: float) -> None:
    """Raise NotScorable where the best expressed genes are predicted at another level than the control has them.

    Rarely expressed genes say nothing of the scale: medians, say, have none of them.
    """
    predicted = responses.reasons == ""
    best = metrics.leading(responses.control, N_BEST_EXPRESSED, responses.tie_breaker)
    control = responses.control[best].sum()
    if not predicted.any() or control <= 0:
        return
    ratio = float(np.median(responses.predicted[predicted][:, best].sum(axis=1)) / control)
    if not 1 / tolerance <= ratio <= tolerance:
        raise NotScorable(
            f"the predictions are on another scale: the {N_BEST_EXPRESSED} best expressed genes are predicted at {ratio:.3g}"
            f" times their expression in the control (between {1 / tolerance:.2f} and {tolerance:.2f} is expected of"
            " log-normalized expression as the screen has it)"
        )


def _rows(
    responses: Responses,
    profile: str,
    scored: Mapping[int, Sequence[Value]],
    strata: Mapping[int, str],
    scorer: Corrected | None = None,
) -> Iterator[Score]:
    """Yield the rows of single conditions, then their means over all conditions and over each stratum."""
    truth = responses.truth
    names = sorted(set(strata.values()))
    if names != [NO_EFFECT]:  # a screen in which nothing happens must say so
        names = names if len(names) > 1 else []
    groups = {"": list(scored)} | {name: [row for row in scored if strata[row] == name] for name in names}
    for row, values in scored.items():
        for value in values:
            yield _score(value, profile, _subset(value.genes, strata[row]), truth.condition[row])
    missing = responses.n_genes_missing
    reason = f"{missing} genes of the screen are not predicted" if missing else ""
    yield Score("n_genes", float(len(truth.genes)), profile, subset="all", reason=reason)
    yield Score("n_genes_unpredicted", float(missing), profile, subset="all")
    for stratum, rows in groups.items():
        lacking = [reason for row in rows if (reason := responses.why_not(row))]
        yield Score("n_conditions", float(len(rows) - len(lacking)), profile, subset=_subset("all", stratum))
        why = f"for example: {lacking[0]}" if lacking else ""
        yield Score("n_unpredicted", float(len(lacking)), profile, subset=_subset("all", stratum), reason=why)
        by_metric: dict[tuple[str, str], list[Value]] = {}
        for row in rows:
            for value in scored[row]:
                by_metric.setdefault((value.metric, value.genes), []).append(value)
        for (metric, genes), values in by_metric.items():
            yield _mean(metric, _subset(genes, stratum), values, profile, responses.note)
        if scorer is not None:
            yield from (_score(v, profile, _subset(v.genes, stratum), "", responses.note) for v in scorer.summary(rows))


def _subset(genes: str, stratum: str) -> str:
    return f"{genes}/{stratum}" if stratum else genes


def _score(value: Value, profile: str, subset: str, condition: str, note: str = "") -> Score:
    missing = value.value is None
    about = {"status": "not_applicable", "reason": value.reason} if missing else {"reason": note}
    return Score(value.metric, value.value, profile, subset=subset, condition=condition, **about)


def _mean(metric: str, subset: str, values: Sequence[Value], profile: str, about: str = "") -> Score:
    """Return the mean over the conditions that have a value; how many have none, and why, is its reason."""
    known = [value.value for value in values if value.value is not None]
    reasons = Counter(value.reason for value in values if value.value is None)
    why = reasons.most_common(1)[0][0] if reasons else ""
    if not known:
        why = why or "there is no condition"
        return Score(metric, None, profile, subset=subset, status="not_applicable", reason=why)
    note = f"mean over {len(known)} of {len(values)} conditions; the others, for example: {why}" if reasons else ""
    return Score(metric, float(np.mean(known)), profile, subset=subset, reason=joined(note, about))
