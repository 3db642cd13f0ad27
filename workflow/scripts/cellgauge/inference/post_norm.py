"""The encoder that scGPT and UCE share: transformer layers that normalize after each residual sum (Vaswani et al. 2017)."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cellgauge.inference.kernels import attend, compiled


def torch_name(name: str) -> str:
    """Return the name in torch, which this module uses, of a tensor in a checkpoint made with flash-attn.

    flash-attn names the packed projections differently, and a wrapper around it may add a part to the name.
    """
    return name.replace("._impl.", ".").replace("self_attn.Wqkv.", "self_attn.in_proj_")


class SelfAttention(nn.Module):
    """Multi-head attention with the projections of queries, keys and values packed, as in torch.nn.MultiheadAttention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Return the attention of `queries` (batch, m, width) to `tokens` (batch, n, width); `mask` as in PostNormEncoder."""
        width = tokens.shape[-1]
        if queries is tokens:
            q, k, v = F.linear(tokens, self.in_proj_weight, self.in_proj_bias).split(width, dim=-1)
        else:
            q = F.linear(queries, self.in_proj_weight[:width], self.in_proj_bias[:width])
            k, v = F.linear(tokens, self.in_proj_weight[width:], self.in_proj_bias[width:]).split(width, dim=-1)
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q, k, v))
        return self.out_proj(attend(q, k, v, mask).transpose(1, 2).flatten(2))


class PostNormLayer(nn.Module):
    """LN(x + attention), then LN(x + W2 relu(W1 x)); the layer norms' epsilon is 1e-5."""

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(width, heads)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    @compiled
    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Return the layer's output for all tokens."""
        return self.output(tokens, tokens, mask)

    def output(self, queries: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Return the layer's output for `queries`: the tokens themselves, or some of them."""
        x = self.norm1(queries + self.self_attn(queries, tokens, mask))
        return self.norm2(x + self.linear2(F.relu(self.linear1(x))))


class PostNormEncoder(nn.Module):
    """Layers of which the last computes only the first token, the only one that a cell's embedding uses."""

    def __init__(self, layers: int, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(PostNormLayer(width, hidden, heads) for _ in range(layers))

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the first token of the last layer, shape (batch, width).

        Args:
            tokens: (batch, n, width).
            mask: (batch, n), bool (False hides a key) or float (added to the logits of a key).
        """
        *others, last = self.layers
        for layer in others:
            tokens = layer(tokens, mask)
        return last.output(tokens[:, :1], tokens, mask)[:, 0]
