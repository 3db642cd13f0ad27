"""What the overview answers with: of each task and dataset a picture of all models, a sentence, and what it leaves open."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cellgauge.report.charts import Dot, dot_plot
from cellgauge.results.columns import headlines
from cellgauge.results.compare import Result
from cellgauge.results.entries import Task
from cellgauge.results.numbers import number
from cellgauge.results.read import Tables
from cellgauge.results.scales import Scale
from cellgauge.results.verdicts import verdict, warnings

if TYPE_CHECKING:
    from markupsafe import Markup

SEEN = {"known": "seen in training", "likely": "likely seen in training"}


def answers(tables: Tables, dataset: str, profile: str) -> Iterator[dict[str, Any]]:
    """Yield an answer for each task that has values on a dataset, of each set of splits where the task spans splits.

    It is the `verdict`, a `picture`, `warnings` on controls, and `units`, what the intervals are over.
    """
    for task in tables.tasks.values():
        for result in headlines(tables, task, dataset, profile):
            answer = verdict(result, task)
            if answer:
                on_controls = [one.sentence for one in warnings(result) if one.control != answer.beaten_by]
                about = {"picture": _picture(result, task), "warnings": on_controls, "units": result.units}
                yield {"verdict": answer, **about}


def _picture(result: Result, task: Task) -> Markup:
    models, metric = result.tables.models, result.metric
    rising = metric.higher_is_better is not False
    dots = [*(_dot(result, name, mean) for name, (mean, _) in result.means.items()), *_published(result)]
    dots.sort(
        key=lambda dot: (dot.kind == "control", not dot.full and bool(dot.name), -dot.value if rising else dot.value)
    )
    scale = Scale.of_most([dot.value for dot in dots], metric)
    best = next((mean for name, mean in result.ranked.items() if models[name].kind == "baseline"), None)
    alt = f"{task.title}, {metric.title}, the best first: {', '.join(f'{dot.title} {dot.text}' for dot in dots)}"
    return dot_plot(dots, scale, result.bounds, best, alt=alt)


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
    rows = result.tables.published.get("published")
    if rows is None or not len(rows):
        return
    about = {**vars(result.variant), "task": result.task, "dataset": result.dataset, "status": "ok", "condition": ""}
    for column, value in about.items():
        rows = rows[rows[column] == value] if column != "set" else rows
    splits = [result.variant.set] if result.variant.set else result.splits
    for (model, _), of_model in rows[rows["split"].isin(splits)].groupby(["model", "source"], sort=False):
        if set(of_model["split"]) == set(splits) and len(of_model) == len(splits):
            entry, mean = result.tables.models.get(model), float(of_model["value"].mean())
            title, kind = (entry.title, entry.kind) if entry else (model, "foundation")
            text = number(mean, result.metric)
            remark = "not run here"
            yield Dot("", f"{title}, published", kind, mean, text, result.scaled(mean), remark=remark, full=False)
