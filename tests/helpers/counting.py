"""An encoder that a process can be sent: it imports neither torch nor pytest, which takes seconds, and so no test module."""

from __future__ import annotations

import numpy as np

from cellgauge.core.errors import CellgaugeError
from cellgauge.inference.run import Record, key_mask, padded


def expected_rows(split):
    """Return the rows that `Counting` gives the cells of a split, float32, shape (n_cells, 2)."""
    counts = split.counts()
    return np.column_stack([counts.sum(axis=1).A1, counts.getnnz(axis=1)]).astype(np.float32)


class Counting:
    """Embeds a cell as (sum of counts, number of genes).

    Attributes:
        skip: ids of cells that cannot be embedded.
        fails_at: the id of a cell at which tokenizing fails.
    """

    n_dims = 2

    def __init__(self, skip=(), fails_at="", in_order=False):
        self.skip, self.fails_at, self.in_order = set(skip), fails_at, in_order

    def tokenize(self, counts, cells):
        for row, cell in zip(counts, cells, strict=True):
            if cell == self.fails_at:
                raise CellgaugeError(f"cell {cell} cannot be tokenized")
            yield None if cell in self.skip else Record((row.data,), row.nnz)

    def collate(self, records):
        return padded([record.arrays[0] for record in records], 0), *key_mask([record.length for record in records])

    def forward(self, counts, mask=None):
        import torch

        return torch.stack([counts.sum(dim=1), (counts > 0).float().sum(dim=1)], dim=1)
