"""Write synthetic cells for the benchmark: the files of the contracts for our side, plain arrays for the anchor.

    python bench/synthetic.py FOLDER N_CELLS N_DIMS [N_GENES]

Some 25 cell types of power-law sizes, low-rank structure plus noise, three species and five donors with shifts of their own.
With N_GENES, counts of so many genes too, an eighth of them not 0, as the matrix that the linear baseline is scored on.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

from cellgauge.files.embedding import write_embedding
from cellgauge.files.split import Split, write_split

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

SPECIES = ("human", "mouse", "rhesus_macaque")
N_TYPES, N_DONORS, RANK = 25, 5, 40


def cells(n_cells: int, n_dims: int, seed: int = 7) -> dict[str, np.ndarray]:
    """Return "matrix", float32 (n_cells, n_dims), and "label", "species", "donor", str (n_cells,), sorted by species."""
    generator = np.random.default_rng(seed)
    shares = 1 / np.arange(1, N_TYPES + 1) ** 1.1
    types = generator.choice(N_TYPES, n_cells, p=shares / shares.sum())
    species = np.sort(generator.choice(len(SPECIES), n_cells, p=(0.5, 0.3, 0.2)))
    donors = generator.integers(0, N_DONORS, n_cells)
    latent = (
        generator.normal(0, 1, (N_TYPES, RANK))[types]
        + generator.normal(0, 0.3, (len(SPECIES), RANK))[species]
        + generator.normal(0, 0.2, (N_DONORS, RANK))[donors]
        + generator.normal(0, 0.9, (n_cells, RANK))
    ).astype(np.float32)
    matrix = latent @ (generator.normal(0, 1, (RANK, n_dims)) / RANK**0.5).astype(np.float32)
    matrix += 0.5 * generator.standard_normal((n_cells, n_dims), dtype=np.float32)
    return {
        "matrix": matrix,
        "label": np.asarray([f"type{code:02d}" for code in types]),
        "species": np.asarray(SPECIES)[species],
        "donor": np.asarray([f"donor{code}" for code in donors]),
    }


def counts(labels: np.ndarray, n_genes: int, seed: int = 7) -> csr_matrix:
    """Return counts of genes that the labels express to different degrees, CSR float32, shape (n_cells, n_genes)."""
    from scipy.sparse import csr_matrix, vstack

    generator = np.random.default_rng(seed)
    codes = np.unique(labels, return_inverse=True)[1]
    latent = generator.normal(0, 1, (N_TYPES, RANK))[codes] + generator.normal(0, 0.5, (len(codes), RANK))
    base, loadings = generator.normal(-3.2, 1.6, n_genes), 0.9 * generator.normal(0, 1, (RANK, n_genes)) / RANK**0.5
    parts = []
    for first in range(0, len(codes), 500):
        rows = latent[first : first + 500]
        logs = base + rows @ loadings + generator.normal(0, 0.3, (len(rows), 1))  # the last: cells differ in depth
        parts.append(csr_matrix(generator.poisson(np.exp(np.clip(logs, -12, 5))).astype(np.float32)))
    return vstack(parts).tocsr()


def write(folder: Path, n_cells: int, n_dims: int, n_genes: int = 0) -> None:
    """Write matrix.npy, label.npy, species.npy, and split and embedding files of all cells and of every species.

    With genes also counts.npy (dense), split_counts.h5ad, and embedding_counts.h5ad that asks to be scored on the counts.
    """
    import anndata
    import pandas as pd
    from scipy.sparse import csr_matrix

    folder.mkdir(parents=True, exist_ok=True)
    made = cells(n_cells, n_dims)
    for name in ("matrix", "label", "species"):
        np.save(folder / f"{name}.npy", made[name], allow_pickle=False)
    for name in ("whole", *SPECIES):
        rows = np.flatnonzero(made["species"] == name) if name in SPECIES else np.arange(n_cells)
        obs = {column: pd.Categorical(made[column][rows]) for column in ("label", "donor")}
        data = anndata.AnnData(
            X=csr_matrix((len(rows), 1), dtype=np.float32),
            obs=pd.DataFrame(obs, index=[f"cell{row}" for row in rows]),
            var=pd.DataFrame({"feature_name": ["none"]}, index=["none"]),
            uns={"dataset": "synthetic", "split": name, "organism": name if name in SPECIES else SPECIES[0]},
        )
        write_split(folder / f"split_{name}.h5ad", data)
        split = Split.open(folder / f"split_{name}.h5ad")
        uns = {"model": "synthetic", "dataset": "synthetic", "split": name, "shared_space": True}
        write_embedding(folder / f"embedding_{name}.h5ad", made["matrix"][rows], split.cells, [split], uns)
    if n_genes:
        matrix = counts(made["label"], n_genes)
        np.save(folder / "counts.npy", matrix.toarray(), allow_pickle=False)
        genes = [f"gene{gene}" for gene in range(n_genes)]
        data = anndata.AnnData(
            X=matrix,
            obs=pd.DataFrame({"label": pd.Categorical(made["label"])}, index=[f"cell{row}" for row in range(n_cells)]),
            var=pd.DataFrame({"feature_name": genes}, index=genes),
            uns={"dataset": "synthetic", "split": "counts", "organism": SPECIES[0]},
        )
        write_split(folder / "split_counts.h5ad", data)
        split = Split.open(folder / "split_counts.h5ad")
        uns = {"model": "linear", "dataset": "synthetic", "split": "counts", "reference_on_counts": True}
        write_embedding(folder / "embedding_counts.h5ad", made["matrix"][:, :2], split.cells, [split], uns)


if __name__ == "__main__":
    write(Path(sys.argv[1]), *map(int, sys.argv[2:]))
