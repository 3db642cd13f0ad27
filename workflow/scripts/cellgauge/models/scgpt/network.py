"""scGPT's encoder (Cui et al. 2024, Nature Methods 21, 1470-1480; bowang-lab/scGPT, `TransformerModel`)."""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cellgauge.inference.checkpoints import Checkpoint
from cellgauge.inference.post_norm import PostNormEncoder, torch_name

MAX_VALUE = 512.0
UNUSED = (r"decoder\.", r"cls_decoder\.", r"mvc_decoder\.", r"flag_encoder\.")


class ValueEncoder(nn.Module):
    """LN(W2 relu(W1 min(value, 512)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(1, width)
        self.linear2 = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, values: Tensor) -> Tensor:
        """Return (..., width) for values (...)."""
        hidden = F.relu(self.linear1(values.clamp(max=MAX_VALUE)[..., None]))
        return self.norm(self.linear2(hidden))


class ScGPT(nn.Module):
    """From genes and their binned values to the normalized output at <cls>.

    A token is the sum of a function of its gene and one of its bin. Both are tables, which `fill_tables` computes once.
    """

    def __init__(self, n_genes: int, width: int, hidden: int, layers: int, heads: int) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"embedding": nn.Embedding(n_genes, width), "enc_norm": nn.LayerNorm(width)})
        self.value_encoder = ValueEncoder(width)
        self.transformer_encoder = PostNormEncoder(layers, width, hidden, heads)

    def fill_tables(self, values: Tensor) -> None:
        """Compute the rows of all genes and of `values` (n_values,), to whose positions tokens refer."""
        gene_rows = self.encoder["enc_norm"](self.encoder["embedding"].weight)
        self.register_buffer("gene_rows", gene_rows, persistent=False)
        self.register_buffer("value_rows", self.value_encoder(values), persistent=False)
        del self.encoder, self.value_encoder

    def forward(self, genes: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return (batch, width) for genes and positions of values (batch, n); `mask` is False on padding."""
        tokens = self.gene_rows[genes] + self.value_rows[values]
        return F.normalize(self.transformer_encoder(tokens, mask), dim=-1)


def load_scgpt(checkpoint: Checkpoint, heads: int) -> ScGPT:
    """Return the network of a checkpoint, with sizes read from its tensors, which do not show the number of heads."""
    checkpoint = checkpoint.renamed(torch_name)
    n_genes, width = checkpoint.shape("encoder.embedding.weight", 2)
    checkpoint.check_heads(width, heads)
    layers = checkpoint.count("transformer_encoder.layers")
    hidden, _ = checkpoint.shape("transformer_encoder.layers.0.linear1.weight", 2)
    return checkpoint.load(lambda: ScGPT(n_genes, width, hidden, layers, heads), UNUSED)
