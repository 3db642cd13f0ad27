"""Checkpoints of the published sizes with random weights, in their official layouts, and real cells for them.

    python bench/real_size.py FAMILY FOLDER --baron H5AD --cells N [N ...]

Writes FOLDER/weights/ and a split FOLDER/N.h5ad of each size: the first cells of the largest. Counts are those of human
pancreas cells (Baron et al. 2016). Vocabularies have the published sizes: of the cells' genes they know about as many as the
real ones know, under the cells' own symbols; all other names, and all Ensembl ids, are made up.
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

import torch
from scipy.sparse import csr_matrix, vstack
from torch import nn

from cellgauge.files.split import write_split
from cellgauge.models.aido_cell.network import AidoCell, Settings
from cellgauge.models.scgpt.network import ScGPT
from cellgauge.models.transcriptformer.network import Settings as TranscriptFormerSettings
from cellgauge.models.transcriptformer.network import TranscriptFormer
from cellgauge.models.uce.network import UCE

SEED = 11
ASSAY = "inDrop"


def scgpt(folder: Path, symbols: Sequence[str]) -> None:
    """scGPT whole human: 60,697 entries, 12 layers of 512 dimensions, 8 heads."""
    names = [*_vocabulary(symbols, 60_694, 0.9), "<pad>", "<cls>", "<eoc>"]
    state = _weights(lambda: ScGPT(len(names), 512, 512, 12, 8))
    torch.save(
        {name.replace("self_attn.in_proj_", "self_attn.Wqkv."): t for name, t in state.items()},
        folder / "best_model.pt",
    )
    (folder / "vocab.json").write_text(json.dumps({name: index for index, name in enumerate(names)}))
    (folder / "args.json").write_text(json.dumps({"nheads": 8, "pad_token": "<pad>", "pad_value": -2}))


def uce(folder: Path, symbols: Sequence[str], layers: int = 4) -> None:
    """UCE of 4 layers, or 33: 1280 dimensions, 20 heads. Of the table of protein vectors only the human part is made."""
    names = _vocabulary(symbols, 19_790, 0.8)
    files, first, chromosomes = folder / "model_files", 4, [*map(str, range(1, 23)), "X", "Y", "MT"]
    (files / "protein_embeddings").mkdir(parents=True)
    vectors = dict.fromkeys(names, torch.zeros(1))  # of the file only the names are used
    torch.save(vectors, files / "protein_embeddings" / "Homo_sapiens.GRCh38.gene_symbol_to_embedding_ESM2.pt")
    (files / "species_offsets.pkl").write_bytes(pickle.dumps({"human": first}))
    lines = [f"{name},{chromosomes[i % 25]},{1000 * i},human" for i, name in enumerate(names)]
    (files / "species_chrom.csv").write_text("\n".join(["gene_symbol,chromosome,start,species", *lines]) + "\n")
    state = _weights(lambda: UCE(1536, 5120, 1280, 5120, layers, 20, [1024, 1280, 1280, 1280]))
    state["pos_encoder.pe"] = _sinusoids(1536, 1280)
    state["pe_embedding.weight"] = torch.randn(first + len(names) + len(chromosomes), 5120)
    torch.save(state, folder / f"{layers}layer_model.torch")


def aido_cell(folder: Path, symbols: Sequence[str]) -> None:
    """AIDO.Cell-3M: 19,264 genes, 6 layers of 128 dimensions; 4 heads, as is supposed, and 100 bins."""
    from safetensors.torch import save_file

    genes = _vocabulary(symbols, 19_264, 0.9)
    state = _weights(lambda: AidoCell(len(genes) + 2, 100, 128, 320, 6, Settings(4, 1.0, "LayerNorm", 1e-5, True)))
    save_file({f"bert.{name}": tensor for name, tensor in state.items()}, folder / "model.safetensors")
    config = {
        "num_attention_heads": 4,
        "num_hidden_layers": 6,
        "hidden_size": 128,
        "intermediate_size": 320,
        "bin_num": 100,
        "bin_alpha": 1.0,
        "max_position_embeddings": len(genes),
        "normalization_type": "LayerNorm",
        "layer_norm_eps": 1e-5,
        "add_linear_bias": True,
        "hidden_act": "swiglu",
        "position_embedding_type": "absolute",
    }
    (folder / "config.json").write_text(json.dumps(config))
    lines = ["gene_name\tindex", *(f"{gene}\t{index}" for index, gene in enumerate(genes))]
    (folder / "OS_scRNA_gene_index.19264.tsv").write_text("\n".join(lines) + "\n")


def geneformer(folder: Path, symbols: Sequence[str]) -> None:
    """Geneformer 12L-95M: 20,275 tokens, 12 layers of 512 dimensions, 8 heads, 4,096 positions."""
    from safetensors.torch import save_file
    from transformers import BertConfig

    from cellgauge.models.geneformer.network import Geneformer

    genes = _vocabulary(made_up_ids(symbols), 20_271, 0.85)
    config = {
        "model_type": "bert",
        "vocab_size": 4 + len(genes),
        "max_position_embeddings": 4096,
        "hidden_size": 512,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "intermediate_size": 1024,
        "hidden_act": "relu",
        "layer_norm_eps": 1e-12,
        "type_vocab_size": 2,
        "pad_token_id": 0,
    }
    head = {
        "cls.predictions.bias": (config["vocab_size"],),
        "cls.predictions.transform.dense.weight": (512, 512),
        "cls.predictions.transform.dense.bias": (512,),
        "cls.predictions.transform.LayerNorm.weight": (512,),
        "cls.predictions.transform.LayerNorm.bias": (512,),
    }
    save_file(_weights(lambda: Geneformer(BertConfig(**config)), head), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    medians = np.random.default_rng(SEED).uniform(
        0.5, 5, len(genes)
    )  # of any two genes different, so that no ranks tie
    dictionaries = {
        "token_dictionary": {name: i for i, name in enumerate(["<pad>", "<mask>", "<cls>", "<eos>", *genes])},
        "gene_median_dictionary": dict(zip(genes, medians.tolist(), strict=True)),
        "ensembl_mapping_dict": {gene: gene for gene in genes},
    }
    for name, dictionary in dictionaries.items():
        (folder / f"{name}_gc95M.pkl").write_bytes(pickle.dumps(dictionary))


def transcriptformer(folder: Path, symbols: Sequence[str]) -> None:
    """TF-Sapiens: 23,830 tokens, 12 layers of 2048 dimensions, 16 heads, 2,047 positions and one for the assay."""
    import h5py

    special = ["unknown", "[PAD]", "[START]", "[END]", "[RD]", "[CELL]", "[MASK]"]
    names, width, protein = _vocabulary(made_up_ids(symbols), 23_823, 0.9), 2048, 2560
    tokens = len(special) + len(names)
    settings = TranscriptFormerSettings(16, 2047, 10.0, 1e-6, "gelu", False, False, tuple(special), ("assay",))
    heads = {
        "gene_embeddings.embedding.weight": (tokens, protein),
        "gene_id_head.layers.0.weight": (width, width),
        "gene_id_head.layers.4.weight": (tokens, width),
        "gene_id_head.layers.4.bias": (tokens,),
        "mu.gene_embedding.weight": (tokens, 1),
        "mu.mlp.layers.0.weight": (width // 2, 2 * width),
        "mu.mlp.layers.4.weight": (1, width // 2),
        "mu.mlp.layers.4.bias": (1,),
        **{f"gene_id_head.layers.{name}": (width,) for name in ("0.bias", "2.weight", "2.bias")},
        **{f"mu.mlp.layers.{name}": (width // 2,) for name in ("0.bias", "2.weight", "2.bias")},
    }
    state = _weights(lambda: TranscriptFormer(protein, width, width, width, 12, [40], settings), heads)
    torch.save(state, folder / "model_weights.pt")
    (folder / "vocabs").mkdir()
    with h5py.File(folder / "vocabs" / "homo_sapiens_gene.h5", "w") as file:
        file["keys"] = np.asarray(names, dtype="S")
        for name, vector in zip(names, state["gene_embeddings.embedding.weight"][len(special) :].numpy(), strict=True):
            file[f"arrays/{name}"] = vector
    (folder / "vocabs" / "assay_vocab.json").write_text(json.dumps({"unknown": 0, ASSAY: 1}))
    model = {
        "num_heads": 16,
        "num_layers": 12,
        "seq_len": 2047,
        "softcap": 10,
        "log_counts_eps": 1e-6,
        "activation": "gelu",
        "attn_bias": False,
        "fw_bias": False,
    }
    data = {
        "special_tokens": special,
        "aux_cols": "assay",
        "esm2_mappings": ["homo_sapiens_gene.h5"],
        "clip_counts": 30,
    }
    (folder / "config.json").write_text(json.dumps({"model": {"model_config": model, "data_config": data}}))


# --- cells -----------------------------------------------------------------------------------------------------------


def some_cells(counts: csr_matrix, n_cells: int, generator: np.random.Generator) -> csr_matrix:
    """Return cells as they are, drawn without replacement as long as there are enough."""
    return counts[generator.choice(counts.shape[0], n_cells, replace=n_cells > counts.shape[0])]


def deep_cells(counts: csr_matrix, n_cells: int, generator: np.random.Generator) -> csr_matrix:
    """Return sums of some cells, each with more than 5,500 genes, so that 4,096 tokens are full: single cells have fewer."""
    deep = []
    for _ in range(n_cells):
        cell = counts[generator.integers(counts.shape[0])]
        while cell.nnz <= 5500:
            cell = cell + counts[generator.integers(counts.shape[0])]
        deep.append(cell)
    return vstack(deep, format="csr")


def shallow_cells(counts: csr_matrix, n_cells: int, generator: np.random.Generator) -> csr_matrix:
    """Return cells of about 600 genes that the model knows: others are left out at random."""
    cells = some_cells(counts, n_cells, generator)
    for start, stop in zip(cells.indptr, cells.indptr[1:], strict=False):
        lost = generator.permutation(np.arange(start, stop))[round(600 / 0.9) :]
        cells.data[lost] = 0
    cells.eliminate_zeros()
    return cells


@dataclass(frozen=True)
class Family:
    """How a family's checkpoint is written and its cells are made."""

    write: Callable[[Path, Sequence[str]], None]
    cells: Callable[[csr_matrix, int, np.random.Generator], csr_matrix] = some_cells


