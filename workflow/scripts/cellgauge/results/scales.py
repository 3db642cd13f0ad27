"""From values to colors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import median

from cellgauge.results.colors import STEPS
from cellgauge.results.entries import Metric
from cellgauge.results.numbers import number

LEAST_SPAN = 0.1
"""The colors of a column span at least this part of the metric's range, so that tiny differences stay pale."""


@dataclass(frozen=True)
class Scale:
    """A linear scale from `low` to `high`; `rising` when the higher value is the better one.

    `beyond` says which ends, low and high, some values lie beyond.
    """

    low: float
    high: float
    rising: bool = True
    beyond: tuple[bool, bool] = (False, False)

    @classmethod
    def of(cls, values: Iterable[float], metric: Metric) -> Scale:
        """Return the scale from the lowest to the highest value, but over no less than LEAST_SPAN of the range."""
        values = list(values)
        low, high = min(values), max(values)
        if metric.low is not None and metric.high is not None:
            span = LEAST_SPAN * (metric.high - metric.low)
            if high - low < span:
                low = min(max((low + high - span) / 2, metric.low), metric.high - span)
                high = low + span
        return cls(low, high, metric.higher_is_better is not False)

    @classmethod
    def of_most(cls, values: Iterable[float], metric: Metric) -> Scale:
        """Return the scale of all values, of an open range without those that are ten times as far out as most."""
        values = sorted(values)
        finite = values
        if not metric.is_closed and len(values) > 3:
            middle = median(values)
            reach = 10 * max(median(abs(value - middle) for value in values), 1e-9)
            finite = [value for value in values if abs(value - middle) <= reach]
        scale = cls.of(finite, metric)
        return replace(scale, beyond=(values[0] < scale.low, values[-1] > scale.high))

    def part(self, value: float) -> float:
        """Return the place of a value between the worst end (0) and the best (1); the middle when all values are equal."""
        part = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return min(max(part if self.rising else 1 - part, 0.0), 1.0)

    def level(self, value: float) -> int:
        """Return the step of the colors, 0 for the worst end."""
        return round(self.part(value) * (STEPS - 1))

    def ends(self, metric: Metric) -> tuple[str, str]:
        """Return the worst and the best end as text, with a sign where values lie beyond."""
        low, high = number(self.low, metric), number(self.high, metric)
        low, high = (
            "\N{LESS-THAN OR EQUAL TO} " * self.beyond[0] + low,
            "\N{GREATER-THAN OR EQUAL TO} " * self.beyond[1] + high,
        )
        return (low, high) if self.rising else (high, low)
