"""Geneformer's encoder (Theodoris et al. 2023, Nature 618, 616-624): BERT, taken from transformers, without its heads."""

from typing import Any

from torch import Tensor, nn
from transformers import BertConfig, BertModel
from transformers.models.bert.modeling_bert import BertLayer

from cellgauge.inference.checkpoints import Checkpoint, CheckpointError
from cellgauge.inference.kernels import attend, compiled

UNUSED = (r"cls\.", r"bert\.pooler\.", r"bert\.embeddings\.position_ids$")
SIZES = (
    "vocab_size",
    "max_position_embeddings",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
)


class Geneformer(nn.Module):
    """From tokens to the hidden states after the last layer in use: of all tokens, or of the first only."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.bert = BertModel(config, add_pooling_layer=False)
        self.last: BertLayer | None = None

    def truncate(self, layers: int, *, first_only: bool) -> None:
        """Drop all layers after the first `layers`. With `first_only`, the last of those computes only the first token."""
        del self.bert.encoder.layer[layers:]
        if first_only:
            self.last = self.bert.encoder.layer.pop(layers - 1)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return (batch, n, width), or (batch, 1, width), for tokens (batch, n); `mask` is False on padding."""
        x = self.bert.embeddings(input_ids=tokens)
        for layer in self.bert.encoder.layer:
            x = _layer(layer, x, mask)
        return x if self.last is None else _output(self.last, x[:, :1], x, mask)


@compiled
def _layer(layer: BertLayer, tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Return a layer's output for all tokens (batch, n, width)."""
    return _output(layer, tokens, tokens, mask)


def _output(layer: BertLayer, queries: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Return a layer's output for `queries` (batch, m, width): the tokens (batch, n, width) themselves, or some of them."""
    attention = layer.attention.self
    inputs = ((attention.query, queries), (attention.key, tokens), (attention.value, tokens))
    heads = attention.num_attention_heads
    q, k, v = (project(x).unflatten(-1, (heads, -1)).transpose(1, 2) for project, x in inputs)
    attended = layer.attention.output(attend(q, k, v, mask).transpose(1, 2).flatten(2), queries)
    return layer.output(layer.intermediate(attended), attended)


def load_geneformer(checkpoint: Checkpoint, config: dict[str, Any], layer: int, *, first_only: bool) -> Geneformer:
    """Return the network of a checkpoint, without the layers after `layer`: 0 is the last, -1 the one before it.

    The tensors of dropped layers are checked like the others.
    """
    where = checkpoint.path.with_name("config.json")
    wrong = next((name for name in SIZES if type(config.get(name)) is not int or config[name] < 1), None)
    if wrong is not None or config.get("model_type") != "bert":
        fault = f"model_type {config.get('model_type')!r}" if wrong is None else f"{wrong} {config.get(wrong)!r}"
        raise CheckpointError(f"{where}: not the settings of a BERT such as Geneformer's ({fault})")
    layers = config["num_hidden_layers"]
    if not -layers < layer <= 0:
        raise CheckpointError(
            f"{checkpoint.path}: `layer` must be from {1 - layers} to 0 (the last layer), not {layer}"
        )
    checkpoint.check_heads(config["hidden_size"], config["num_attention_heads"])
    settings = BertConfig(**{**config, "use_cache": False, "is_decoder": False})
    network = checkpoint.load(lambda: Geneformer(settings), UNUSED)
    network.truncate(layers + layer, first_only=first_only)
    return network
