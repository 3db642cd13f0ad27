"""The manifest of a run: which files the tables are made of, and what they say of models, data and tasks."""

from collections.abc import Mapping
from typing import Any

from cellgauge.plan.grid import Grid, spans
from cellgauge.tasks.traits import task_traits

_KEYS = (
    "title also_known_as description kind licence citation url card training parameters leakage organisms modality scope"
    " adapter headline metrics"
)
ABOUT = tuple(_KEYS.split())
"""What the tables and the report say of an entry of the catalogue."""
NOT_ABOUT_PUBLISHED = ("models", "datasets", "left_out", "values")


def catalogue(grid: Grid) -> dict[str, Any]:
    """Return what the tables and the report say of models, datasets and tasks, and what does not apply."""
    run = grid.run
    return {
        "models": {model: _about_model(grid, model) for model in run.models},
        "datasets": {dataset: _about_dataset(grid, dataset) for dataset in run.datasets},
        "tasks": {task: _about({**run.task(task), **vars(task_traits(task))}) for task in run.tasks},
        "skipped": [list(vars(skipped).values()) for skipped in grid.skipped],
        "published": {source: _about_published(grid, source) for source in run.published},
    }


def _about(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in ABOUT if key in entry}


def _about_model(grid: Grid, model: str) -> dict[str, Any]:
    run = grid.run
    traits = run.traits(model)
    facts = {
        "files": files_of(grid, model),
        "uninformed": traits.uninformed,
        "fitted_on_split": traits.fitted_on_split,
        "czbenchmarks": traits.czbenchmarks,
    }
    return _about(run.model(model)) | {key: value for key, value in facts.items() if value}


def files_of(grid: Grid, model: str) -> list[str]:
    """Return the URLs of the checkpoint of a model, and of its embeddings, each once."""
    run = grid.run
    parts = ((model, dataset, split) for dataset, splits in run.datasets.items() for split in splits)
    taken = (part for part in parts if not grid.why_not_split(*part))
    return list(dict.fromkeys(url for part in taken for url in run.urls_of_model(*part)))


def _about_dataset(grid: Grid, dataset: str) -> dict[str, Any]:
    run = grid.run
    entry, text = run.dataset(dataset), _about(run.dataset(dataset))
    title = str(entry.get("title") or dataset)
    if "planted" in entry and "semi-synthetic" not in title.lower():  # it says so wherever it is shown
        text["title"] = f"{title} (semi-synthetic)"
    text["splits"] = {split: run.source(dataset, split).organism for split in run.datasets[dataset]}
    text |= run.size(dataset)
    parts = (part for part in (*grid.cells, *grid.skipped) if part.dataset == dataset and spans(part.task))
    sets = {part.split: run.splits_of(dataset, part.split) for part in parts}
    return text | ({"sets": sets} if sets else {})


def _about_published(grid: Grid, source: str) -> dict[str, Any]:
    """Return what the tables and the report say of a source, and of the models, data and tasks that it may name."""
    entries, entry = grid.run.entries, grid.run.entries["published"][source]
    named = entry.get("models")
    models = entries["models"] if named is None else {name: entries["models"][name] for name in named.values()}
    kinds = {"models": models, "datasets": entries["datasets"], "tasks": entries["tasks"]}
    return {key: value for key, value in entry.items() if key not in NOT_ABOUT_PUBLISHED} | {
        kind: {name: _about(each) for name, each in entries.items()} for kind, entries in kinds.items()
    }
