"""The cells that a task scores: embeddings and labels put together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cellgauge.core.errors import CellgaugeError, ContractError
from cellgauge.files.embedding import Embedding, match_embeddings
from cellgauge.files.neighbors import Neighbors
from cellgauge.files.score import Score
from cellgauge.files.split import Split

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class NotScorable(CellgaugeError):
    """These cells cannot be scored on this task: a fact about the data, written as a row, not a crash."""


@dataclass(frozen=True)
class CellsToScore:
    """Embedded cells with what is known of them, and of the cells that the model could not embed."""

    # the embedding, float32, finite, shape (n_cells, n_dims); None where kept neighbors suffice
    matrix: np.ndarray | None
    # columns of str, shape (n_cells,): "label", "split", "organism", and where known "batch" and "donor"
    obs: Mapping[str, np.ndarray]
    # the same columns of the cells that the model could not embed; none where it embedded all
    left_out: Mapping[str, np.ndarray] = field(default_factory=dict)
    # splits, has_row: the split files, and which of all their cells have a row in `matrix`; None is all
    splits: Sequence[Split] = ()
    has_row: np.ndarray | None = None
    # reference_on_counts, common_units: what the model's adapter says of itself (`models.base`)
    reference_on_counts: bool = False
    common_units: bool = False
    # where matrix products are computed, as PyTorch names it; None is numpy, on the processor
    device: str | None = None
    # what the task's search returned for these cells, None where nothing is kept
    neighbors: Mapping[str, np.ndarray] | None = None

    @property
    def n_cells(self) -> int:
        """How many cells there are to score."""
        return len(next(iter(self.obs.values())))

    @property
    def n_unembedded(self) -> int:
        """How many cells the model could not embed."""
        return len(next(iter(self.left_out.values()), ()))

    @property
    def embedded(self) -> np.ndarray:
        """Whether each cell of the splits is embedded, in their order, bool, shape (n_cells + n_unembedded,)."""
        return np.full(self.n_cells, True) if self.has_row is None else self.has_row

    def of_all(self, name: str) -> np.ndarray:
        """Return a column of all cells of the splits, embedded or not, in their order."""
        if not self.n_unembedded:
            return self.obs[name]
        column = np.empty(len(self.embedded), dtype=object)
        column[self.embedded], column[~self.embedded] = self.obs[name], self.left_out[name]
        return column

    def expression(self) -> csr_matrix:
        """Return the raw counts of the cells, CSR float32, shape (n_cells, n_genes). Only for a single split."""
        (split,) = self.splits
        counts = split.counts()
        return counts if self.has_row is None or self.has_row.all() else counts[np.flatnonzero(self.has_row)]


def gather(
    embeddings: Sequence[Embedding],
    splits: Sequence[Split],
    needs: Sequence[str],
    neighbors: Neighbors | None = None,
    *,
    with_matrix: bool = True,
) -> CellsToScore:
    """Put the rows of one or several splits together with their labels.

    Args:
        embeddings: one file per split, or one file that spans them.
        splits: the splits to be scored, in this order.
        needs: columns of obs that every split must have.
        neighbors: those of these cells, where they are kept.
        with_matrix: whether to read the embedding itself; without, `neighbors` say which cells are embedded.

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
        raise NotScorable("each split was embedded separately: distances between splits mean nothing")
    dims = {embedding.shape[1] for embedding in sources}
    if len(dims) > 1:
        raise NotScorable(f"the splits' embeddings differ in dimensions ({', '.join(map(str, sorted(dims)))})")

    matrix = _rows(sources, splits) if with_matrix else None
    embedded = neighbors.embedded if matrix is None else np.isfinite(matrix).all(axis=1)
    if not embedded.any():
        raise NotScorable("the model embedded none of these cells")
    columns = {name: np.concatenate(values) for name, values in _columns(splits, needs).items()}
    if "label" in columns and (unlabeled := (columns["label"] == "").sum()):
        raise ContractError(f"{unlabeled} cells have no label; make the splits with split_dataset.py")
    return CellsToScore(
        matrix=matrix if matrix is None or embedded.all() else matrix[embedded],
        obs={name: column[embedded] for name, column in columns.items()},
        left_out={} if embedded.all() else {name: column[~embedded] for name, column in columns.items()},
        splits=tuple(splits),
        has_row=embedded,
        reference_on_counts=bool(first.get("reference_on_counts", False)),
        common_units=bool(first.get("common_units", False)),
        neighbors=neighbors.arrays if neighbors and neighbors.embedded.any() else None,
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


def check_names(task: str, kind: str, names: Iterable[str], known: Sequence[str]) -> None:
    """Raise CellgaugeError where a name that a task is given (of a metric, a classifier, ...) is not among those it knows."""
    if unknown := set(names) - set(known):
        raise CellgaugeError(f"{task}: unknown {kind} '{min(unknown)}'; there are {', '.join(known)}")


def joined(*notes: str) -> str:
    """Return the notes that are not empty as one reason."""
    return "; ".join(filter(None, notes))


def is_estimated(n_cells: int, profiles: Sequence[str], exact_up_to: int) -> bool:
    """Return whether scores of so many cells are estimated from a sample of `exact_up_to` of them (docs/adr/0043).

    Those of profile reference are exact at any size, and where they are asked for, so are those of corrected: they are at hand.
    """
    return n_cells > exact_up_to and "reference" not in profiles


def sampled_rows(n_cells: int, size: int, seed: int) -> np.ndarray:
    """Return `size` of so many rows, drawn without replacement, ascending, int64."""
    return np.sort(np.random.default_rng(seed).choice(n_cells, size, replace=False))


def without_donors(metric: str, values: Mapping[str, float], **where: str) -> Iterator[Score]:
    """Yield a score of profile corrected without each donor, of which the tables make intervals and tests.

    Args:
        values: the score of the cells of all other donors, by donor. There is nothing to compare below two.
        where: further fields of the score rows.
    """
    if len(values) > 1:
        for donor, value in values.items():
            yield Score(f"{metric}_without", value, "corrected", condition=donor, **where)
