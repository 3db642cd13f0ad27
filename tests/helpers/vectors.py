"""Vectors of the official codes (tests/golden): their cells as a split, and what our adapters make of them."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np

from cellgauge.files.embedding import Embedding
from cellgauge.files.split import Split
from cellgauge.models.base import embed_files

GOLDEN = Path(__file__).parents[1] / "golden"


def split_of(case: Path, target: Path, organism: str = "human", rows: object = slice(None)) -> Path:
    """Write the input of a case as a split, as it is: some hold values that are no counts. `rows` selects cells."""
    data = anndata.read_h5ad(case / "input.h5ad")[rows].copy()
    data.uns = {"dataset": "golden", "split": case.name, "organism": organism}
    data.write_h5ad(target, compression="gzip")
    return target


def embedding(adapter: str, split: Path, weights: Path, **options: object) -> Embedding:
    """Return what an adapter makes of a split, on the CPU."""
    output = split.with_name(f"{split.stem}_embedding.h5ad")
    embed_files(adapter, [split], output, weights=weights, options={"device": "cpu", **options})
    found = Embedding.read(output)
    assert found.matrix.shape == found.shape  # read while the file is there: the next embedding takes its place
    return found


def tokens(encoder: object, split: Path) -> list:
    """Return the records of all cells, in their order."""
    opened = Split.open(split)
    blocks = opened.count_blocks(7)  # other than the default, so that a block's end is met
    return [r for start, counts in blocks for r in encoder.tokenize(counts, opened.cells[start : start + 7])]


def same(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Assert that two matrices agree within an absolute tolerance."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
