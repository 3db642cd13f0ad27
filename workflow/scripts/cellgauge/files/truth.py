"""What was measured in a screen, reduced once to what every model's predictions are scored against.

h5ad, one row per group of cells, one column per gene of the split:

- `X` float64: mean log-normalized expression; layers `wilcoxon` (z scores against the withheld controls, corrected for ties)
  and `wilcoxon_reference` (against all controls, not corrected); `half_mean`, `half_wilcoxon` and `half_wilcoxon_reference`
  (the same of the second half of the cells, which the ceiling is scored against); NaN where not computed
- `obs`: `role` (control, control_seen, control_withheld, training, test, pooled), `condition`, `stratum`, `n_cells`, `n_half`;
  `noise` and `half_noise`, the squared standard error of the mean, averaged over the genes that are not masked
- `var["masked"]`: whether a test condition perturbs the gene: no score of profile corrected sees it
- `obsm["cells"]` and `obsm["half_cells"]` float32 (groups x up to `SAMPLED` cells x components): sampled cells in the
  space of the leading principal components of the genes that are not masked; NaN beyond those there are
- `varm["components"]` float32 (genes x components): the loadings that lead there (centering is left out, distances need none)

A condition may be written in two orders ("A+ctrl" and "ctrl+A"). Each is a row `test`, since cz-benchmarks takes each for
itself; the cells of both together are one row `pooled`, under the name that sorts first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellgauge.core.errors import ContractError
from cellgauge.files.h5ad import open_stage, read_column, read_index, read_scalars
from cellgauge.files.profiles import SUFFIX

MEASURED_FROM = {"corrected": "control_withheld", "reference": "control"}
"""The role of the controls that a measured change is the difference from, by profile."""
PREDICTED_FROM = {"corrected": "control_seen", "reference": "control"}
"""The role of the controls that a predicted change is the difference from, by profile."""


@dataclass(frozen=True)
class Truth:
    """What a profile scores of a truth file. Rows are groups, columns genes; the module's docstring says what each array holds.

    `full_scores` are the scores of all cells of a group, also where `scores` are those of the second half.
    """

    profile: str
    dataset: str
    split: str
    genes: np.ndarray
    masked: np.ndarray
    role: np.ndarray
    condition: np.ndarray
    stratum: np.ndarray
    n_cells: np.ndarray
    noise: np.ndarray
    means: np.ndarray
    scores: np.ndarray
    full_scores: np.ndarray
    cells: np.ndarray
    components: np.ndarray

    @classmethod
    def read(cls, path: str | Path, *, profile: str = "corrected", second_half: bool = False) -> Truth:
        """Read what a profile scores of a truth file, of its test conditions the second half of the cells if asked for.

        Raises:
            ContractError: the file is not a truth file.
        """
        path = Path(path)
        suffix = SUFFIX[profile]
        with open_stage(path) as file:
            uns = read_scalars(file)
            if uns.get("kind") != "truth":
                raise ContractError(f"{path}: not a truth file of cellgauge; write it with measure_truth.py")
            role = read_column(file, "obs", "role", path)
            means, n_cells, noise, cells = (file[key][:] for key in ("X", "obs/n_cells", "obs/noise", "obsm/cells"))
            full_scores = file[f"layers/wilcoxon{suffix}"][:]
            scores = file[f"layers/half_wilcoxon{suffix}"][:] if second_half else full_scores
            if second_half:
                tested = np.isin(role, ("test", "pooled"))
                means[tested] = file["layers/half_mean"][:][tested]
                n_cells[tested] = file["obs/n_half"][:][tested]
                noise[tested] = file["obs/half_noise"][:][tested]
                cells[tested] = file["obsm/half_cells"][:][tested]
            return cls(
                profile=profile,
                dataset=str(uns["dataset"]),
                split=str(uns["split"]),
                genes=read_index(file, "var"),
                masked=file["var/masked"][:].astype(bool),
                role=role,
                condition=read_column(file, "obs", "condition", path),
                stratum=read_column(file, "obs", "stratum", path),
                n_cells=n_cells,
                noise=noise,
                means=means,
                scores=scores,
                full_scores=full_scores,
                cells=cells,
                components=file["varm/components"][:],
            )

    @property
    def measured_from(self) -> int:
        """The row of the controls that measured changes are differences from."""
        return self._row(MEASURED_FROM[self.profile])

    @property
    def predicted_from(self) -> int:
        """The row of the controls that predicted changes are differences from."""
        return self._row(PREDICTED_FROM[self.profile])

    def _row(self, role: str) -> int:
        return int(np.flatnonzero(self.role == role)[0])


def is_truth(path: str | Path) -> bool:
    """Return whether a file is a truth file (a split of a screen is not)."""
    with open_stage(path) as file:
        return read_scalars(file).get("kind") == "truth"
