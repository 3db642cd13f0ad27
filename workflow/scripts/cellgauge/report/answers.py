"""What the overview answers with: of each task and dataset a picture of all models, a sentence, and what it leaves open."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cellgauge.report.charts import Dot, dot_plot
from cellgauge.report.published import published_means
from cellgauge.results import words
from cellgauge.results.columns import headlines
from cellgauge.results.compare import Result
from cellgauge.results.entries import Task
from cellgauge.results.numbers import number
from cellgauge.results.read import Tables
from cellgauge.results.scales import Scale
from cellgauge.results.verdicts import answer, standings, unbeaten, warnings

if TYPE_CHECKING:
    from markupsafe import Markup

SEEN = {"known": "seen in training", "likely": "likely seen in training"}


def answers(tables: Tables, dataset: str, profile: str) -> Iterator[dict[str, Any]]:
    """Yield an answer for each task that has values on a dataset, of each set of splits where the task spans splits.

    Each has `task` and `measure` (the score it is about), `answer` and `sentences` (which model is best, and how the others
    compare), `picture`, `warnings` (on controls), `units` (what the intervals are over) and `about` (what the page's filters
    read).
    """
    for task in tables.tasks.values():
        for result in headlines(tables, task, dataset, profile):
            if not result.means:
                continue
            metric, variant, noise = result.metric, result.variant, unbeaten(result)
            remarks = [
                words.subset_if_any(variant.subset),
                tables.datasets[dataset].described(variant.set) if variant.set else "",
                "" if metric.higher_is_better else "lower is better",
            ]
            yield {
                "about": {"task": task.name, "dataset": dataset, "profile": variant.profile},
                "task": task.title,
                "measure": ", ".join(filter(None, [metric.title, *remarks])),
                "units": result.units,
                "picture": _picture(result, task),
                "answer": answer(result),
                "sentences": standings(result),
                "warnings": [sentence for control, sentence in warnings(result) if control != noise],
            }


def _picture(result: Result, task: Task) -> Markup:
    metric = result.metric
    dots = [*(_dot(result, name, mean) for name, (mean, _) in result.means.items()), *_published(result)]
    dots.sort(
        key=lambda dot: (
            dot.kind == "control",
            not dot.full and bool(dot.name),
            -dot.value if metric.rises else dot.value,
        )
    )
    scale = Scale.of_most([dot.value for dot in dots], metric)
    alt = f"{task.title}, {metric.title}, best first: {', '.join(f'{dot.title} {dot.text}' for dot in dots)}"
    return dot_plot(dots, scale, result.bounds, result.ranked.get(result.best_baseline), alt=alt)


def _dot(result: Result, name: str, mean: float) -> Dot:
    entry, short, interval = result.tables.models[name], result.shortfall(name), result.interval(name)
    seen = SEEN.get(entry.leakage.get(result.dataset, {}).get("state", ""), "")
    return Dot(
        name,
        entry.title,
        entry.kind,
        mean,
        number(mean, result.metric),
        result.scaled(mean),
        (interval.low, interval.high) if interval else None,
        "; ".join(filter(None, (short, seen))),
        not short,
    )


def _published(result: Result) -> Iterator[Dot]:
    """Yield what others published of the same score over the very same splits."""
    for model, _, mean in published_means(result):
        text, place = number(mean, result.metric), result.scaled(mean)
        yield Dot("", model.title, model.kind, mean, text, place, remark="not run here", full=False)
