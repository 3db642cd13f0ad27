"""Positive control: an embedding of the labels themselves, the same for every split and species."""

import zlib

import numpy as np

from cellgauge.files.split import Split
from cellgauge.models.base import Embedded

STOCHASTIC = True


def embed(cells: Split, weights: None, *, device: str, seed: int, n_dims: int = 50, noise: float = 0.05) -> Embedded:
    """Return a fixed random point per label, plus normal noise, shape (n_cells, n_dims).

    The point depends only on the label's text, so that cells of different species with the same label are close. The noise
    prevents ties between neighbors with the same label.
    """
    labels, codes = np.unique(cells.column("label"), return_inverse=True)
    points = np.stack([np.random.default_rng(zlib.crc32(label.encode())).standard_normal(n_dims) for label in labels])
    generator = np.random.default_rng([seed, zlib.crc32(f"{cells.dataset}/{cells.name}".encode())])
    matrix = points[codes] + noise * generator.standard_normal((len(codes), n_dims))
    return Embedded(matrix.astype(np.float32), cells.cells)
