"""Tiny checkpoints with random weights, in the layouts of the official ones, for genes of the caller's choice."""

from __future__ import annotations

import json
import pickle
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForMaskedLM

from cellgauge.models.aido_cell.network import AidoCell, Settings
from cellgauge.models.scgpt.network import ScGPT
from cellgauge.models.scvi.network import ScVI
from cellgauge.models.transcriptformer.network import Settings as TranscriptFormerSettings
from cellgauge.models.transcriptformer.network import TranscriptFormer
from cellgauge.models.uce.network import UCE
from cellgauge.predictors.scgenept.network import ScGenePT


def scgpt(folder: Path, symbols: Sequence[str], seed: int = 0) -> Path:
    """Write args.json, vocab.json and best_model.pt, with flash-attn's names and unused heads."""
    folder.mkdir(parents=True)
    names = [*symbols, "<pad>", "<cls>", "<eoc>"]
    torch.manual_seed(seed)
    state = ScGPT(len(names), 16, 24, 2, 4).state_dict()
    _fill(state)
    state = {name.replace("self_attn.in_proj_", "self_attn.Wqkv."): tensor for name, tensor in state.items()}
    torch.save({**state, "decoder.fc.0.weight": torch.ones(2, 2)}, folder / "best_model.pt")
    (folder / "vocab.json").write_text(json.dumps({name: index for index, name in enumerate(names)}))
    args = {"embsize": 16, "nheads": 4, "d_hid": 24, "nlayers": 2, "pad_token": "<pad>", "pad_value": -2}
    (folder / "args.json").write_text(json.dumps({**args, "input_emb_style": "continuous", "n_bins": 51}))
    return folder


def uce(
    folder: Path,
    symbols: dict[str, Sequence[str]],
    seed: int = 0,
    checkpoint: str = "4layer_model.torch",
    layers: int = 2,
) -> Path:
    """Write a .torch and model_files/ for the genes of species by their official names, such as human or macaca_mulatta."""
    scientific = {
        "human": "Homo_sapiens.GRCh38",
        "mouse": "Mus_musculus.GRCm39",
        "macaca_mulatta": "Macaca_mulatta.Mmul_10",
    }
    files = folder / "model_files"
    (files / "protein_embeddings").mkdir(parents=True)
    torch.manual_seed(seed)
    offsets, lines, first = {}, ["gene_symbol,chromosome,start,species"], 4
    for name in sorted(symbols):
        offsets[name], first = first, first + len(symbols[name])
        vectors = {symbol: torch.randn(10) for symbol in symbols[name]}
        torch.save(vectors, files / "protein_embeddings" / f"{scientific[name]}.gene_symbol_to_embedding_ESM2.pt")
        lines += [f"{symbol},{'12X'[i % 3]},{1000 * i + 7},{name}" for i, symbol in enumerate(symbols[name])]
    (files / "species_offsets.pkl").write_bytes(pickle.dumps(offsets))
    (files / "species_chrom.csv").write_text("\n".join(lines) + "\n")
    state = UCE(1536, 10, 64, 32, layers, 1, [20, 12, 12, 12]).state_dict()
    _fill(state)
    state["pe_embedding.weight"] = torch.randn(first + 3 * len(symbols), 10)
    state["pe_embedding.weight"][0] = 0
    torch.save({**state, "binary_decoder.3.bias": torch.ones(1)}, folder / checkpoint)
    return folder


def aido_cell(
    folder: Path,
    symbols: Sequence[str],
    norm: str = "LayerNorm",
    bias: bool = True,
    seed: int = 0,
    more: Sequence[str] = ("C1orf112", "ZZZ3"),
    layers: int = 2,
) -> Path:
    """Write config.json, model.safetensors and the list of genes, which has some `more`."""
    folder.mkdir(parents=True)
    genes = [*symbols, *more]
    torch.manual_seed(seed)
    state = AidoCell(len(genes) + 2, 6, 16, 24, layers, Settings(2, 1.0, norm, 1e-5, bias)).state_dict()
    _fill(state)
    save_file({f"bert.{name}": tensor for name, tensor in state.items()}, folder / "model.safetensors")
    config = {"num_attention_heads": 2, "bin_alpha": 1.0, "normalization_type": norm, "layer_norm_eps": 1e-5}
    config |= {"num_hidden_layers": layers, "hidden_size": 16, "intermediate_size": 24, "bin_num": 6}
    config |= {"max_position_embeddings": len(genes)}
    config |= {"add_linear_bias": bias, "hidden_act": "swiglu", "position_embedding_type": "absolute"}
    (folder / "config.json").write_text(json.dumps(config))
    lines = ["gene_name\tindex", *(f"{gene}\t{index}" for index, gene in enumerate(genes))]
    (folder / "OS_scRNA_gene_index.19264.tsv").write_text("\n".join(lines) + "\n")
    return folder


