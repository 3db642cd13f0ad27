"""TranscriptFormer's encoder (Pearce et al. 2025, bioRxiv 10.1101/2025.04.25.650731; PyPI transcriptformer 0.6.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cellgauge.inference.checkpoints import Checkpoint, CheckpointError
from cellgauge.inference.kernels import capped_attention, causal_blocks, compiled, fused

UNUSED = (r"mu\.", r"gene_id_head\.", r"gene_embeddings\.embedding\.")
ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}
QUERIES_AT_ONCE = 128
ROWS_AT_ONCE = 4096
HIDDEN = -1e4
"""Logit of a hidden key: its exp underflows to 0 beside any other, but a query with hidden keys only stays finite."""


@dataclass(frozen=True)
class Settings:
    """The settings in config.json that the shapes of the tensors do not imply, checked by `parse`.

    Attributes:
        heads: attention heads.
        positions: most tokens of a cell, START included; also the divisor of the mean over a cell.
        cap: logits are kept within (-cap, cap); 0 leaves them as they are.
        epsilon: added to counts before log(1 + count).
        activation: of the layers' hidden units: "gelu", "relu" or "silu".
        attention_bias, feed_forward_bias: whether these projections have one.
        special: the special tokens, in the order of their rows, which precede those of the genes.
        columns: columns of obs that the network takes as covariates, such as ("assay",).
    """

    heads: int
    positions: int
    cap: float
    epsilon: float
    activation: str
    attention_bias: bool
    feed_forward_bias: bool
    special: tuple[str, ...]
    columns: tuple[str, ...]

    @classmethod
    def parse(cls, config: dict[str, object], where: object) -> Settings:
        """Return the settings of config.json; raise CheckpointError if they are not a TranscriptFormer's."""
        try:
            model, data = config["model"]["model_config"], config["model"]["data_config"]
            settings = cls(
                int(model["num_heads"]),
                int(model["seq_len"]),
                float(model["softcap"]),
                float(model["log_counts_eps"]),
                str(model["activation"]),
                bool(model["attn_bias"]),
                bool(model["fw_bias"]),
                tuple(map(str, data["special_tokens"])),
                tuple(str(data["aux_cols"]).split(",")) if data.get("aux_cols") else (),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{where}: not the settings of a TranscriptFormer ({error!r})") from None
        missing = {"[PAD]", "[START]"} - set(settings.special)
        if settings.positions < 2 or settings.activation not in ACTIVATIONS or missing:
            raise CheckpointError(
                f"{where}: not the settings of a TranscriptFormer (seq_len {settings.positions}, activation"
                f" {settings.activation!r}, special tokens {', '.join(settings.special)})"
            )
        return settings


class Keys(NamedTuple):
    """What attention knows of the keys of a mini-batch.

    Attributes:
        bias: added to their logits before the cap, (batch, n).
        hidden: whether the first ones, the covariates, are hidden, bool, (batch, n_columns).
        offset: added to their logits after the cap, which hides the same ones, (batch, n).
        blocks: the block mask of a fused kernel; None where the plain one computes, which needs no `offset` either.
    """

    bias: Tensor
    hidden: Tensor
    offset: Tensor | None = None
    blocks: Any = None


class SelfAttention(nn.Module):
    """Attention to earlier tokens and itself: softmax(cap tanh((q.k / sqrt(d) + bias of the key) / cap)).

    The kernels of scaled_dot_product_attention have no cap. Without flex_attention, which takes one, the logits are computed
    here, for some queries at a time and the keys before them.
    """

    def __init__(self, width: int, settings: Settings) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(width, width, bias=settings.attention_bias) for _ in range(4))
        self._heads, self._cap = settings.heads, settings.cap

    def forward(self, x: Tensor, keys: Keys) -> Tensor:
        """Return (batch, n, width) for x of that shape."""
        q, k, v = (linear(x).unflatten(-1, (self._heads, -1)).transpose(1, 2) for linear in self.linears[:3])
        if keys.blocks is None:
            attended = self._by_queries(q, k, v, keys.bias, keys.hidden)
        else:
            attended = capped_attention(q, k, v, keys.bias, keys.offset, self._cap, keys.blocks)
        return self.linears[3](attended.transpose(1, 2).flatten(2))

    def _by_queries(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, hidden: Tensor) -> Tensor:
        """Return the attention for q, k and v of shape (batch, heads, n, width of a head); like `capped_attention`."""
        unit = self._cap if self._cap > 0 else 1.0
        q, bias = q / (math.sqrt(q.shape[-1]) * unit), bias[:, None, None] / unit
        parts = []
        n = q.shape[2]
        for start in range(0, n, QUERIES_AT_ONCE):
            stop = min(start + QUERIES_AT_ONCE, n)
            logits = (q[:, :, start:stop] @ k[:, :, :stop].mT).float().add_(bias[..., :stop])
            if self._cap > 0:
                logits.tanh_().mul_(self._cap)
            later = torch.ones(stop - start, stop - start, dtype=torch.bool, device=q.device).triu_(1)
            logits[..., start:].masked_fill_(later, -torch.inf)
            logits[..., : hidden.shape[1]].masked_fill_(hidden[:, None, None], HIDDEN)
            parts.append(logits.softmax(dim=-1).to(v.dtype) @ v[:, :, :stop])
        return torch.cat(parts, dim=2)


