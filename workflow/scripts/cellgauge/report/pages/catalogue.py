"""What was run: the models, the data, the metrics, with their licences and sources."""

from __future__ import annotations

from collections.abc import Iterator

from cellgauge.report.pages import Page
from cellgauge.results.catalogue import is_beside
from cellgauge.results.entries import Metric
from cellgauge.results.read import Tables


def pages(tables: Tables) -> Iterator[Page]:
    """Yield the page of models, data and metrics."""
    metrics = [(task, list(_metrics(tables, task.name))) for task in tables.tasks.values()]
    scored_on: dict[str, dict[str, None]] = {name: {} for name in tables.models}
    for (_, dataset, _), values in tables.values.items():
        for model, _ in values:
            scored_on[model][dataset] = None
    context = {
        "metrics": [(task, of_task) for task, of_task in metrics if of_task],
        "scored_on": {model: [tables.datasets[name] for name in names] for model, names in scored_on.items()},
    }
    yield Page("catalogue", "Models and data", "catalogue.html", context, ("dataset", "task", "model", "search"))


def _metrics(tables: Tables, task: str) -> Iterator[Metric]:
    """Yield the scores before the counts, in the order of the score files, then what the catalogue has beside them.

    Scores without a donor are left out: intervals are made of them.
    """
    names = dict.fromkeys([*(v.metric for v in tables.variants(task)), *tables.tasks[task].metrics])
    names = [name for name in names if not is_beside(name) or name.endswith("_sd")]
    yield from sorted((tables.metric(task, name) for name in names), key=lambda metric: not metric.is_score)
