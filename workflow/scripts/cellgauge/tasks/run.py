"""From files to score rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from cellgauge import tasks
from cellgauge.core.errors import CellgaugeError, ContractError, did_you_mean
from cellgauge.core.plugins import check_name
from cellgauge.data.sets import name_of
from cellgauge.files.embedding import Embedding
from cellgauge.files.neighbors import Neighbors, write_neighbors
from cellgauge.files.score import Score
from cellgauge.files.split import Split
from cellgauge.metrics.scoring_device import scoring_device
from cellgauge.tasks.cells import CellsToScore, NotScorable, gather
from cellgauge.tasks.traits import PROFILES, task_traits


def load_task(name: str) -> ModuleType:
    """Return the module of a task; raise CellgaugeError naming the tasks there are."""
    check_name(tasks, name, "task")
    return import_module(f"{tasks.__name__}.{name}.scores")


def score_files(
    task_name: str,
    embedding_paths: Sequence[str | Path],
    split_paths: Sequence[str | Path],
    *,
    profiles: Sequence[str] = PROFILES,
    seed: int = 42,
    device: str = "cpu",
    neighbors: str | Path | None = None,
    split_set: str = "",
    **params: Any,
) -> Iterator[Score]:
    """Score one model's embeddings on one task; the rows carry task, model, dataset and split.

    What cannot be scored for a reason that lies in the data is one row per profile with status `not_applicable`.

    Args:
        neighbors: what `keep_neighbors` wrote of the same files and parameters; None searches again.
        device: "cpu", "cuda" or "auto", see `metrics.scoring_device`; ignored for predicted responses.
        split_set: the name of the set that several splits make; by default one made of theirs.

    Raises:
        CellgaugeError: an unknown task, profile or parameter; files that do not belong together.
    """
    about = task_traits(task_name)
    if unknown := set(profiles) - set(PROFILES):
        raise CellgaugeError(f"unknown profile '{min(unknown)}'; there are {', '.join(PROFILES)}")
    _check_params(task_name, about.params, params)
    task = load_task(task_name)
    if about.modality == "perturbation":
        yield from _score_responses(task, task_name, embedding_paths, split_paths, profiles, seed, params)
        return
    splits = [Split.open(path) for path in split_paths]
    embeddings = [Embedding.read(path) for path in embedding_paths]
    identity = _identity(task_name, embeddings, splits, split_set)
    try:
        of_task = [profile for profile in profiles if profile in about.profiles]
        if not of_task:
            known = ", ".join(about.profiles)
            raise NotScorable(f"task {task_name} is scored in profile {known} alone, the run asks for others")
        searched = Neighbors.read(neighbors, identity, _ids(splits)) if neighbors else None
        cells = gather(embeddings, splits, about.needs, searched, with_matrix=not (searched and searched.arrays))
        cells = replace(cells, device=scoring_device(device, cells.n_cells))
        scores = [*_counts(cells, of_task), *task.score(cells, profiles=of_task, seed=seed, **params)]
    except NotScorable as reason:
        scores = _not_scorable(profiles, reason)
    yield from (replace(score, **identity) for score in scores)


def _not_scorable(profiles: Sequence[str], reason: NotScorable) -> list[Score]:
    return [Score(profile=profile, status="not_applicable", reason=str(reason)) for profile in profiles]


def keep_neighbors(
    task_name: str,
    embedding_paths: Sequence[str | Path],
    split_paths: Sequence[str | Path],
    output: str | Path,
    *,
    seed: int = 42,
    device: str = "cpu",
    split_set: str = "",
    **params: Any,
) -> None:
    """Find what a task asks of the distances between one model's cells, and write it (`contracts.Neighbors`).

    Where the cells cannot be scored the file holds nothing: scoring them says why.

    Args:
        output: an npz file.
        split_set: as for `score_files`.
        params: those of the task that its search takes, by default the task's defaults.

    Raises:
        CellgaugeError: a task that keeps no neighbors, an unknown parameter; files that do not belong together.
    """
    about = task_traits(task_name)
    if about.searched is None:
        raise CellgaugeError(f"task {task_name} keeps no neighbors: it has no neighbors.py")
    search = import_module(f"{tasks.__name__}.{task_name}.neighbors")
    defaults = {name: {"profiles": PROFILES, **about.params}[name] for name in about.searched}
    _check_params(f"the search of {task_name}", defaults, params)
    splits = [Split.open(path) for path in split_paths]
    embeddings = [Embedding.read(path) for path in embedding_paths]
    cells_of_splits = _ids(splits)
    arrays, embedded = {}, np.zeros(len(cells_of_splits), dtype=bool)
    try:
        cells = gather(embeddings, splits, about.needs)
        cells = replace(cells, device=scoring_device(device, cells.n_cells))
        arrays, embedded = search.find(cells, seed=seed, **defaults | params), cells.embedded
    except NotScorable:
        pass
    write_neighbors(output, arrays, embedded, _identity(task_name, embeddings, splits, split_set), cells_of_splits)


def _ids(splits: Sequence[Split]) -> np.ndarray:
    return np.concatenate([split.cells for split in splits])


def _score_responses(
    task: ModuleType,
    task_name: str,
    prediction_paths: Sequence[str | Path],
    truth_paths: Sequence[str | Path],
    profiles: Sequence[str],
    seed: int,
    params: Mapping[str, Any],
) -> Iterator[Score]:
    """Yield the rows of a model's predicted responses: one prediction file, and the truth or the split that it is of."""
    if len(prediction_paths) != 1 or len(truth_paths) != 1:
        raise CellgaugeError(
            f"task {task_name} takes one prediction and one truth, not {len(prediction_paths)} and {len(truth_paths)}"
        )
    responses = task.open_responses(prediction_paths[0], truth_paths[0])
    identity = {"task": task_name, **task.identity(prediction_paths[0], responses)}
    try:
        scores = list(task.score(responses, profiles=profiles, seed=seed, **params))
    except NotScorable as reason:
        scores = _not_scorable(profiles, reason)
    yield from (replace(score, **identity) for score in scores)


