"""What the models reached in one variant of a metric on one data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from cellgauge.results.entries import Interval, Metric, Missing, Variant
from cellgauge.results.numbers import number, readable
from cellgauge.results.read import Tables


@dataclass(frozen=True)
class Result:
    """What the models reached in one variant of a metric on one dataset."""

    tables: Tables
    task: str
    dataset: str
    variant: Variant

    @property
    def metric(self) -> Metric:
        return self.tables.metric(self.task, self.variant.metric)

    @cached_property
    def values(self) -> Mapping[tuple[str, str], float]:
        """By model and split."""
        return self.tables.values.get((self.task, self.dataset, self.variant), {})

    @cached_property
    def means(self) -> Mapping[str, tuple[float, int]]:
        """The mean over splits and their number, by model."""
        return self.tables.means.get((self.task, self.dataset, self.variant), {})

    @cached_property
    def splits(self) -> list[str]:
        """The splits to which the variant applies: some model has a value there, or failed to get one."""
        return [split for split in self.all_splits if self._applies(split)]

    def _applies(self, split: str) -> bool:
        models = self.tables.models
        return any((m, split) in self.values or self.why(m, split).status == "failed" for m in models)

    def why(self, model: str, split: str) -> Missing:
        """Return why a value is missing."""
        return self.tables.why(self.task, self.dataset, model, split, self.variant)

    def gap(self, model: str) -> Missing:
        """Return why a model lacks splits: a failure before all else."""
        lacking = [split for split in self.splits or self.all_splits if (model, split) not in self.values]
        found = [self.why(model, split) for split in lacking]
        return next((missing for missing in found if missing.status == "failed"), found[0])

    def without(self) -> Missing | None:
        """Return which splits the means of all models are without, and why."""
        lacking = [split for split in self.all_splits if split not in self.splits]
        if not lacking or not self.splits:
            return None
        reason = self.why(next(iter(self.means or self.tables.models)), lacking[0]).reason
        return Missing("ok", f"without {', '.join(map(readable, lacking))}: {reason}")

    @cached_property
    def _n_conditions(self) -> Mapping[str, int]:
        found = self.tables.single_conditions.get((self.task, self.dataset, self.variant), {})
        return Counter(model for model, _ in found)

    def covers(self, model: str) -> bool:
        """Return whether a model's means are over all that any model has: every split, and in a screen every condition."""
        conditions = self._n_conditions
        every_split = self.means[model][1] == len(self.splits)
        return every_split and conditions.get(model, 0) == max(conditions.values(), default=0)

    def interval(self, model: str) -> Interval | None:
        """Return the interval of a model's mean over splits, None where there is none."""
        return self.tables.mean_intervals.get((self.task, self.dataset, self.variant), {}).get(model)

    @property
    def drawn(self) -> list[str]:
        """What was drawn for the intervals of the means, each once."""
        found = self.tables.mean_intervals.get((self.task, self.dataset, self.variant), {})
        return list(dict.fromkeys(interval.resampled for interval in found.values()))

    @property
    def all_splits(self) -> list[str]:
        """The splits that the task scores, or the one set that the variant is of."""
        return [self.variant.set] if self.variant.set else self.tables.splits(self.task, self.dataset)

    def remark(self, model: str, splits: Sequence[str]) -> Missing | None:
        """Return what the score files say of a model's values on `splits`, where they say the same of all."""
        said = {self.tables.remarks.get((self.task, self.dataset, model, split, self.variant), "") for split in splits}
        text = said.pop() if len(said) == 1 else ""
        return Missing("ok", text) if text else None

    @cached_property
    def _spread(self) -> Result:
        return replace(self, variant=replace(self.variant, metric=f"{self.variant.metric}_sd"))

    @property
    def spread_title(self) -> str:
        """What the standard deviation beside the values is of, "" where there is none."""
        return self._spread.metric.title if self._spread.values else ""

    def spread(self, model: str, split: str) -> str:
        """Return "±" and the standard deviation that the score file gives beside a value."""
        value = self._spread.values.get((model, split))
        return "" if value is None else f"±{number(value, self.metric)}"
