"""What quality costs: a model's mean score on a dataset against the cells that it embeds per second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellgauge.report.charts import scatter
from cellgauge.results.compare import Result
from cellgauge.results.entries import Entry, Metric, Variant
from cellgauge.results.numbers import DASH, mebibytes, number, seconds
from cellgauge.results.read import Tables
from cellgauge.results.words import usual

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup

DEVICES = {"cpu": "CPU", "cuda": "GPU", "mps": "GPU (Metal)"}


@dataclass(frozen=True)
class Bargain:
    """One model: the number of its dot, its costs and its scores as text."""

    place: int
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
    """Yield one table per dataset of which embeddings were timed."""
    timed = tables.runtime[tables.runtime["stage"].isin(["embed", "predict"])].dropna(subset=["seconds"])
    for name, dataset in tables.datasets.items():
        rows = timed[timed["dataset"] == name].groupby("model", sort=False)
        cost = {
            model: (float(own["seconds"].sum()), peak(own["max_rss_mb"]), devices(own), peak(own["max_gpu_mb"]))
            for model, own in rows
        }
        speed = {m: n / max(cost[m][0], 0.01) for m, n in _cells(tables, name).items() if m in cost and n > 0}
        results = list(_scores(tables, name))
        models = [entry for key, entry in tables.models.items() if key in speed]
        if len(models) < 2 or not results:
            continue
        place = {entry.name: n for n, entry in enumerate(models, 1)}
        pictures = []
        for result in results:
            means = {model: mean for model, (mean, _) in result.means.items() if model in speed}
            if not means:
                continue
            points = [(place[m], speed[m], mean) for m, mean in means.items()]
            title = f"{result.metric.title} ({tables.tasks[result.task].title})"
            rising = result.metric.higher_is_better is not False
            whole = {m: mean for m, mean in means.items() if result.covers(m) and tables.models[m].kind != "control"}
            front = frontier({m: (speed[m], mean) for m, mean in whole.items()}, rising)
            said = f"{title} against cells per second of {len(points)} models"
            if front:
                said += f"; none is both better and faster than: {', '.join(tables.models[m].title for m in front)}"
            pictures.append((title, scatter(points, {place[m] for m in front}, result.metric.title, said=said)))
        bargain = [
            Bargain(
                place[entry.name],
                entry,
                f"{speed[entry.name]:,.0f}" if speed[entry.name] >= 10 else f"{speed[entry.name]:.2g}",
                seconds(cost[entry.name][0]),
                mebibytes(cost[entry.name][1]),
                cost[entry.name][2] or DASH,
                mebibytes(cost[entry.name][3]),
                [number(r.means[entry.name][0], r.metric) if entry.name in r.means else DASH for r in results],
            )
            for entry in models
        ]
        yield Bargains(dataset, [(tables.tasks[r.task].title, r.metric) for r in results], bargain, pictures)


def peak(memory: pd.Series) -> float | None:
    """Return the highest peak of several jobs, None where none was measured."""
    highest = memory.max()
    return float(highest) if highest == highest else None


def devices(jobs: pd.DataFrame) -> str:
    """Return what the jobs computed on, "" where it is not known."""
    return ", ".join(DEVICES.get(name, name) for name in dict.fromkeys(jobs["device"]) if name)


def frontier(points: Mapping[str, tuple[float, float]], rising: bool) -> list[str]:
    """Return the models that no other one beats in both speed and score, the fastest first."""
    good = {model: y if rising else -y for model, (_, y) in points.items()}
    best: list[str] = []
    for model in sorted(points, key=lambda m: (-points[m][0], -good[m])):
        if not best or good[model] > good[best[-1]]:
            best.append(model)
    return best


def _scores(tables: Tables, dataset: str) -> Iterator[Result]:
    """Yield the first score of each task, of the profile that stands at the front."""
    for task in tables.tasks.values():
        variants = [v for v in tables.variants(task.name, dataset) if tables.metric(task.name, v.metric).is_score]
        chosen = [v for v in variants if v.profile == tables.profiles[0]] or variants
        if chosen:
            first: Variant = usual([v for v in chosen if v.metric == chosen[0].metric])
            yield Result(tables, task.name, dataset, first)


def _cells(tables: Tables, dataset: str) -> dict[str, float]:
    """Return how many cells each model was given, over the splits of a dataset."""
    found: dict[tuple[str, str], float] = {}
    for (_, own, variant), values in tables.values.items():
        if own == dataset and variant.metric == "n_cells" and not variant.set:
            for (model, split), n in values.items():
                found[model, split] = max(n, found.get((model, split), 0))
    cells: dict[str, float] = {}
    for (model, _), n in found.items():
        cells[model] = cells.get(model, 0) + n
    return cells
