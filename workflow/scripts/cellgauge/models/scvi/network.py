"""scVI's encoder (Lopez et al. 2018, Nature Methods 15, 1053-1058; scvi-tools, `Encoder` and `FCLayers`)."""

import torch
from torch import Tensor, nn

from cellgauge.inference.checkpoints import Checkpoint

EPSILON = 1e-3  # the batch norms' in scvi-tools
UNUSED = (r"px_r$", r"background_", r"l_encoder\.", r"decoder\.", r"z_encoder\.var_encoder\.")


class ScVI(nn.Module):
    """From counts to the mean of q(z | x), by layers that are linear, batch norm and ReLU."""

    def __init__(self, n_genes: int, hidden: int, layers: int, latent: int) -> None:
        super().__init__()
        widths = [n_genes, *[hidden] * (layers - 1)]
        blocks = [nn.Sequential(nn.Linear(n, hidden), nn.BatchNorm1d(hidden, eps=EPSILON), nn.ReLU()) for n in widths]
        encoder = nn.ModuleDict({"fc_layers": nn.Sequential(*blocks)})
        self.z_encoder = nn.ModuleDict({"encoder": encoder, "mean_encoder": nn.Linear(hidden, latent)})

    def forward(self, counts: Tensor) -> Tensor:
        """Return (batch, latent) for raw counts (batch, n_genes)."""
        return self.z_encoder["mean_encoder"](self.z_encoder["encoder"]["fc_layers"](torch.log1p(counts)))


def load_scvi(checkpoint: Checkpoint) -> ScVI:
    """Return the network of a checkpoint, with sizes read from its tensors."""
    checkpoint = checkpoint.renamed(lambda name: name.replace("fc_layers.Layer ", "fc_layers."))
    layers = checkpoint.count("z_encoder.encoder.fc_layers")
    hidden, n_genes = checkpoint.shape("z_encoder.encoder.fc_layers.0.0.weight", 2)
    latent, _ = checkpoint.shape("z_encoder.mean_encoder.weight", 2)
    return checkpoint.load(lambda: ScVI(n_genes, hidden, layers, latent), UNUSED)
