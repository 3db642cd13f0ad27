"""Negative control: noise that knows nothing of the cells."""

import zlib

import numpy as np

from cellgauge.files.split import Split
from cellgauge.models.base import Embedded

STOCHASTIC = True
UNINFORMED = True


def embed(cells: Split, weights: None, *, device: str, seed: int, n_dims: int = 50) -> Embedded:
    """Return standard normal noise, shape (n_cells, n_dims), another one for each split."""
    generator = np.random.default_rng([seed, zlib.crc32(f"{cells.dataset}/{cells.name}".encode())])
    return Embedded(generator.standard_normal((len(cells.cells), n_dims), dtype=np.float32), cells.cells)
