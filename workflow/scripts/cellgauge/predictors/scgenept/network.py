"""scGenePT's network (Istrate et al. 2024, bioRxiv 10.1101/2024.10.23.619972; czi-ai/scGenePT, `scGenePT`).

scGPT's tokens and layers. The embedding of a text about a gene is added to the gene's token; the output is one number per gene,
its expression after the perturbation.
"""

import re

from torch import Tensor, nn

from cellgauge.inference.checkpoints import Checkpoint, CheckpointError
from cellgauge.inference.post_norm import PostNormEncoder, torch_name
from cellgauge.models.scgpt.network import ValueEncoder

UNUSED = (r"cls_decoder\.",)
TEXT_ENCODERS = re.compile(r"^(gopt_encoder_[a-z]+|genept_encoder)\.")
TABLES = ("encoder.embedding.weight", "text_encoder.embedding.weight")


class ScGenePT(nn.Module):
    """From expression of control cells and flags of perturbed genes to predicted expression.

    The part of a token that depends only on its gene is a row of a table, which `fill_table` computes once.
    """

    def __init__(self, width: int, text: int, hidden: int, layers: int, heads: int) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"enc_norm": nn.LayerNorm(width)})
        self.text_encoder = nn.ModuleDict({"fc": nn.Linear(text, width), "enc_norm": nn.LayerNorm(width)})
        self.value_encoder = ValueEncoder(width)
        self.pert_encoder = nn.Embedding(3, width)
        self.ln = nn.LayerNorm(width)
        self.transformer_encoder = PostNormEncoder(layers, width, hidden, heads)
        steps = (nn.Linear(width, width), nn.LeakyReLU(), nn.Linear(width, width), nn.LeakyReLU(), nn.Linear(width, 1))
        self.decoder = nn.ModuleDict({"fc": nn.Sequential(*steps)})

    def fill_table(self, embeddings: Tensor, texts: Tensor) -> None:
        """Compute the table of n genes from their embeddings (n, width) and those of their texts (n, text)."""
        rows = self.encoder["enc_norm"](embeddings.float())
        rows = rows + self.text_encoder["enc_norm"](self.text_encoder["fc"](texts.float()))
        self.register_buffer("gene_rows", rows, persistent=False)

    def forward(self, values: Tensor, perturbed: Tensor) -> Tensor:
        """Return the predicted expression of all genes, (batch, n).

        Args:
            values: log-normalized expression of control cells, (batch, n).
            perturbed: 1 for the genes that are perturbed, else 0; int64, (n,) for all cells or (batch, n).
        """
        x = self.ln(self.gene_rows + self.pert_encoder(perturbed) + self.value_encoder(values))
        for layer in self.transformer_encoder.layers:
            x = layer(x, None)
        return self.decoder["fc"](x)[..., 0]


def load_scgenept(checkpoint: Checkpoint, ids: Tensor, heads: int) -> ScGenePT:
    """Return the network of a checkpoint for the genes with these ids (n,), with sizes read from its tensors.

    Only the rows of `ids` are read from the two tables of all genes, which are most of the file.
    """
    texts = {match[1] for name in checkpoint.tensors if (match := TEXT_ENCODERS.match(name))}
    if len(texts) != 1:
        raise CheckpointError(
            f"{checkpoint.path}: has {len(texts)} encoders of gene texts ({', '.join(sorted(texts)) or 'none'}) instead of"
            " one; is this the right model?"
        )
    checkpoint = checkpoint.renamed(_uniform_name)
    n_genes, width = checkpoint.shape(TABLES[0], 2)
    n_texts, text = checkpoint.shape(TABLES[1], 2)
    if n_texts != n_genes or int(ids.max()) >= n_genes:
        raise CheckpointError(
            f"{checkpoint.path}: it has {n_genes} genes and {n_texts} texts, but the vocabulary uses gene id {int(ids.max())};"
            " the checkpoint and the vocabulary do not belong together"
        )
    checkpoint.check_heads(width, heads)
    layers = checkpoint.count("transformer_encoder.layers")
    hidden, _ = checkpoint.shape("transformer_encoder.layers.0.linear1.weight", 2)
    rest = {name: tensor for name, tensor in checkpoint.tensors.items() if name not in TABLES}
    network = Checkpoint(checkpoint.path, rest).load(lambda: ScGenePT(width, text, hidden, layers, heads), UNUSED)
    network.fill_table(*(checkpoint.tensors[name][ids] for name in TABLES))
    return network


def _uniform_name(name: str) -> str:
    """Return a tensor's name with the text encoder's prefix replaced by a common one and flash-attn's names by torch's."""
    return torch_name(TEXT_ENCODERS.sub("text_encoder.", name)).replace("text_encoder.proj_layer.", "text_encoder.fc.")