def _check_params(where: str, known: Iterable[str], params: Iterable[str]) -> None:
    for name in params:
        if name not in known:
            raise CellgaugeError(f"{where}: unknown parameter '{name}'{did_you_mean(name, known)}")


def _identity(
    task_name: str, embeddings: Sequence[Embedding], splits: Sequence[Split], split_set: str
) -> dict[str, str]:
    models = {str(e.uns.get("model", "")) for e in embeddings}
    datasets = {split.dataset for split in splits}
    if len(models) != 1 or len(datasets) != 1:
        raise ContractError(
            f"one job scores one model on one dataset, not models {sorted(models)} on datasets {sorted(datasets)}"
        )
    (model,), (dataset,) = models, datasets
    split = splits[0].name if len(splits) == 1 else split_set or name_of(split.name for split in splits)
    return {"task": task_name, "model": model, "dataset": dataset, "split": split}


def _counts(cells: CellsToScore, profiles: Sequence[str]) -> Iterator[Score]:
    for profile in profiles:
        yield Score("n_cells", float(cells.n_cells), profile)
        yield Score("n_unembedded", float(cells.n_unembedded), profile)
    if "corrected" in profiles:
        yield from _cells_by_label(cells)
        for name, metric in (("donor", "n_donors"), ("batch", "n_batches")):
            known = np.unique(cells.obs[name]) if name in cells.obs else np.array([], dtype=object)
            if (known != "").any():
                yield Score(metric, float((known != "").sum()), "corrected")


def _cells_by_label(cells: CellsToScore) -> Iterator[Score]:
    """Yield how many of the cells carry each label, by species where there are several."""
    if "label" not in cells.obs:
        return
    labels, species = cells.obs["label"], cells.obs.get("organism", np.array([]))
    several = len(np.unique(species)) > 1
    for name in np.unique(species) if several else [""]:
        for label, n in zip(
            *np.unique(labels[species == name] if several else labels, return_counts=True), strict=True
        ):
            yield Score("n_cells", float(n), "corrected", subset=str(name), condition=str(label))
