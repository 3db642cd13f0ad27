"""AIDO.Cell's encoder (Ho et al. 2024, bioRxiv 10.1101/2024.11.28.625303): every gene is a token, expressed or not."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cellgauge.inference.checkpoints import Checkpoint, CheckpointError
from cellgauge.inference.kernels import attend, compiled

UNUSED = (r"cls\.", r"gene_embedding\.(mask|pad)_embedding\.")
NORMS = {"LayerNorm": nn.LayerNorm, "RMSNorm": nn.RMSNorm}


@dataclass(frozen=True)
class Settings:
    """The settings in config.json that the shapes of the tensors do not imply, checked by `parse`.

    Attributes:
        heads: attention heads.
        alpha: weight of the residual in the value embedding.
        norm: "LayerNorm" or "RMSNorm".
        epsilon: of the norms.
        bias: whether the layers' projections have one.
    """

    heads: int
    alpha: float
    norm: str
    epsilon: float
    bias: bool

    @classmethod
    def parse(cls, config: dict[str, object], where: object) -> Settings:
        """Return the settings of config.json, with official defaults; raise CheckpointError if they are not AIDO.Cell's."""
        defaults = {"position_embedding_type": "absolute", "hidden_act": "swiglu", "self_attn_type": "core"}
        for key, default in defaults.items():
            if config.get(key, default) != default:
                raise CheckpointError(f"{where}: {key} is {config[key]!r}, AIDO.Cell's is {default!r}")
        heads, norm = config.get("num_attention_heads"), config.get("normalization_type", "RMSNorm")
        if not isinstance(heads, int) or heads < 1 or norm not in NORMS:
            raise CheckpointError(
                f"{where}: not the settings of an AIDO.Cell (heads {heads!r}, normalization_type {norm!r})"
            )
        return cls(
            heads,
            float(config.get("bin_alpha", 1.0)),
            norm,
            float(config.get("layer_norm_eps", 1e-5)),
            bool(config.get("add_linear_bias", True)),
        )


class ValueEmbedding(nn.Module):
    """A value as a soft choice among the rows of a table: a = LeakyReLU(W1 v), softmax(alpha a + W2 a) times the table."""

    def __init__(self, bins: int, width: int, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.linear1 = nn.Linear(1, bins)
        self.linear2 = nn.Linear(bins, bins)
        self.lookup_table = nn.Embedding(bins, width)

    def forward(self, values: Tensor) -> Tensor:
        """Return (..., width) for values (...)."""
        a = F.leaky_relu(self.linear1(values[..., None]), 0.1)
        return F.softmax(self.alpha * a + self.linear2(a), dim=-1) @ self.lookup_table.weight


class Layer(nn.Module):
    """x + attention(norm(x)), then x + down(silu(gate(n)) * up(n)) with n = norm(x)."""

    def __init__(self, width: int, hidden: int, settings: Settings) -> None:
        super().__init__()

        def norm() -> nn.Module:
            return NORMS[settings.norm](width, eps=settings.epsilon)

        def linear(inputs: int, outputs: int) -> nn.Linear:
            return nn.Linear(inputs, outputs, bias=settings.bias)

        self.heads = settings.heads
        projections = nn.ModuleDict({name: linear(width, width) for name in ("query", "key", "value")})
        output = nn.ModuleDict({"dense": linear(width, width)})
        self.attention = nn.ModuleDict({"ln": norm(), "self": projections, "output": output})
        self.ln = norm()
        sizes = {"up_proj": (width, hidden), "gate_proj": (width, hidden), "down_proj": (hidden, width)}
        self.mlp = nn.ModuleDict({name: linear(*size) for name, size in sizes.items()})

    @compiled
    def forward(self, x: Tensor, queried: Tensor | None = None) -> Tensor:
        """Return the layer's output for x (batch, n, width), or only at the positions `queried` (m,)."""
        normed = self.attention["ln"](x)
        queries, x = (normed, x) if queried is None else (normed[:, queried], x[:, queried])
        projections = self.attention["self"]
        inputs = {"query": queries, "key": normed, "value": normed}
        q, k, v = (projections[name](y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for name, y in inputs.items())
        attended = attend(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.attention["output"]["dense"](attended)
        normed = self.ln(x)
        return x + self.mlp["down_proj"](F.silu(self.mlp["gate_proj"](normed)) * self.mlp["up_proj"](normed))


class AidoCell(nn.Module):
    """From sparse values of all positions to the mean of the normalized output at some of them."""

    def __init__(self, positions: int, bins: int, width: int, hidden: int, layers: int, settings: Settings) -> None:
        super().__init__()
        self.gene_embedding = ValueEmbedding(bins, width, settings.alpha)
        self.position_embedding = nn.Embedding(positions, width)
        norm = NORMS[settings.norm](width, eps=settings.epsilon)
        layer = nn.ModuleList(Layer(width, hidden, settings) for _ in range(layers))
        self.encoder = nn.ModuleDict({"layer": layer, "ln": norm})

    def fill_table(self) -> None:
        """Compute the token of every position for the value 0, which is that of most positions."""
        zero = self.gene_embedding(self.position_embedding.weight.new_zeros(1))
        self.register_buffer("zeros", self.position_embedding.weight + zero, persistent=False)

    def forward(self, positions: Tensor, values: Tensor, pooled: Tensor) -> Tensor:
        """Return (batch, width).

        Args:
            positions, values: the nonzero values and their positions, shape (batch, n). Pairs may be repeated.
            pooled: positions whose outputs are averaged, shape (m,).
        """
        x = self.zeros.repeat(len(positions), 1, 1)
        cells = torch.arange(len(positions), device=x.device)[:, None]
        x[cells, positions] = (self.position_embedding(positions) + self.gene_embedding(values)).to(x.dtype)
        *others, last = self.encoder["layer"]
        for layer in others:
            x = layer(x)
        return self.encoder["ln"](last(x, pooled)).mean(dim=1)


def load_aido_cell(checkpoint: Checkpoint, settings: Settings) -> AidoCell:
    """Return the network of a checkpoint, with sizes read from its tensors."""
    checkpoint = checkpoint.renamed(lambda name: name.removeprefix("bert."))
    positions, width = checkpoint.shape("position_embedding.weight", 2)
    bins, _ = checkpoint.shape("gene_embedding.lookup_table.weight", 2)
    layers = checkpoint.count("encoder.layer")
    hidden, _ = checkpoint.shape("encoder.layer.0.mlp.up_proj.weight", 2)
    checkpoint.check_heads(width, settings.heads)
    return checkpoint.load(lambda: AidoCell(positions, bins, width, hidden, layers, settings), UNUSED)