def geneformer(folder: Path, genes: Mapping[str, str], seed: int = 0, **changes: object) -> Path:
    """Write config.json, model.safetensors with its head, and the dictionaries, for {name in capitals: gene}."""
    (folder / "gene_dictionaries").mkdir(parents=True)
    names = ["<pad>", "<mask>", "<cls>", "<eos>", *dict.fromkeys(genes.values())]
    sizes = {"vocab_size": len(names), "max_position_embeddings": 64, "hidden_size": 16, "intermediate_size": 24}
    layers = {"num_hidden_layers": 3, "num_attention_heads": 4, "hidden_act": "relu", "pad_token_id": 0}
    config = BertConfig(**{**sizes, **layers, **changes})
    torch.manual_seed(seed)
    state = {name: tensor.clone() for name, tensor in BertForMaskedLM(config).state_dict().items()}
    state = {name: tensor for name, tensor in state.items() if ".decoder." not in name}  # tied to other tensors
    _fill(state)
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(config.to_json_string())
    medians = np.random.default_rng(seed).uniform(0.5, 5, len(names))
    dictionaries = {
        "token_dictionary": {name: index for index, name in enumerate(names)},
        "gene_median_dictionary": dict(zip(names[4:], medians, strict=False)),
        "ensembl_mapping_dict": dict(genes),
    }
    for name, content in dictionaries.items():
        (folder / "gene_dictionaries" / f"{name}_gc95M.pkl").write_bytes(pickle.dumps(content))
    return folder


