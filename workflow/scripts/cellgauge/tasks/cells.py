"""The cells that a task scores: embeddings and labels put together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cellgauge.core.errors import CellgaugeError, ContractError
from cellgauge.files.embedding import Embedding, match_embeddings
from cellgauge.files.neighbors import Neighbors
from cellgauge.files.split import Split

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class NotScorable(CellgaugeError):
    """These cells cannot be scored on this task: a fact about the data, written as a row, not a crash."""


@dataclass(frozen=True)
class CellsToScore:
    """Embedded cells with what is known of them; cells that the model could not embed are left out.

    Attributes:
        matrix: the embedding, float32, finite, shape (n_cells, n_dims); None where kept neighbors suffice.
        obs: columns of str, shape (n_cells,): "label", "split", "organism", and where known "batch" and "donor".
        n_unembedded: how many cells were left out.
        splits, kept: the split files and the rows of their concatenation that are in `matrix`.
        uses_expression: the model is scored on the expression matrix itself (the reference's linear baseline).
        device: where matrix products are computed, as PyTorch names it; None is numpy, on the processor.
        neighbors: what the task's search returned for these cells, None where nothing is kept.
    """

    matrix: np.ndarray | None
    obs: Mapping[str, np.ndarray]
    n_unembedded: int = 0
    splits: Sequence[Split] = ()
    kept: np.ndarray | None = None
    uses_expression: bool = False
    device: str | None = None
    neighbors: Mapping[str, np.ndarray] | None = None

    @property
    def n_cells(self) -> int:
        """How many cells there are to score."""
        return len(next(iter(self.obs.values())))

    @cached_property
    def left_out(self) -> dict[str, np.ndarray]:
        """The columns of obs of the cells that the model could not embed; none where it embedded all."""
        if not self.n_unembedded:
            return {}
        columns = _columns(self.splits, ())
        return {name: np.concatenate(columns[name])[~self.kept] for name in columns}

    def expression(self) -> csr_matrix:
        """Return the raw counts of the cells, CSR float32, shape (n_cells, n_genes). Only for a single split."""
        (split,) = self.splits
        counts = split.counts()
        return counts if self.kept is None or self.kept.all() else counts[np.flatnonzero(self.kept)]


def gather(
    embeddings: Sequence[Embedding],
    splits: Sequence[Split],
    needs: Sequence[str],
    task_name: str,
    neighbors: Neighbors | None = None,
    *,
    with_matrix: bool = True,
) -> CellsToScore:
    """Put the rows of one or several splits together with their labels.

    Args:
        embeddings: one file per split, or one file that spans them.
        splits: the splits to be scored, in the order wanted.
        needs: columns of obs that every split must have.
        neighbors: those of these cells, where they are kept.
        with_matrix: whether the embedding itself is wanted; without, `neighbors` say which cells are embedded.

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
    embedded = neighbors.embedded if matrix is None else np.isfinite(matrix).all(axis=1)
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
