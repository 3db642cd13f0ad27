"""scVI (Lopez et al. 2018) trained in place on the split itself, with scvi-tools: what pretraining has to improve on."""

import logging

from cellgauge.data.expression import counts_of
from cellgauge.data.variable_genes import variable_genes
from cellgauge.files.split import Split
from cellgauge.models.base import Embedded

SHARED_SPACE = False
STOCHASTIC = True
NEEDS_DEVICE = True
FITTED_ON_SPLIT = True
PACKAGES = ("scvi-tools", "torch")


def embed(
    cells: Split,
    weights: None,
    *,
    device: str,
    seed: int,
    n_top_genes: int = 2000,
    n_latent: int = 30,
    n_layers: int = 2,
    max_epochs: int | None = None,
    batch_size: int = 128,
    batch_key: str = "batch",
) -> Embedded:
    """Return the mean of q(z | x), float32, shape (n_cells, n_latent).

    Trained on the raw counts of the most variable genes, with the column `batch_key` as scvi-tools' batch where the split
    has it and more than one value of it ("": never). The fact `batches` says how many there were: 1 is no correction.
    Without `max_epochs` scvi-tools' heuristic decides: 400 epochs up to 20,000 cells, fewer beyond.
    """
    import scvi

    scvi.settings.seed = seed
    scvi.settings.verbosity = logging.WARNING
    data = cells.to_anndata()[:, variable_genes([counts_of(cells)], n_top_genes)].copy()
    batches = data.obs[batch_key].nunique() if batch_key in data.obs else 1
    scvi.model.SCVI.setup_anndata(data, batch_key=batch_key if batches > 1 else None)
    model = scvi.model.SCVI(data, n_latent=n_latent, n_layers=n_layers)
    model.train(
        max_epochs=max_epochs,
        batch_size=batch_size,
        accelerator="gpu" if device.startswith("cuda") else "cpu",
        devices=[int(device.partition(":")[2] or 0)] if device.startswith("cuda") else 1,
        early_stopping=True,
        early_stopping_patience=20,
        enable_progress_bar=True,
        logger=False,
    )
    facts = {"matched_genes": data.n_vars, "epochs": int(model.trainer.current_epoch), "batches": batches}
    return Embedded(model.get_latent_representation(), cells.cells, facts)
