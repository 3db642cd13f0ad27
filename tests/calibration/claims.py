"""Whether scores agree with what is known of a world, and which score stands for a task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import yaml
from scoring import ROOT, Value
from worlds import WORLDS, Alike, Better, Claim

from cellgauge.results.entries import Metric, Variant
from cellgauge.results.words import usual

RIGHT, WRONG, BLIND, ALLOWED, NONE = "right", "wrong", "blind", "allowed", "none"
"""The score sees the order; sees the opposite; sees no difference; and may see none; there is nothing to compare."""
LEAST = 0.005
"""Differences below this count as none, or below one per cent of the larger value where the range of a metric is open."""


@dataclass(frozen=True)
class Judgment:
    """What one score says of one claim. `difference` is how far the better model is ahead, or a value is from the expected."""

    claim: Claim
    state: str
    difference: float | None = None

    @property
    def is_fault(self) -> bool:
        """Whether a score that is so may not be a headline."""
        return self.state in (WRONG, BLIND)


@dataclass(frozen=True)
class Scores:
    """The scores of one task in one world: values by variant, model and seed; NaN where there is none."""

    task: str
    world: str
    values: dict[Variant, dict[str, dict[int, float]]]

    def variants(self, profile: str) -> list[Variant]:
        """Return what there are scores of, in the order of the score files."""
        return [variant for variant in self.values if variant.profile == profile]

    def of(self, variant: Variant, model: str) -> np.ndarray:
        """Return the values of a model, one for each seed, NaN where there is none."""
        seeds = sorted({seed for of_model in self.values.values() for values in of_model.values() for seed in values})
        values = self.values[variant].get(model, {})
        return np.asarray([values.get(seed, np.nan) for seed in seeds])

    def mean(self, variant: Variant, model: str) -> float:
        """Return the mean over seeds, NaN where one has no value."""
        values = self.of(variant, model)
        return float(values.mean()) if len(values) else np.nan

    def judgments(self, variant: Variant) -> Iterator[Judgment]:
        """Yield what a score says of the claims of its world that are about it."""
        metric = metrics(self.task)[variant.metric]
        for claim in WORLDS[self.world].known[1]:
            if isinstance(claim, Better):
                yield judge_order(claim, metric, self.of(variant, claim.better), self.of(variant, claim.worse))
            elif isinstance(claim, Alike):
                yield judge_alike(claim, metric, self.mean(variant, claim.first), self.mean(variant, claim.second))
            elif claim.metric == variant.metric and claim.subset in (None, variant.subset):
                difference = self.mean(variant, claim.model) - claim.value
                close = abs(difference) <= claim.tolerance
                yield Judgment(claim, NONE if np.isnan(difference) else RIGHT if close else WRONG, difference)


def judge_order(claim: Better, metric: Metric, first: np.ndarray, second: np.ndarray) -> Judgment:
    """Return whether the better model is ahead in every seed, behind in every seed, or neither.

    A better model without a value, where the worse one has some, is not ahead: readers see the worse one alone.

    Args:
        first, second: the values of the better and of the worse model, one for each seed.
    """
    if not len(first) or not np.isfinite(first).all():
        return Judgment(claim, BLIND if len(second) and np.isfinite(second).all() else NONE)
    if not np.isfinite(second).all():
        return Judgment(claim, NONE)
    lead = (first - second) * (1 if metric.higher_is_better else -1)
    least = LEAST if metric.is_closed else 2 * LEAST * np.maximum(np.abs(first), np.abs(second))
    if (lead > least).all():
        state = RIGHT
    elif (lead < -least).all():
        state = WRONG
    else:
        state = ALLOWED if claim.tie else BLIND
    return Judgment(claim, state, float(lead.mean()))


def judge_alike(claim: Alike, metric: Metric, first: float, second: float) -> Judgment:
    """Return whether two means over seeds differ by no more than the tolerance, relative to the larger in an open range."""
    difference = first - second
    if np.isnan(difference):
        return Judgment(claim, NONE)
    close = abs(difference) <= claim.tolerance * (1 if metric.is_closed else max(abs(first), abs(second)))
    return Judgment(claim, RIGHT if close else WRONG, difference)


@cache
def _tasks() -> Mapping[str, Any]:
    return yaml.safe_load((ROOT / "config/tasks.yaml").read_text(encoding="utf-8"))["tasks"]


def entry(task: str) -> Mapping[str, Any]:
    """Return what config/tasks.yaml says of a task."""
    return _tasks()[task]


@cache
def metrics(task: str) -> Mapping[str, Metric]:
    """Return the metrics of a task that config/tasks.yaml describes."""
    return {
        name: Metric(
            name,
            facts["title"],
            higher_is_better=facts["higher_is_better"],
            low=facts["range"][0],
            high=facts["range"][1],
        )
        for name, facts in entry(task)["metrics"].items()
    }


def collect(values: Iterable[Value]) -> dict[tuple[str, str], Scores]:
    """Return the scores of each task and world; numbers that no model is to be compared by are left out."""
    scores: dict[tuple[str, str], Scores] = {}
    for value in values:
        metric = metrics(value.task).get(value.variant.metric)
        if metric is None or not metric.is_score:
            continue
        of_world = scores.setdefault((value.task, value.world), Scores(value.task, value.world, {}))
        of_model = of_world.values.setdefault(value.variant, {}).setdefault(value.model, {})
        of_model[value.seed] = np.nan if value.value is None else value.value
    return scores


def headline(scores: Scores, profile: str = "corrected") -> Variant:
    """Return the score that stands for a task in the overview and in verdicts: that of the catalogue, in the usual variant.

    It is what `cellgauge.results.columns.headlines` takes for a run.
    """
    variants = scores.variants(profile)
    return usual([variant for variant in variants if variant.metric == entry(scores.task)["headline"]])


def faults_of_headline(scores: Scores) -> list[Judgment]:
    """Return the claims of a world that the headline of a task does not bear out."""
    return [judgment for judgment in scores.judgments(headline(scores)) if judgment.is_fault]
