"""The prediction: one row per test condition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellgauge.core.errors import ContractError
from cellgauge.files.h5ad import open_h5, read_column, read_index, read_scalars

if TYPE_CHECKING:
    pass


NOT_PREDICTED = "the model gave no prediction for this condition"


@dataclass(frozen=True)
class Prediction:
    """A prediction file, read.

    Attributes:
        conditions: str, shape (n_conditions,).
        genes: gene ids, str, shape (n_genes,).
        means: float64, shape (n_conditions, n_genes); NaN where not predicted.
        scores: Wilcoxon z scores, float64, shape (n_conditions, n_genes).
        n_cells: int, shape (n_conditions,); 0 where a mean alone was predicted.
        reasons: why a condition is not predicted, str, shape (n_conditions,).
        cells: sampled cells, float32, shape (n_conditions, n_sampled, n_genes), NaN-padded; None where there are none.
        uns: provenance.
    """

    path: Path
    conditions: np.ndarray
    genes: np.ndarray
    means: np.ndarray
    scores: np.ndarray
    n_cells: np.ndarray
    reasons: np.ndarray
    cells: np.ndarray | None
    uns: Mapping[str, Any]

    @staticmethod
    def facts(path: str | Path) -> dict[str, Any]:
        """Return the provenance of a prediction file alone."""
        with open_h5(path) as file:
            return read_scalars(file)

    @classmethod
    def read(cls, path: str | Path) -> Prediction:
        """Read a prediction file; raise ContractError when it is not one."""
        path = Path(path)
        with open_h5(path) as file:
            lacking = [key for key in ("layers/wilcoxon", "obs/n_cells", "obs/reason") if key not in file]
            if lacking:
                raise ContractError(
                    f"{path}: not a prediction of cellgauge, it lacks {', '.join(lacking)}; write it with predict_responses.py"
                )
            return cls(
                path,
                conditions=read_index(file, "obs"),
                genes=read_index(file, "var"),
                means=file["X"][:],
                scores=file["layers/wilcoxon"][:],
                n_cells=file["obs/n_cells"][:],
                reasons=read_column(file, "obs", "reason", path),
                cells=file["obsm/cells"][:] if "obsm/cells" in file else None,
                uns=read_scalars(file),
            )
