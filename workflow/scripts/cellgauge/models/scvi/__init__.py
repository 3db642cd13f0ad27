"""Pretrained scVI (Lopez et al. 2018), such as the CELLxGENE Census model: the mean of q(z | x), without any training.

Weights: a folder with model.pt, as `SCVI.save` writes it. Genes are matched by Ensembl id; genes of the model that the data
lack get count 0. Only models whose encoder does not use covariates, such as the batch, are supported. Nothing is random.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_matrix

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.genes import without_version
from cellgauge.files.split import Split
from cellgauge.inference.checkpoints import Checkpoint, CheckpointError, find_file, read_torch_dict, weights_folder
from cellgauge.inference.run import Record, embed_split, require_matches
from cellgauge.models.base import Embedded

if TYPE_CHECKING:
    from cellgauge.models.scvi.network import ScVI

NEEDS_DEVICE = True
PACKAGES = ("torch",)
CZBENCHMARKS = "SCVI"
BY_CELL = {}

SETTINGS = {"log_variational": True, "encode_covariates": False, "extra_encoder_kwargs": None}
LENGTH = 16  # a cell needs as much memory as this many tokens of a transformer


def embed(
    cells: Split,
    weights: Path,
    *,
    device: str,
    seed: int,
    min_matched_genes: float = 0.5,
    precision: str = "auto",
    tokens_per_batch: int | None = None,
) -> Embedded:
    """Return the mean of q(z | x), float32, shape (n_cells, n_latent).

    Args:
        min_matched_genes: the smallest fraction of the model's genes that the split must have.
        tokens_per_batch: a cell counts as 16 tokens.
    """
    from cellgauge.models.scvi.network import load_scvi

    folder = weights_folder(weights, "scVI")
    checkpoint, genes = _read_model(find_file(folder, "model.pt", "*/model.pt"))
    network = load_scvi(checkpoint)
    inputs = network.z_encoder["encoder"]["fc_layers"][0][0].in_features
    if inputs != len(genes):
        raise CellgaugeError(
            f"{checkpoint.path}: its encoder takes {inputs} inputs for {len(genes)} genes; models that also encode"
            " covariates, such as the batch, are not supported"
        )
    position_of = {gene: position for position, gene in enumerate(genes)}
    positions = np.asarray([position_of.get(without_version(gene), -1) for gene in cells.genes])
    matched = int((positions >= 0).sum())
    require_matches(matched, len(genes), min_matched_genes, "the genes of the scVI model", cells)

    encoder = Encoder(network.to(device), positions, len(genes))
    matrix, facts = embed_split(cells, encoder, device=device, precision=precision, tokens_per_batch=tokens_per_batch)
    model_facts = {"matched_genes": matched, "missing_genes": len(genes) - matched, "revision": checkpoint.revision()}
    return Embedded(matrix, cells.cells, {**model_facts, **facts})


class Encoder:
    """Cells to embeddings; see `inference.run.Encoder`. A record is (positions int64, counts float32), nonzero only."""

    def __init__(self, network: ScVI, positions: np.ndarray, n_genes: int) -> None:
        self.forward, self._n_genes = network, n_genes
        self._columns = np.flatnonzero(positions >= 0)
        self._positions = positions[self._columns]
        self.n_dims = network.z_encoder["mean_encoder"].out_features

    def tokenize(self, counts: csr_matrix, cells: Sequence[str]) -> Iterator[Record | None]:
        """Yield the record of each row of `counts` (n, n_genes of the split); None for a cell without a known gene."""
        known = counts[:, self._columns]
        for start, stop in zip(known.indptr, known.indptr[1:], strict=False):
            record = Record((self._positions[known.indices[start:stop]], known.data[start:stop]), LENGTH)
            yield record if stop > start else None

    def collate(self, records: Sequence[Record]) -> tuple[np.ndarray, ...]:
        """Return counts, float32 (batch, n_genes of the model)."""
        counts = np.zeros((len(records), self._n_genes), dtype=np.float32)
        for row, record in zip(counts, records, strict=True):
            np.add.at(row, *record.arrays)
        return (counts,)


def _read_model(path: Path) -> tuple[Checkpoint, list[str]]:
    """Return the tensors of a model that scvi-tools saved, and the ids of the genes that it takes as inputs."""
    import torch

    content = read_torch_dict(path)
    state, genes = content.get("model_state_dict", content), content.get("var_names", [])
    genes = getattr(genes, "items", genes)
    if not isinstance(state, dict) or not isinstance(genes, list) or not all(isinstance(gene, str) for gene in genes):
        raise CheckpointError(f"{path}: not a model of scvi-tools with the names of its genes; is this the right file?")
    # pyro_param_store, which scvi-tools saves beside the tensors, is a dict
    checkpoint = Checkpoint(path, {name: value for name, value in state.items() if isinstance(value, torch.Tensor)})
    if len(set(genes)) != len(genes):
        raise CheckpointError(f"{path}: a gene appears more than once in its var_names")
    attributes = content.get("attr_dict")
    for name, value in _nested(attributes.get("init_params_") if isinstance(attributes, dict) else None):
        if name in SETTINGS and value != SETTINGS[name]:  # it changes the encoder, and does not show in its tensors
            fault = f"it was trained with {name}={value!r}; only {SETTINGS[name]} is supported"
            raise CellgaugeError(f"{path}: {fault}")
    return checkpoint, genes


def _nested(settings: Any) -> Iterator[tuple[Any, Any]]:
    """Yield names and values of settings at any depth, which differs between releases of scvi-tools."""
    for name, value in settings.items() if isinstance(settings, dict) else ():
        yield name, value
        yield from _nested(value)