class Layer(nn.Module):
    """y = n + attention(n) with n = norm1(x), then m + W2 act(W1 m) with m = norm2(y): residuals start after the norms."""

    def __init__(self, width: int, hidden: int, settings: Settings) -> None:
        super().__init__()
        self.self_attn = SelfAttention(width, settings)
        self.linear1 = nn.Linear(width, hidden, bias=settings.feed_forward_bias)
        self.linear2 = nn.Linear(hidden, width, bias=settings.feed_forward_bias)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self._activation = ACTIVATIONS[settings.activation]

    @compiled
    def forward(self, x: Tensor, keys: Keys) -> Tensor:
        """Return (batch, n, width)."""
        x = self._attended(x, keys)
        return x + self.linear2(self._activation(self.linear1(x)))

    def total(self, x: Tensor, keys: Keys, counted: Tensor) -> Tensor:
        """Return the sum of the output over the last positions, (batch, width); `counted` (batch, m) is 1 or 0.

        The sum is computed before the last matrix product, which is linear.
        """
        x = self._attended(x, keys)[:, -counted.shape[1] :]
        units = self._activation(self.linear1(x)) * counted[..., None]
        total = F.linear(units.sum(dim=1), self.linear2.weight) + (x * counted[..., None]).sum(dim=1)
        return total if self.linear2.bias is None else total + counted.sum(dim=1, keepdim=True) * self.linear2.bias

    def _attended(self, x: Tensor, keys: Keys) -> Tensor:
        x = self.norm1(x)
        return self.norm2(x + self.self_attn(x, keys))


class TranscriptFormer(nn.Module):
    """From genes with counts to the mean output of a cell.

    A gene's token is an MLP of its protein's vector: a row of a table, which `fill_table` computes once.
    """

    def __init__(
        self, protein: int, mlp: int, width: int, hidden: int, layers: int, values: list[int], settings: Settings
    ) -> None:
        super().__init__()
        # dropout was the last but one, and the tensors' names count it
        parts = (nn.Linear(protein, mlp), nn.ReLU(), nn.LayerNorm(mlp), nn.Identity(), nn.Linear(mlp, width))
        self.gene_embeddings = nn.ModuleDict({"mlp": nn.ModuleDict({"layers": nn.Sequential(*parts)})})
        tables = zip(settings.columns, values, strict=True)
        self.aux_embeddings = nn.ModuleDict({column: nn.Embedding(n, width) for column, n in tables})
        encoder = nn.ModuleList(Layer(width, hidden, settings) for _ in range(layers))
        self.transformer_encoder = nn.ModuleDict({"encoder_layers": encoder})
        self.width, self._settings = width, settings

    def fill_table(self, proteins: Tensor) -> None:
        """Compute the table of tokens from the vectors `proteins` (n, protein); `forward` takes its row numbers."""
        mlp = self.gene_embeddings["mlp"]["layers"]
        device = mlp[0].weight.device
        rows = torch.cat([mlp(part.float().to(device)) for part in torch.split(proteins, ROWS_AT_ONCE)])
        self.register_buffer("rows", rows, persistent=False)

    def forward(self, rows: Tensor, counts: Tensor, lengths: Tensor, values: Tensor, hidden: Tensor) -> Tensor:
        """Return (batch, width).

        Args:
            rows: START and genes as rows of the table, (batch, n).
            counts: 1 for START, then of the genes, (batch, n).
            lengths: number of tokens before the padding, which no token attends to, (batch,).
            values: the cell's value of each covariate, (batch, n_columns).
            hidden: True for a covariate that is unknown and not attended to, bool, (batch, n_columns).
        """
        covariates = [table(values[:, i]) for i, table in enumerate(self.aux_embeddings.values())]
        x = torch.cat([torch.stack(covariates, dim=1), self.rows[rows]], dim=1) if covariates else self.rows[rows]
        bias = torch.log1p(F.pad(counts, (len(covariates), 0), value=1.0) + self._settings.epsilon)
        keys = Keys(bias, hidden)
        if fused():
            n = x.shape[1]
            offset = F.pad(hidden.float() * HIDDEN, (0, n - hidden.shape[1]))
            keys = Keys(bias, hidden, offset, causal_blocks(n, x.device))
        counted = (torch.arange(rows.shape[1], device=rows.device) < lengths[:, None]).to(x.dtype)
        *others, last = self.transformer_encoder["encoder_layers"]
        for layer in others:
            x = layer(x, keys)
        return last.total(x, keys, counted) / self._settings.positions


def load_transcriptformer(checkpoint: Checkpoint, settings: Settings) -> TranscriptFormer:
    """Return the network of a checkpoint, with sizes read from its tensors."""
    tokens, protein = checkpoint.shape("gene_embeddings.embedding.weight", 2)
    if tokens < len(settings.special):
        raise CheckpointError(f"{checkpoint.path}: has {tokens} tokens, config.json names {len(settings.special)}")
    mlp, _ = checkpoint.shape("gene_embeddings.mlp.layers.0.weight", 2)
    width, _ = checkpoint.shape("gene_embeddings.mlp.layers.4.weight", 2)
    layers = checkpoint.count("transformer_encoder.encoder_layers")
    hidden, _ = checkpoint.shape("transformer_encoder.encoder_layers.0.linear1.weight", 2)
    values = [checkpoint.shape(f"aux_embeddings.{column}.weight", 2)[0] for column in settings.columns]
    checkpoint.check_heads(width, settings.heads)
    return checkpoint.load(lambda: TranscriptFormer(protein, mlp, width, hidden, layers, values, settings), UNUSED)
