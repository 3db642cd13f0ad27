"""What was measured in a screen, reduced once to what every model's predictions are scored against.

h5ad, one row per group of cells, one column per gene of the split:

- `X` float64: mean log-normalised expression; layers `wilcoxon` (z scores against all controls), `half_mean` and
  `half_wilcoxon` (the same of the second half of the cells, which the ceiling is scored against); NaN where not computed
- `obs`: `role` (control, training, test, pooled), `condition`, `stratum`, `n_cells`, `n_half`
- `obsm["cells"]` and `obsm["half_cells"]` float32 (groups x up to `SAMPLED` cells x components): sampled cells in the
  space of the screen's leading principal components; NaN beyond those there are
- `varm["components"]` float32 (genes x components): the loadings that lead there (centring is left out, distances need none)

A condition may be written in two orders ("A+ctrl" and "ctrl+A"). Each is a row `test`, since cz-benchmarks takes each for
itself; the cells of both together are one row `pooled`, under the name that sorts first.
"""

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


@dataclass(frozen=True)
class Truth:
    """A truth file, read. Rows are groups, columns genes; the module's docstring says what each array holds."""

    dataset: str
    split: str
    genes: np.ndarray
    role: np.ndarray
    condition: np.ndarray
    stratum: np.ndarray
    n_cells: np.ndarray
    means: np.ndarray
    scores: np.ndarray
    cells: np.ndarray
    components: np.ndarray
    uns: Mapping[str, Any]

    @classmethod
    def read(cls, path: str | Path, *, second_half: bool = False) -> Truth:
        """Read a truth file, or of its test conditions the second half of the cells.

        Raises:
            ContractError: the file is not a truth file.
        """
        path = Path(path)
        with open_h5(path) as file:
            uns = read_scalars(file)
            if uns.get("kind") != "truth":
                raise ContractError(f"{path}: not a truth file of cellgauge; write it with measure_truth.py")
            role = read_column(file, "obs", "role", path)
            means, n_cells, cells = file["X"][:], file["obs/n_cells"][:], file["obsm/cells"][:]
            scores = file["layers/half_wilcoxon" if second_half else "layers/wilcoxon"][:]
            if second_half:
                tested = np.isin(role, ("test", "pooled"))
                means[tested] = file["layers/half_mean"][:][tested]
                n_cells[tested] = file["obs/n_half"][:][tested]
                cells[tested] = file["obsm/half_cells"][:][tested]
            return cls(
                dataset=str(uns["dataset"]),
                split=str(uns["split"]),
                genes=read_index(file, "var"),
                role=role,
                condition=read_column(file, "obs", "condition", path),
                stratum=read_column(file, "obs", "stratum", path),
                n_cells=n_cells,
                means=means,
                scores=scores,
                cells=cells,
                components=file["varm/components"][:],
                uns=uns,
            )


def is_truth(path: str | Path) -> bool:
    """Return whether a file is a truth file (a split of a screen is not)."""
    with open_h5(path) as file:
        return read_scalars(file).get("kind") == "truth"
