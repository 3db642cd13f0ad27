"""UCE's network (Rosen et al. 2023, bioRxiv 10.1101/2023.11.28.568918; snap-stanford/UCE, `TransformerModel`)."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cellgauge.inference.checkpoints import Checkpoint, CheckpointError
from cellgauge.inference.post_norm import PostNormEncoder

HEAD_WIDTH = 64
ROWS_AT_ONCE = 4096
UNUSED = (r"binary_decoder\.", r"gene_embedding_layer\.", r"pe_embedding\.")


class UCE(nn.Module):
    """From sentences of genes and chromosomes to the normalized, decoded output at CLS.

    A token is GELU and layer norm of its projected protein embedding: a row of a table, which `fill_table` computes once.
    """

    def __init__(
        self, positions: int, protein: int, width: int, hidden: int, layers: int, heads: int, decoder: list[int]
    ) -> None:
        super().__init__()
        self.pos_encoder = nn.Module()
        self.pos_encoder.register_buffer(
            "pe", torch.empty(positions, 1, width)
        )  # sinusoids, as the checkpoint has them
        self.encoder = nn.Sequential(nn.Linear(protein, width), nn.GELU(), nn.LayerNorm(width))
        self.transformer_encoder = PostNormEncoder(layers, width, hidden, heads)
        sizes = [width, *decoder]
        blocks = (nn.Sequential(nn.Linear(a, b), nn.LayerNorm(b), nn.GELU()) for a, b in pairwise(sizes[:-1]))
        self.decoder = nn.Sequential(*blocks, nn.Linear(*sizes[-2:]))

    def fill_table(self, proteins: Tensor, used: Tensor) -> None:
        """Compute the table for the tokens `used` (n,) from the vectors of all tokens (n_tokens, protein).

        `forward` takes positions in `used`.
        """
        device = self.pos_encoder.pe.device
        parts = (proteins[tokens].float().to(device) for tokens in torch.split(used, ROWS_AT_ONCE))
        rows = [self.encoder(F.normalize(part, dim=1)) for part in parts]
        self.register_buffer("rows", torch.cat(rows) * math.sqrt(rows[0].shape[1]), persistent=False)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return (batch, n_dims) for rows of the table (batch, n); `mask` as in PostNormEncoder."""
        x = self.rows[tokens] + self.pos_encoder.pe[: tokens.shape[1], 0]
        return F.normalize(self.decoder(self.transformer_encoder(x, mask)), dim=1)


def load_uce(checkpoint: Checkpoint, heads: int | None) -> UCE:
    """Return the network of a checkpoint, with sizes read from its tensors.

    Args:
        heads: number of attention heads, which the tensors do not show. None: one per 64 dimensions, as in the released
            models.
    """
    positions, _, width = checkpoint.shape("pos_encoder.pe", 3)
    _, protein = checkpoint.shape("encoder.0.weight", 2)
    layers = checkpoint.count("transformer_encoder.layers")
    hidden, _ = checkpoint.shape("transformer_encoder.layers.0.linear1.weight", 2)
    last = checkpoint.count("decoder") - 1
    decoder = [checkpoint.shape(f"decoder.{i}.0.weight", 2)[0] for i in range(last)]
    decoder.append(checkpoint.shape(f"decoder.{last}.weight", 2)[0])
    if heads is None and width % HEAD_WIDTH:
        raise CheckpointError(
            f"{checkpoint.path}: the number of attention heads is unknown: its width {width} is not a multiple of"
            f" {HEAD_WIDTH}, the released models' dimensions per head; set `heads` in the model's params"
        )
    heads = width // HEAD_WIDTH if heads is None else heads
    checkpoint.check_heads(width, heads)
    return checkpoint.load(lambda: UCE(positions, protein, width, hidden, layers, heads, decoder), UNUSED)
