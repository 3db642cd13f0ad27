"""Perturbation screens: how conditions are written, which are held out for testing, and what a predictor may see of them.

A condition names the genes that were perturbed, as GEARS and cz-benchmarks write them: "ctrl" is the control, "KLF1+ctrl" a
single gene, "KLF1+MAP2K6" a pair. The order means nothing: conditions match as sets of genes (`targets`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellgauge.core.errors import CellgaugeError, ContractError
from cellgauge.files.split import Split

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

CONTROL = "ctrl"
WITHHELD = "withheld"
"""What predictors see as the condition of the controls that are withheld from them."""
PARTITIONS = ("train", "val", "test")
STRATA = ("unseen_single", "seen_single", "combo_seen0", "combo_seen1", "combo_seen2")
"""Test conditions by how many of their genes are perturbed in some condition that is not held out."""


def targets(condition: str) -> frozenset[str]:
    """Return the perturbed genes of a condition; none for the control."""
    return frozenset(condition.split("+")) - {CONTROL}


def simulation_split(conditions: Sequence[str], *, seed: int = 1) -> tuple[dict[str, str], dict[str, str]]:
    """Hold conditions out as GEARS 0.0.2 does in its split "simulation": genes are drawn, and with them conditions.

    Three quarters of the perturbed genes are drawn as seen. Singles of the others, and pairs with at most one seen gene, are
    test conditions; of the pairs whose genes are both seen three quarters are for training. The same again within the
    training conditions, with 0.9 each, gives the validation conditions. The draws are numpy's legacy generator's, as there.

    Args:
        conditions: without the control; their order does not matter.

    Returns:
        Of each condition the partition ("train", "val" or "test"), and of each test condition its stratum (`STRATA`).

    Source: Roohani et al. (2024), Nature Biotechnology 42, 927-935; cell-gears 0.0.2, DataSplitter.get_simulation_split.
    """
    held_out = _simulate(conditions, seed, 0.75)
    rest = [condition for condition in conditions if condition not in held_out]
    validation = _simulate(rest, seed, 0.9)
    partition = {c: "test" if c in held_out else "val" if c in validation else "train" for c in conditions}
    return partition, held_out


def _simulate(conditions: Sequence[str], seed: int, share: float) -> dict[str, str]:
    """Return the held-out conditions with their strata; `share` is that of seen genes, and of pairs of them for training."""
    genes = np.unique([gene for condition in conditions for gene in targets(condition)])
    if not len(genes):
        return {}
    seen_genes = set(np.random.RandomState(seed).choice(genes, int(len(genes) * share), replace=False))
    seen = {condition: len(targets(condition) & seen_genes) for condition in conditions}
    held_out = {c: _stratum(c, n) for c, n in seen.items() if n == 0 or (n == 1 and len(targets(c)) > 1)}
    pairs = np.unique([c for c in conditions if c not in held_out and len(targets(c)) > 1])
    if len(pairs):
        training = np.random.RandomState(seed).choice(pairs, int(len(pairs) * share), replace=False)
        held_out |= {str(c): _stratum(str(c), seen[str(c)]) for c in np.setdiff1d(pairs, training)}
    return held_out


def _stratum(condition: str, n_seen: int) -> str:
    if len(targets(condition)) == 1:
        return "seen_single" if n_seen else "unseen_single"
    return f"combo_seen{n_seen}"


def strata(partition: Mapping[str, str]) -> dict[str, str]:
    """Return the stratum of each test condition, given only which conditions are held out.

    A gene counts as seen when a condition that is not held out perturbs it.
    """
    seen = {gene for condition, part in partition.items() if part != "test" for gene in targets(condition)}
    return {c: _stratum(c, len(targets(c) & seen)) for c, part in partition.items() if part == "test"}


@dataclass(frozen=True)
class Screen:
    """A screen in the split contract: counts, log-normalized expression, and of each cell its condition and partition.

    Attributes:
        split: the file.
        conditions: the condition of each cell, str, shape (n_cells,).
        partition: of each condition but the control "train", "val" or "test".
        strata: of each test condition its stratum (`STRATA`); conditions that no cell has are among them.
        semi_synthetic: effects were planted into real cells.
    """

    split: Split
    conditions: np.ndarray
    partition: Mapping[str, str]
    strata: Mapping[str, str]
    semi_synthetic: bool = False

    @classmethod
    def open(cls, path: str | Path) -> Screen:
        """Read what is known of the cells; raise ContractError when the file is no screen."""
        split = Split.open(path)
        facts = split.facts()
        if "strata" not in facts:
            raise ContractError(
                f"{path}: not a perturbation screen, uns lacks 'strata'; write it with split_dataset.py and"
                " `modality: perturbation`"
            )
        conditions = split.column("label")
        held_out = json.loads(str(facts["strata"]))
        names = dict.fromkeys(conditions[conditions != CONTROL]) | dict.fromkeys(held_out)
        validation = set(np.unique(conditions[split.column("partition") == "val"]))
        partition = {c: "test" if c in held_out else "val" if c in validation else "train" for c in names}
        return cls(split, conditions, partition, held_out, bool(facts.get("semi_synthetic", False)))

    @property
    def genes(self) -> np.ndarray:
        """Gene ids, str, shape (n_genes,)."""
        return self.split.genes

    @property
    def symbols(self) -> np.ndarray:
        """Gene symbols, str, shape (n_genes,)."""
        return self.split.symbols

    @property
    def where(self) -> str:
        """What errors call the screen."""
        return f"dataset {self.split.dataset}, split {self.split.name}"

    @cached_property
    def test_conditions(self) -> list[str]:
        """The conditions to be predicted, as the data write them, sorted."""
        return sorted(self.strata)

    @cached_property
    def training_conditions(self) -> list[str]:
        """The conditions (without the control) that may be learned from: train and val, sorted."""
        return sorted(condition for condition, part in self.partition.items() if part != "test")

    def rows_of(self, condition: str) -> np.ndarray:
        """Return the positions of a condition's cells, int, shape (n_cells_of_it,)."""
        return np.flatnonzero(self.conditions == condition)

    @cached_property
    def in_memory(self) -> csr_matrix:
        """The log-normalized expression of all cells, CSR float32, read once: for those who need many conditions' cells."""
        return self.split.expression()

    def expression(self, rows: np.ndarray | None = None) -> csr_matrix:
        """Return the log-normalized expression of all cells, or of `rows` in ascending order, CSR float32."""
        return self.split.expression(rows)

    def controls(self) -> csr_matrix:
        """Return the log-normalized expression of the control cells in their order, CSR float32, (n_controls, n_genes).

        Raises:
            CellgaugeError: the screen has no control cell.
        """
        rows = self.rows_of(CONTROL)
        if not len(rows):
            raise CellgaugeError(f"{self.where}: no cell is a control; name its condition with `control` in the entry")
        return self.expression(rows)

    def means(self, conditions: Sequence[str]) -> np.ndarray:
        """Return the mean log-normalized expression of each condition, float64, shape (n_conditions, n_genes).

        One pass over the file, a block of cells at a time. A condition without cells is a row of NaN.
        """
        from scipy.sparse import csr_matrix

        place = {condition: position for position, condition in enumerate(conditions)}
        code = np.asarray([place.get(condition, -1) for condition in self.conditions])
        sums = np.zeros((len(conditions), len(self.genes)))
        for start, block in self.split.expression_blocks():
            codes = code[start : start + block.shape[0]]
            rows = np.flatnonzero(codes >= 0)
            if len(rows):
                one = csr_matrix((np.ones(len(rows)), (codes[rows], rows)), (len(conditions), block.shape[0]))
                sums += (one @ block.astype(np.float64)).toarray()
        sizes = np.bincount(code[code >= 0], minlength=len(conditions))[:, None]
        return np.divide(sums, sizes, out=np.full_like(sums, np.nan), where=sizes > 0)

    @cached_property
    def column_of(self) -> Mapping[str, int]:
        """The column of every gene by its id and, where that is not taken, by its symbol."""
        by_symbol = {symbol: column for column, symbol in reversed(list(enumerate(self.symbols)))}
        return by_symbol | {gene: column for column, gene in enumerate(self.genes)}

    def columns_of_targets(self, condition: str) -> tuple[list[int], list[str]]:
        """Return the columns of a condition's perturbed genes, and the perturbed genes that the panel lacks."""
        genes = sorted(targets(condition))
        return [self.column_of[g] for g in genes if g in self.column_of], [g for g in genes if g not in self.column_of]

    def halves(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Divide cells (ascending positions) in two at random, each cell by its own id.

        A cell is in the same half whatever other cells there are and in whatever order; the halves differ a little in size.
        """
        second = in_second_half(self.split.cells[rows])
        return rows[~second], rows[second]

    def divided_controls(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions of the controls that predictors see, and of those that are withheld from them.

        Raises:
            CellgaugeError: either half would be empty.
        """
        rows = self.rows_of(CONTROL)
        seen, withheld = self.halves(rows)
        if not len(seen) or not len(withheld):
            raise CellgaugeError(
                f"{self.where}: {len(rows)} control cells cannot be divided into those that predictors see and those that"
                " responses are measured against; name all controls with `control` in the dataset's entry"
            )
        return seen, withheld

    def without_withheld(self) -> Screen:
        """Return the screen as predictors see it: the condition of the controls that are withheld is `WITHHELD`."""
        conditions = self.conditions.astype(object)
        conditions[self.divided_controls()[1]] = WITHHELD
        return replace(self, conditions=conditions)

    def shuffled(self, rows: np.ndarray) -> np.ndarray:
        """Return positions of cells in a random order that depends on the cells' ids alone."""
        return rows[np.argsort(_hashes(self.split.cells[rows]) >> np.uint64(1), kind="stable")]


def mean_of(cells: np.ndarray | csr_matrix) -> np.ndarray:
    """Return the mean expression of cells, dense or CSR, shape (n_cells, n_genes): float64, shape (n_genes,)."""
    return np.asarray(cells.mean(axis=0, dtype=np.float64)).ravel()


def in_second_half(cells: np.ndarray) -> np.ndarray:
    """Return which cells are of the second half, bool, shape (n_cells,): the last bit of the BLAKE2b hash of the id.

    The second half of the controls is withheld from predictors.
    """
    return (_hashes(cells) & np.uint64(1)).astype(bool)


def _hashes(cells: np.ndarray) -> np.ndarray:
    digests = b"".join(blake2b(str(cell).encode(), digest_size=8).digest() for cell in cells)
    return np.frombuffer(digests, dtype=np.uint64)
