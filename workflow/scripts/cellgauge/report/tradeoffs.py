"""What quality costs: a model's mean score on a dataset against the cells that it embeds per second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cellgauge.report.charts import scatter
from cellgauge.results.columns import headlines
from cellgauge.results.compare import Result
from cellgauge.results.numbers import DASH, mebibytes, number, seconds
from cellgauge.results.read import Tables

if TYPE_CHECKING:
    import pandas as pd

FASTER = 1.2
"""Wall time of a job varies by about as much with what else the machine does."""
DEVICES = {"cpu": "CPU", "cuda": "GPU", "mps": "GPU (Metal)"}


def bargains(tables: Tables) -> Iterator[dict[str, Any]]:
    """Yield one table per dataset of which embeddings were timed; what was embedded elsewhere has no speed.

    It has the `dataset`, `scores` (task and metric of each), `rows` (a model's costs and scores as text), and `pictures`, pairs
    of a caption and a picture.
    """
    timed = tables.runtime[tables.runtime["stage"].isin(["embed", "predict"])].dropna(subset=["seconds"])
    for name, dataset in tables.datasets.items():
        jobs = dict(list(timed[timed["dataset"] == name].groupby("model", sort=False)))
        n_cells = {m: n for m, n in _cells(tables, name).items() if m in jobs and not tables.models[m].is_precomputed}
        speed = {m: n / max(float(jobs[m]["seconds"].sum()), 0.01) for m, n in n_cells.items() if n > 0}
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
            filled = {list(means).index(model) for model in front}
            pictures.append((title, scatter(points, filled, result.metric.title, alt=alt)))
        rows = [
            {
                "model": entry,
                "speed": f"{speed[entry.name]:,.0f}" if speed[entry.name] >= 10 else f"{speed[entry.name]:.2g}",
                "seconds": seconds(jobs[entry.name]["seconds"].sum()),
                "memory": mebibytes(or_none(jobs[entry.name]["max_rss_mb"].max())),
                "devices": devices(jobs[entry.name]) or DASH,
                "gpu_memory": mebibytes(or_none(jobs[entry.name]["max_gpu_mb"].max())),
                "scores": [_mean(result, entry.name) for result in results],
            }
            for entry in models
        ]
        scores = [(tables.tasks[result.task].title, result.metric) for result in results]
        yield {"dataset": dataset, "scores": scores, "rows": rows, "pictures": pictures}


def _mean(result: Result, model: str) -> str:
    if model not in result.means:
        return DASH
    short = result.shortfall(model)
    return number(result.means[model][0], result.metric) + (f" ({short})" if short else "")


def or_none(value: float) -> float | None:
    """Return a sum or a peak over jobs, None for the NaN of what was not measured."""
    return float(value) if value == value else None


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
    rows = tables.best[(tables.best["dataset"] == dataset) & (tables.best["set"] == "")]
    n_cells = rows[rows["metric"] == "n_cells"].groupby(["model", "split"])["value"].max()
    return n_cells.groupby("model").sum().to_dict()