def scvi(folder: Path, genes: Sequence[str], seed: int = 0, **settings: object) -> Path:
    """Write model.pt with all that scvi-tools saves: tensors, names of genes, registry and history of the training."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    state = ScVI(len(genes), 12, 2, 6).state_dict()
    counters = {name: tensor for name, tensor in state.items() if not tensor.is_floating_point()}
    _fill({name: tensor for name, tensor in state.items() if name not in counters})
    for name, tensor in state.items():
        if name.endswith("running_var"):
            tensor.abs_()
    state = {name.replace("fc_layers.", "fc_layers.Layer "): tensor for name, tensor in state.items()}
    names = np.asarray(genes, dtype=object)
    registry = defaultdict(dict, X={"column_names": names, "n_cells": np.int64(9), "kept": np.ones(3, dtype=bool)})
    content = {
        "model_state_dict": OrderedDict(
            {**state, "px_r": torch.ones(2), "decoder.x.bias": torch.ones(2), "pyro_param_store": {"params": {}}}
        ),
        "var_names": names,
        "attr_dict": {
            "init_params_": {"non_kwargs": {"n_latent": 6}, "kwargs": {"kwargs": settings}},
            "registry_": {"field_registries": registry},
            "history_": {"elbo_train": pd.DataFrame({"elbo_train": [3.0, 2.0]}, index=pd.RangeIndex(2, name="epoch"))},
        },
    }
    torch.save(content, folder / "model.pt")
    return folder


def transcriptformer(
    folder: Path, trained: dict[str, Sequence[str]], added: dict[str, Sequence[str]] | None = None, seed: int = 0
) -> Path:
    """Write config.json, model_weights.pt, vocabs/ and beside it all_embeddings/, for Ensembl ids of species by names such as
    homo_sapiens.
    """
    (folder / "vocabs").mkdir(parents=True)
    special = ["unknown", "[PAD]", "[START]", "[END]", "[RD]", "[CELL]", "[MASK]"]
    model = {
        "num_heads": 2,
        "num_layers": 2,
        "seq_len": 40,
        "softcap": 10,
        "log_counts_eps": 1e-6,
        "activation": "gelu",
    }
    model |= {"attn_bias": False, "fw_bias": False}
    data = {"special_tokens": special, "aux_cols": "assay", "clip_counts": 30}
    data["esm2_mappings"] = [f"{name}_gene.h5" for name in trained]
    config = {"model": {"model_config": model, "data_config": data}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocabs/assay_vocab.json").write_text(json.dumps({"unknown": 0, "10x": 1}))
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(len(special), 10, generator=generator)]
    files = {f"vocabs/{name}": genes for name, genes in trained.items()}
    files |= {f"../all_embeddings/{name}": genes for name, genes in {**trained, **(added or {})}.items()}
    (folder.parent / "all_embeddings").mkdir(exist_ok=True)
    for name, genes in files.items():
        vectors = torch.randn(len(genes), 10, generator=torch.Generator().manual_seed(len(genes)))
        rows += [vectors] if name.startswith("vocabs") else []
        with h5py.File(folder / f"{name}_gene.h5", "w") as file:
            file["keys"] = [gene.encode() for gene in genes]
            for gene, vector in zip(genes, vectors, strict=True):
                file[f"arrays/{gene}"] = vector.numpy()
    settings = TranscriptFormerSettings.parse(config, folder)
    state = TranscriptFormer(10, 12, 16, 24, 2, [2], settings).state_dict()
    _fill(state)
    table = torch.cat(rows)
    state |= {"gene_embeddings.embedding.weight": table, "mu.gene_embedding.weight": torch.ones(len(table), 1)}
    for head, inputs, outputs in (("mu.mlp", 32, 1), ("gene_id_head", 16, len(table))):  # which no embedding needs
        layers = {"0": torch.ones(8, inputs), "4": torch.ones(outputs, 8)}
        state |= {f"{head}.layers.{name}.weight": weight for name, weight in layers.items()}
        state |= {f"{head}.layers.{name}.bias": weight[:, 0].clone() for name, weight in layers.items()}
        state |= {f"{head}.layers.2.{name}": torch.ones(8) for name in ("weight", "bias")}
    torch.save(state, folder / "model_weights.pt")
    return folder


def scgenept(
    folder: Path, symbols: Sequence[str], text: str = "gopt_encoder_f", seed: int = 0, level: float | None = None
) -> Path:
    """Write vocab.json and a .pt with flash-attn's names, a table of texts in double precision and an unused head.

    What it predicts is of the size of the tests' log-normalised expression, or lies close to `level`.
    """
    folder.mkdir(parents=True)
    names = [*symbols, "<pad>", "<cls>", "<eoc>"]
    torch.manual_seed(seed)
    state = ScGenePT(16, 10, 24, 2, 8).state_dict()
    _fill(state)
    if level is None:
        state["decoder.fc.4.bias"] -= 1.7
    else:
        state["decoder.fc.4.weight"] *= 0.01
        state["decoder.fc.4.bias"].fill_(level)
    state["encoder.embedding.weight"] = torch.randn(len(names), 16)
    state["text_encoder.embedding.weight"] = torch.randn(len(names), 10, dtype=torch.float64)
    projection = "proj_layer" if text == "genept_encoder" else "fc"
    state = {
        name.replace("self_attn.in_proj_", "self_attn.Wqkv.")
        .replace("text_encoder.fc.", f"{text}.{projection}.")
        .replace("text_encoder.", f"{text}."): tensor
        for name, tensor in state.items()
    }
    torch.save({**state, "cls_decoder.out_layer.bias": torch.ones(1)}, folder / "best_model_seed_42.pt")
    (folder / "vocab.json").write_text(json.dumps({name: index for index, name in enumerate(names)}))
    return folder


def make(family: str, folder: Path, symbols: Sequence[str], ids: Sequence[str]) -> Path:
    """Write a checkpoint of a family for human genes of these symbols and Ensembl ids."""
    genes = {
        "uce": {"human": symbols},
        "aido_cell": symbols[:60],  # every gene of its list is a token: more would be slow and test nothing else
        "geneformer": {gene: gene for gene in ids},
        "transcriptformer": {"homo_sapiens": ids},
        "scvi": ids,
    }
    return globals()[family](folder, genes.get(family, symbols))


def _fill(state: dict[str, torch.Tensor]) -> None:
    """Draw all weights anew: some modules are made without, and a norm of ones would hide a mistake."""
    for tensor in state.values():
        tensor.normal_(0.1, 0.3)


HUMAN = [f"GENE{i}" for i in range(60)]
ENSEMBL = [f"ENSG{i:011d}" for i in range(60)]
MAKE = {
    "scgpt": lambda folder: scgpt(folder, HUMAN[5:]),
    "uce": lambda folder: uce(folder, {"human": HUMAN[5:], "mouse": [f"Gene{i}" for i in range(40)]}),
    "aido_cell": lambda folder: aido_cell(folder, HUMAN[5:]),
    "geneformer": lambda folder: geneformer(folder, {gene: gene for gene in ENSEMBL[5:]}),
    "transcriptformer": lambda folder: transcriptformer(
        folder, {"homo_sapiens": ENSEMBL[5:]}, {"mus_musculus": [f"ENSMUSG{i:011d}" for i in range(40)]}
    ),
    "scvi": lambda folder: scvi(folder, ENSEMBL[5:]),
}
