"""What the catalogue says of tasks and of their metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Tasks = Mapping[str, Mapping[str, Any]]
"""The entries of tasks, as in config/tasks.yaml."""


def metrics_of(tasks: Tasks) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield each metric of the catalogue's tasks: the task, the metric, and what is said of it."""
    for task, entry in tasks.items():
        yield from ((task, metric, facts) for metric, facts in entry.get("metrics", {}).items())


def directions(tasks: Tasks) -> dict[tuple[str, str], bool]:
    """Return whether higher is better, by task and metric, of each metric that is a score."""
    scores = ((task, name, facts.get("higher_is_better")) for task, name, facts in metrics_of(tasks))
    return {(task, name): rising for task, name, rising in scores if rising is not None and not is_beside(name)}


def species_pairs(tasks: Tasks) -> set[tuple[str, str]]:
    """Return the tasks and metrics whose conditions are ordered pairs of species."""
    return {(task, metric) for task, metric, facts in metrics_of(tasks) if facts.get("of_pairs") == "species"}


def screen_tasks(tasks: Tasks) -> set[str]:
    """Return the names of the catalogue's tasks that score predicted responses to perturbations."""
    return {name for name, entry in tasks.items() if entry.get("modality") == "perturbation"}


def is_beside(metric: str) -> bool:
    """Return whether a metric is the spread of another one, or the other one without a donor."""
    return metric.endswith(("_sd", "_without"))


def facts_beside(facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what the catalogue would say of the metrics beside one, its spread and itself without a donor, by their suffix.

    Args:
        facts: what is said of the metric itself, as in config/tasks.yaml: its title, its range where it has one.
    """
    return {
        "_without": {
            "title": f"{facts['title']} without a donor",
            "description": "The score over all donors except the one in `condition`.",
            "source": "this project; values of the jackknife (Tukey 1958) for the interval over donors",
            "higher_is_better": None,
            "range": facts.get("range", [None, None]),
        },
        "_sd": {
            "title": f"{facts['title']}, standard deviation over seeds",
            "description": "Variation by the random seed; smaller differences between models mean nothing.",
            "source": "sample standard deviation (n - 1) over the seeds",
            "higher_is_better": False,
            "range": [0, None],
        },
    }