FAMILIES = {
    "scgpt": Family(scgpt),
    "uce": Family(uce),
    "aido_cell": Family(aido_cell),
    "geneformer": Family(geneformer, deep_cells),
    "transcriptformer": Family(transcriptformer, shallow_cells),
}


def write_cells(folder: Path, family: str, baron: Path, sizes: Sequence[int]) -> list[str]:
    """Write a split of each size; return the symbols."""
    import anndata

    published = anndata.read_h5ad(baron)
    counts = FAMILIES[family].cells(published.X.tocsr(), max(sizes), np.random.default_rng(SEED))
    symbols = published.var_names.tolist()
    for n_rows in sizes:
        write_split_of(folder / f"{n_rows}.h5ad", counts[:n_rows], symbols)
    return symbols


def write_split_of(path: Path, counts: csr_matrix, symbols: Sequence[str]) -> None:
    """Write cells as a split: counts (n_cells, n_genes) of genes with these symbols and made-up ids."""
    import anndata
    import pandas as pd

    data = anndata.AnnData(
        X=counts,
        obs=pd.DataFrame({"label": "cell", "assay": ASSAY}, index=[f"cell{row}" for row in range(counts.shape[0])]),
        var=pd.DataFrame({"feature_name": symbols}, index=made_up_ids(symbols)),
        uns={"dataset": "baron", "split": path.stem, "organism": "human"},
    )
    write_split(path, data)


