"""What tasks share: the cells to be scored, the errors, and the way from files to rows.

A task is a module with

    SCOPE = "split"       # scored per split, or "dataset": over the splits of a set
    MODALITY = "expression"  # scores embedded cells (the default), or "perturbation": predicted responses
    NEEDS = ("label",)    # columns of obs that every split must have (default: none)
    PROFILES = ("corrected",)  # the profiles that it has rows in (default: both)

    def score(cells, *, profiles, seed, n_neighbors=15):
        '''Yield cellgauge.contracts.Score rows for `cells`, a CellsToScore.'''

Further keywords are the task's parameters: each has a default, which `params` of its entry in config/tasks.yaml override.
The workflow reads constants and defaults from the file without running it, so they are plain values (`cellgauge.task_traits`).

A task of modality "perturbation" is given what its own `open_responses` makes of the files. A task whose neighbours are
kept has a module of the same name in `cellgauge.neighbours`, which finds them. Where they are kept it is given nothing else of
the embedding: `cells.matrix` is None.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from cellgauge import neighbours as neighbour_searches
from cellgauge import tasks
from cellgauge.contracts import Embedding, Neighbours, Score, Split, match_embeddings, write_neighbours
from cellgauge.devices import scoring_device
from cellgauge.errors import CellgaugeError, ContractError, did_you_mean
from cellgauge.plugins import load_module
from cellgauge.sets import name_of
from cellgauge.task_traits import PROFILES, TaskTraits, task_traits

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class NotScorable(CellgaugeError):
    """These cells cannot be scored on this task: a fact about the data, written as a row, not a crash."""


@dataclass(frozen=True)
class CellsToScore:
    """Embedded cells with what is known of them; cells that the model could not embed are left out.

    Attributes:
        matrix: the embedding, float32, finite, shape (n_cells, n_dims); None where kept neighbours suffice.
        obs: columns of str, shape (n_cells,): "label", "split", "organism", and where known "batch" and "donor".
        n_unembedded: how many cells were left out.
        splits, kept: the split files and the rows of their concatenation that are in `matrix`.
        uses_expression: the model is scored on the expression matrix itself (the reference's linear baseline).
        device: where matrix products are computed, as PyTorch names it; None is numpy, on the processor.
        neighbours: what the task's search in `cellgauge.neighbours` found of these cells, None where nothing is kept.
    """

    matrix: np.ndarray | None
    obs: Mapping[str, np.ndarray]
    n_unembedded: int = 0
    splits: Sequence[Split] = ()
    kept: np.ndarray | None = None
    uses_expression: bool = False
    device: str | None = None
    neighbours: Mapping[str, np.ndarray] | None = None

    @property
    def n_cells(self) -> int:
        """How many cells there are to score."""
        return len(next(iter(self.obs.values())))

    def expression(self) -> csr_matrix:
        """Return the raw counts of the cells, CSR float32, shape (n_cells, n_genes). Only for a single split."""
        (split,) = self.splits
        counts = split.counts()
        return counts if self.kept is None or self.kept.all() else counts[np.flatnonzero(self.kept)]


def load_task(name: str) -> ModuleType:
    """Return the module of a task; raise CellgaugeError naming the tasks there are."""
    return load_module(tasks, name, "task")


def gather(
    embeddings: Sequence[Embedding],
    splits: Sequence[Split],
    needs: Sequence[str],
    task_name: str,
    neighbours: Neighbours | None = None,
    *,
    with_matrix: bool = True,
) -> CellsToScore:
    """Put the rows of one or several splits together with their labels.

    Args:
        embeddings: one file per split, or one file that spans them.
        splits: the splits to be scored, in the order wanted.
        needs: columns of obs that every split must have.
        neighbours: those of these cells, where they are kept.
        with_matrix: whether the embedding itself is wanted; without, `neighbours` say which cells are embedded.

    Raises:
        ContractError: an embedding is missing, or its cells are not the split's.
        NotScorable: the model cannot embed a split, the embeddings of several splits do not share one space, or a needed
            column is missing.
    """
    sources = match_embeddings(embeddings, splits)
    for split, embedding in zip(splits, sources, strict=True):
        if reason := embedding.uns.get("not_applicable"):
            raise NotScorable(f"{split.name}: {reason}" if len(splits) > 1 else str(reason))
    first = embeddings[0].uns
    if len(splits) > 1 and not all(bool(e.uns.get("shared_space", True)) for e in embeddings):
        raise NotScorable("each split was embedded in a space of its own: distances between splits mean nothing")
    dims = {embedding.shape[1] for embedding in sources}
    if len(dims) > 1:
        raise NotScorable(f"the splits' embeddings differ in dimensions ({', '.join(map(str, sorted(dims)))})")

    matrix = _rows(sources, splits) if with_matrix else None
    embedded = neighbours.embedded if matrix is None else np.isfinite(matrix).all(axis=1)
    if not embedded.any():
        raise NotScorable("the model embedded none of these cells")
    obs = {name: np.concatenate(values)[embedded] for name, values in _columns(splits, needs).items()}
    if "label" in obs and (obs["label"] == "").any():
        raise ContractError(f"{(obs['label'] == '').sum()} cells have no label; make the splits with split_dataset.py")
    return CellsToScore(
        matrix=matrix if matrix is None or embedded.all() else matrix[embedded],
        obs=obs,
        n_unembedded=int((~embedded).sum()),
        splits=tuple(splits),
        kept=embedded,
        uses_expression=task_name in json.loads(str(first.get("expression_tasks", "[]"))),
        neighbours=neighbours.arrays if neighbours and neighbours.embedded.any() else None,
    )


def _rows(embeddings: Sequence[Embedding], splits: Sequence[Split]) -> np.ndarray:
    """Return the rows of all splits one after the other; no file's matrix stays in memory beside the joined one."""
    if len(splits) == 1:
        return embeddings[0].rows_of(splits[0])
    ends = np.cumsum([len(split.cells) for split in splits])
    matrix = np.empty((ends[-1], embeddings[0].shape[1]), dtype=np.float32)
    for place, (embedding, split) in enumerate(zip(embeddings, splits, strict=True)):
        matrix[ends[place] - len(split.cells) : ends[place]] = embedding.rows_of(split)
        if all(other is not embedding for other in embeddings[place + 1 :]):
            embedding.forget()
    return matrix


def _columns(splits: Sequence[Split], needed: Sequence[str]) -> dict[str, list[np.ndarray]]:
    columns = {
        "split": [np.full(len(split.cells), split.name, dtype=object) for split in splits],
        "organism": [np.full(len(split.cells), split.organism, dtype=object) for split in splits],
    }
    for name in ("label", "batch", "donor"):
        if all(name in split.columns for split in splits):
            columns[name] = [split.column(name) for split in splits]
        elif name in needed:
            lacking = next(split for split in splits if name not in split.columns)
            raise NotScorable(f"split {lacking.name} of {lacking.dataset} has no column '{name}'")
    return columns


def score_files(
    task_name: str,
    embedding_paths: Sequence[str | Path],
    split_paths: Sequence[str | Path],
    *,
    profiles: Sequence[str] = PROFILES,
    seed: int = 42,
    device: str = "cpu",
    neighbours: str | Path | None = None,
    split_set: str = "",
    **params: Any,
) -> Iterator[Score]:
    """Score one model's embeddings on one task; the rows carry task, model, dataset and split.

    What cannot be scored for a reason that lies in the data is one row per profile with status `not_applicable`.

    Args:
        neighbours: what `keep_neighbours` wrote of the same files and parameters; None searches again.
        device: "cpu", "cuda" or "auto", see `devices.scoring_device`; of no account for predicted responses.
        split_set: the name of the set that several splits make; by default one made of theirs.

    Raises:
        CellgaugeError: an unknown task, profile or parameter; files that do not belong together.
    """
    about = task_traits(task_name)
    _check_profiles(profiles)
    _check_params(task_name, about.params, params)
    task = load_task(task_name)
    if about.modality == "perturbation":
        yield from _score_responses(task, task_name, embedding_paths, split_paths, profiles, seed, params)
        return
    splits = [Split.open(path) for path in split_paths]
    embeddings = [Embedding.read(path) for path in embedding_paths]
    identity = _identity(task_name, embeddings, splits, split_set)
    try:
        own = _own_profiles(about, task_name, profiles)
        kept = Neighbours.read(neighbours, identity, _ids(splits)) if neighbours else None
        cells = gather(embeddings, splits, about.needs, task_name, kept, with_matrix=not (kept and kept.arrays))
        cells = replace(cells, device=scoring_device(device, cells.n_cells))
        scores = [*_counts(cells, own), *task.score(cells, profiles=own, seed=seed, **params)]
    except NotScorable as reason:
        scores = [Score(profile=profile, status="not_applicable", reason=str(reason)) for profile in profiles]
    for score in scores:
        yield replace(score, **identity)


def keep_neighbours(
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
    """Find what a task asks of the distances between one model's cells, and write it (`contracts.Neighbours`).

    Where the cells cannot be scored the file holds nothing: scoring them says why.

    Args:
        output: an npz file.
        split_set: as for `score_files`.
        params: those of the task that the search in `cellgauge.neighbours` takes, by default the task's defaults.

    Raises:
        CellgaugeError: a task that keeps no neighbours, an unknown parameter; files that do not belong together.
    """
    search = load_module(neighbour_searches, task_name, "task that keeps neighbours")
    about = task_traits(task_name)
    given = {"profiles": PROFILES, **about.params}
    given = {name: given[name] for name in about.searched}
    _check_params(f"the search of {task_name}", given, params)
    splits = [Split.open(path) for path in split_paths]
    embeddings = [Embedding.read(path) for path in embedding_paths]
    cells_of_splits = _ids(splits)
    arrays, embedded = {}, np.zeros(len(cells_of_splits), dtype=bool)
    try:
        cells = gather(embeddings, splits, about.needs, task_name)
        arrays = search.find(replace(cells, device=scoring_device(device, cells.n_cells)), seed=seed, **given | params)
        embedded = cells.kept
    except NotScorable:
        pass
    write_neighbours(output, arrays, embedded, _identity(task_name, embeddings, splits, split_set), cells_of_splits)


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
    own = {"task": task_name, **task.identity(prediction_paths[0], responses)}
    try:
        scores = list(task.score(responses, profiles=profiles, seed=seed, **params))
    except NotScorable as reason:
        scores = [Score(profile=profile, status="not_applicable", reason=str(reason)) for profile in profiles]
    for score in scores:
        yield replace(score, **own)


def _own_profiles(about: TaskTraits, task_name: str, profiles: Sequence[str]) -> list[str]:
    """Return those of `profiles` that a task has rows in; raise NotScorable where there is none."""
    own = [profile for profile in profiles if profile in about.profiles]
    if not own:
        known = ", ".join(about.profiles)
        raise NotScorable(f"task {task_name} is scored in profile {known} alone, the run asks for others")
    return own


def _check_profiles(profiles: Sequence[str]) -> None:
    unknown = set(profiles) - set(PROFILES)
    if unknown:
        raise CellgaugeError(f"unknown profile '{min(unknown)}'; there are {', '.join(PROFILES)}")


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
        found, counts = np.unique(labels[species == name] if several else labels, return_counts=True)
        yield from (
            Score("n_cells", float(n), "corrected", subset=str(name), condition=str(label))
            for label, n in zip(found, counts, strict=True)
        )
