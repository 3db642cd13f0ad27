"""The prediction: one row per test condition.

Both profiles have their own `X` (the layer `mean_reference`), `wilcoxon` and `reason`: see `files.profiles`. The sampled cells
are those of profile corrected, the only one that scores distributions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellgauge.core.errors import ContractError
from cellgauge.files.h5ad import open_stage, read_column, read_index, read_scalars
from cellgauge.files.profiles import SUFFIX

NOT_PREDICTED = "the model gave no prediction for this condition"


@dataclass(frozen=True)
class Prediction:
    """A prediction file, read.

    Attributes:
        conditions: str, shape (n_conditions,).
        genes: gene ids, str, shape (n_genes,).
        means: float64, shape (n_conditions, n_genes); NaN where not predicted.
        scores: Wilcoxon z scores of predicted cells against the controls that the profile compares with (corrected: with a
            correction for ties, NaN for a mean), float64, shape (n_conditions, n_genes).
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
        with open_stage(path) as file:
            return read_scalars(file)

    @classmethod
    def read(cls, path: str | Path, profile: str = "corrected") -> Prediction:
        """Read what a profile scores of a prediction file; raise ContractError when it is not one."""
        path = Path(path)
        suffix = SUFFIX[profile]
        with open_stage(path) as file:
            needed = ("layers/wilcoxon", "layers/mean_reference", "obs/n_cells", "obs/reason_reference")
            lacking = [key for key in needed if key not in file]
            if lacking:
                raise ContractError(
                    f"{path}: not a prediction of cellgauge, it lacks {', '.join(lacking)}; write it with predict_responses.py"
                )
            return cls(
                path,
                conditions=read_index(file, "obs"),
                genes=read_index(file, "var"),
                means=file[f"layers/mean{suffix}" if suffix else "X"][:],
                scores=file[f"layers/wilcoxon{suffix}"][:],
                n_cells=file["obs/n_cells"][:],
                reasons=read_column(file, "obs", f"reason{suffix}", path),
                cells=file["obsm/cells"][:] if "obsm/cells" in file else None,
                uns=read_scalars(file),
            )
