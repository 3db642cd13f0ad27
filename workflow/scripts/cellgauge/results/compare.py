"""What the models reached in one variant of a metric on one data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from cellgauge.results.entries import NO_ROW, Interval, Metric, Missing, Variant
from cellgauge.results.numbers import DASH, number, readable
from cellgauge.results.read import Tables

SCALED = Metric("scaled", "scaled between the controls", higher_is_better=True, low=0.0, high=1.0)


@dataclass(frozen=True)
class Result:
    """What the models reached in one variant of a metric on one dataset."""

    tables: Tables
    task: str
    dataset: str
    variant: Variant

    def _of(self, by_score: Mapping[tuple[str, str, Variant], Mapping[Any, Any]]) -> Mapping[Any, Any]:
        return by_score.get((self.task, self.dataset, self.variant), {})

    @property
    def about(self) -> Mapping[str, str]:
        """The variant and the dataset, by which the page's controls choose."""
        return {**vars(self.variant), "dataset": self.dataset}

    @property
    def metric(self) -> Metric:
        """The metric of the variant."""
        return self.tables.metric(self.task, self.variant.metric)

    @cached_property
    def values(self) -> Mapping[tuple[str, str], float]:
        """By model and split."""
        return self._of(self.tables.values)

    @cached_property
    def means(self) -> Mapping[str, tuple[float, int]]:
        """The mean over splits and their number, by model."""
        return self._of(self.tables.means)

    @cached_property
    def splits(self) -> list[str]:
        """The splits on which some model has a value; where none has any, those on which some model failed."""
        valued, models = {split for _, split in self.values}, self.tables.models
        if valued:
            return [split for split in self.all_splits if split in valued]
        return [s for s in self.all_splits if any(self.why(model, s).status == "failed" for model in models)]

    def why(self, model: str, split: str) -> Missing:
        """Return why a value is missing."""
        return self.tables.why(self.task, self.dataset, model, split, self.variant)

    def gap(self, model: str) -> Missing:
        """Return why a model lacks splits: a failure before all else."""
        lacking = [split for split in self.splits or self.all_splits if (model, split) not in self.values]
        reasons = [self.why(model, split) for split in lacking] or [NO_ROW]
        return next((missing for missing in reasons if missing.status == "failed"), reasons[0])

    def without(self) -> Missing | None:
        """Return which splits the means of all models are without, and why."""
        lacking = [split for split in self.all_splits if split not in self.splits]
        if not lacking or not self.splits:
            return None
        reason = self.why(next(iter(self.means or self.tables.models)), lacking[0]).reason
        return Missing("ok", f"without {', '.join(map(readable, lacking))}: {reason}")

    def shortfall(self, model: str) -> str:
        """Return what a model's mean lacks, such as "1,490 of 2,142 cells" or "2 of 3 splits"; "" where nothing."""
        return self._of(self.tables.shortfalls).get(model, "")

    def lacks_splits_alone(self, model: str) -> bool:
        """Return whether a model's mean lacks splits and nothing else, so that it may be compared on those that it has."""
        return self.means[model][1] < len(self.splits) and ";" not in self.shortfall(model)

    def split_shortfall(self, model: str, split: str) -> str:
        """Return of how many of a split's cells or genes a model's score is, "" where of all."""
        v = self.variant
        key = (self.task, self.dataset, v.set, v.classifier, v.metric, v.subset, v.profile)
        return self.tables.coverage.short(key, model, [split])

    @cached_property
    def comparable(self) -> Mapping[str, float]:
        """The means of all models, controls among them, that are over all that there is, the best first."""
        whole = {model: mean for model, (mean, _) in self.means.items() if not self.shortfall(model)}
        return dict(sorted(whole.items(), key=lambda item: item[1], reverse=self.metric.rises))

    @cached_property
    def ranked(self) -> Mapping[str, float]:
        """The means of the models that may be ranked, best first: controls are not."""
        return {m: mean for m, mean in self.comparable.items() if not self.tables.models[m].is_control}

    @property
    def best_baseline(self) -> str | None:
        """The best baseline among the models that may be ranked, None where there is none."""
        return next((m for m in self.ranked if self.tables.models[m].kind == "baseline"), None)

    @cached_property
    def bounds(self) -> tuple[float, float] | None:
        """The means of the best negative and the best positive control; None without both, or where noise is as good."""
        models = self.tables.models
        controls = [(models[m].is_uninformed, mean) for m, mean in self.comparable.items() if models[m].is_control]
        low = next((mean for uninformed, mean in controls if uninformed), None)
        high = next((mean for uninformed, mean in controls if not uninformed), None)
        if low is None or high is None or low == high or (low < high) != self.metric.rises:
            return None
        return low, high

    def scaled(self, value: float) -> str:
        """Return the place of a value between the controls as text, 0 the negative and 1 the positive one; else a dash."""
        if self.bounds is None:
            return DASH
        low, high = self.bounds
        return number((value - low) / (high - low), SCALED)

    @cached_property
    def contest(self) -> Mapping[str, Mapping[str, Any]]:
        """The rows of ranks.csv by model; none where nothing can be tested."""
        return self._of(self.tables.contests)

    def rank(self, model: str) -> int | None:
        """Return 1 plus the number of models that a test says are ahead, None where there is no test."""
        return int(self.contest[model]["rank"]) if model in self.contest else None

    def ahead(self, first: str, second: str) -> str | None:
        """Return the one of two models that a test says is ahead, "" where it tells neither; None where there is no test."""
        return self._of(self.tables.tested).get(frozenset((first, second)))

    @property
    def over(self) -> str:
        """What the models are compared over, "26 splits"; "" where nothing can be tested."""
        row = next(iter(self.contest.values()), None)
        return f"{int(row['n_units'])} {row['units'].replace(', ', ' and ')}" if row else ""

    def interval(self, model: str) -> Interval | None:
        """Return the interval of a model's mean over splits, None where there is none."""
        return self._of(self.tables.mean_intervals).get(model)

    def interval_text(self, model: str) -> str:
        """Return the ends of this interval as text, "" where there is none."""
        interval = self.interval(model)
        return f"{number(interval.low, self.metric)} to {number(interval.high, self.metric)}" if interval else ""

    @property
    def units(self) -> list[str]:
        """What the intervals of the means are over, each once."""
        return list(dict.fromkeys(interval.units for interval in self._of(self.tables.mean_intervals).values()))

    @property
    def all_splits(self) -> list[str]:
        """The splits that the task scores, or the one set that the variant is of."""
        return [self.variant.set] if self.variant.set else self.tables.splits(self.task, self.dataset)

    def remark(self, model: str, splits: Sequence[str]) -> Missing | None:
        """Return what the score files say of a model's values on `splits`: of all of them, or an example and of how many."""
        of_splits = self._of(self.tables.remarks)
        remarks = [of_splits[model, split] for split in splits if (model, split) in of_splits]
        if not remarks:
            return None
        is_of_all = len(remarks) == len(splits) and len(set(remarks)) == 1
        where = "" if is_of_all else f"on {len(remarks)} of {len(splits)} splits, for example: "
        return Missing("ok", f"{where}{remarks[0]}")

    @cached_property
    def _spread(self) -> Result:
        return replace(self, variant=replace(self.variant, metric=f"{self.variant.metric}_sd"))

    @property
    def spread_title(self) -> str:
        """What the standard deviation beside the values is of, "" where there is none."""
        return self._spread.metric.title.rpartition(", ")[2] if self._spread.values else ""

    def spread(self, model: str, split: str) -> str:
        """Return "±" and the standard deviation that the score file gives beside a value."""
        value = self._spread.values.get((model, split))
        return "" if value is None else f"±{number(value, self.metric)}"