# --- random weights --------------------------------------------------------------------------------------------------


def _vocabulary(symbols: Sequence[str], size: int, share: float) -> list[str]:
    """Return `size` names: that share of `symbols`, the rest made up, in a random order."""
    generator = np.random.default_rng(SEED)
    known = generator.choice(symbols, min(size, round(share * len(symbols))), replace=False).tolist()
    names = known + [f"MADE-UP{i}" for i in range(size - len(known))]
    return [names[i] for i in generator.permutation(size)]


def made_up_ids(symbols: Sequence[str]) -> list[str]:
    """Return made-up Ensembl ids for the genes of the cells."""
    return [f"ENSG{i:011d}" for i in range(len(symbols))]


def _weights(
    build: Callable[[], nn.Module], others: Mapping[str, tuple[int, ...]] = MappingProxyType({})
) -> dict[str, torch.Tensor]:
    """Return a state in which every layer keeps the scale of its input, so that cells stay apart from each other.

    Args:
        others: shapes of what only the official code has a use for.
    """
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in build().state_dict().items()}
    shapes |= others
    torch.manual_seed(SEED)
    state = {}
    for name, shape in shapes.items():
        if len(shape) > 1:
            state[name] = torch.randn(shape) / shape[-1] ** 0.5
        else:
            state[name] = 0.1 * torch.randn(shape) + float(name.endswith("weight"))
    return state


def _sinusoids(positions: int, width: int) -> torch.Tensor:
    """Return the encodings of positions (Vaswani et al. 2017), shape (positions, 1, width)."""
    angles = torch.arange(positions)[:, None] / 10_000 ** (torch.arange(0, width, 2) / width)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, None]


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("family", choices=list(FAMILIES))
    cli.add_argument("folder", type=Path)
    cli.add_argument("--baron", type=Path, required=True, help="raw-Baron_human.h5ad")
    cli.add_argument("--cells", type=int, nargs="+", required=True)
    args = cli.parse_args()
    (args.folder / "weights").mkdir(parents=True)
    symbols = write_cells(args.folder, args.family, args.baron, args.cells)
    FAMILIES[args.family].write(args.folder / "weights", symbols)


if __name__ == "__main__":
    main()
