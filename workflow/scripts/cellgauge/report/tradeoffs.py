"""What quality costs: a model's mean score on a dataset against the cells that it embeds per second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellgauge.report.charts import scatter
from cellgauge.results.columns import headlines
from cellgauge.results.compare import Result
from cellgauge.results.entries import Entry, Metric
from cellgauge.results.numbers import DASH, mebibytes, number, seconds
from cellgauge.results.read import Tables

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup

FASTER = 1.2
"""Wall time of a job varies by about as much with what else the machine does."""
DEVICES = {"cpu": "CPU", "cuda": "GPU", "mps": "GPU (Metal)"}


@dataclass(frozen=True)
class Bargain:
    """One model: its costs and its scores as text."""

    model: Entry
    speed: str
    seconds: str
    memory: str
    devices: str
    gpu_memory: str
    scores: Sequence[str]


@dataclass(frozen=True)
class Bargains:
    """The models of a dataset, with one score per task; `pictures` are (caption, picture)."""

    dataset: Entry
    scores: Sequence[tuple[str, Metric]]
    rows: Sequence[Bargain]
    pictures: Sequence[tuple[str, Markup]]


def bargains(tables: Tables) -> Iterator[Bargains]:
    """Yield one table per dataset of which embeddings were timed; what was embedded elsewhere has no speed."""
    timed = tables.runtime[tables.runtime["stage"].isin(["embed", "predict"])].dropna(subset=["seconds"])
    for name, dataset in tables.datasets.items():
        rows = timed[timed["dataset"] == name].groupby("model", sort=False)
        cost = {
            model: (float(jobs["seconds"].sum()), peak(jobs["max_rss_mb"]), devices(jobs), peak(jobs["max_gpu_mb"]))
            for model, jobs in rows
        }
        n_cells = {
            m: n for m, n in _cells(tables, name).items() if m in cost and n > 0 and not tables.models[m].is_precomputed
        }
        speed = {m: n / max(cost[m][0], 0.01) for m, n in n_cells.items()}
        results = list(_scores(tables, name))
        models = [entry for key, entry in tables.models.items() if key in speed]
        if len(models) < 2 or not results:
            continue
        pictures = []
        for result in results:
            means = {model: mean for model, (mean, _) in result.means.items() if model in speed}
            if all(tables.models[model].is_control for model in means):
                continue
            points = [(tables.models[m].title, tables.models[m].kind, speed[m], mean) for m, mean in means.items()]
            title = f"{result.metric.title} ({tables.tasks[result.task].title})"
            front = frontier(result, {model: speed[model] for model in result.contest if model in speed})
            alt = f"{title} against cells per second of {len(points)} models"
            if front:
                alt += f"; none is both better and faster than: {', '.join(tables.models[m].title for m in front)}"
            pictures.append(
                (title, scatter(points, {list(means).index(m) for m in front}, result.metric.title, alt=alt))
            )
        bargain = [
            Bargain(
                entry,
                f"{speed[entry.name]:,.0f}" if speed[entry.name] >= 10 else f"{speed[entry.name]:.2g}",
                seconds(cost[entry.name][0]),
                mebibytes(cost[entry.name][1]),
                cost[entry.name][2] or DASH,
                mebibytes(cost[entry.name][3]),
                [_mean(r, entry.name) for r in results],
            )
            for entry in models
        ]
        yield Bargains(dataset, [(tables.tasks[r.task].title, r.metric) for r in results], bargain, pictures)


def _mean(result: Result, model: str) -> str:
    if model not in result.means:
        return DASH
    short = result.shortfall(model)
    return number(result.means[model][0], result.metric) + (f" ({short})" if short else "")


def peak(memory: pd.Series) -> float | None:
    """Return the highest peak of several jobs, None where none was measured."""
    highest = memory.max()
    return float(highest) if highest == highest else None


def devices(jobs: pd.DataFrame) -> str:
    """Return what the jobs computed on, "" where it is not known."""
    return ", ".join(DEVICES.get(name, name) for name in dict.fromkeys(jobs["device"]) if name)


def frontier(result: Result, speed: Mapping[str, float]) -> list[str]:
    """Return the models that no other one beats beyond noise, the fastest first.

    One beats another where it is ahead by a test and not slower, or faster and not behind by a test.
    Within FASTER speeds are alike.

    Args:
        speed: cells per second of the models that are ranked.
    """

    def beats(one: str, other: str) -> bool:
        better = result.ahead(one, other) == one
        faster = speed[one] > FASTER * speed[other]
        return (better and speed[other] <= FASTER * speed[one]) or (faster and result.ahead(one, other) != other)

    front = [model for model in speed if not any(beats(other, model) for other in speed if other != model)]
    return sorted(front, key=lambda model: -speed[model])


def _scores(tables: Tables, dataset: str) -> Iterator[Result]:
    """Yield the headline scores of each task, of the profile that stands at the front, else of another one."""
    for task in tables.tasks.values():
        of_profiles = (headlines(tables, task, dataset, profile) for profile in tables.profiles)
        yield from next(filter(None, of_profiles), ())


def _cells(tables: Tables, dataset: str) -> dict[str, float]:
    """Return how many cells each model was given, over the splits of a dataset."""
    counts: dict[tuple[str, str], float] = {}
    for (_, name, variant), values in tables.values.items():
        if name == dataset and variant.metric == "n_cells" and not variant.set:
            for (model, split), n in values.items():
                counts[model, split] = max(n, counts.get((model, split), 0))
    cells: dict[str, float] = {}
    for (model, _), n in counts.items():
        cells[model] = cells.get(model, 0) + n
    return cells
