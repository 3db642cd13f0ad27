"""Tiny data for tests: counts with a few cell types, as an author would publish them and as splits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from cellgauge.data.make_split import make_split

TYPES = ("T cell", "B cell", "monocyte")
PREFIX = {"human": "ENSG", "mouse": "ENSMUSG"}


def published(n_cells: int = 120, n_genes: int = 60, organism: str = "human", seed: int = 0) -> anndata.AnnData:
    """Return raw counts, CSR float32 (n_cells, n_genes): three types, four donors, two tissues, Ensembl ids with versions.

    The i-th genes of two organisms are orthologues: "GENE<i>" in human is "Gene<i>" in mouse, with the same expression.
    """
    generator = np.random.default_rng(seed)
    codes = generator.permutation(np.arange(n_cells) % len(TYPES))
    profile = np.random.default_rng(99).gamma(0.5, 4.0, (len(TYPES), n_genes))
    depth = generator.gamma(5.0, 0.3, (n_cells, 1))
    counts = generator.poisson(profile[codes] * depth)
    counts[:, 0] += 1  # no empty cell
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(np.asarray(TYPES)[codes]),
            "donor_id": pd.Categorical([f"donor{i % 4}" for i in range(n_cells)]),
            "tissue": pd.Categorical(np.where(np.arange(n_cells) % 3 == 0, "Large Intestine", "Lung")),
            "assay": pd.Categorical(["10x"] * n_cells),
        },
        index=[f"{organism}-cell{i}" for i in range(n_cells)],
    )
    symbol = "GENE{}" if organism == "human" else "Gene{}"
    var = pd.DataFrame(
        {"feature_name": [symbol.format(i) for i in range(n_genes)]},
        index=[f"{PREFIX[organism]}{i:011d}.{i % 3 + 1}" for i in range(n_genes)],
    )
    return anndata.AnnData(csr_matrix(counts.astype(np.float32)), obs, var)


def orthologue_table(path: Path, n_genes: int = 60) -> Path:
    """Write the table of one-to-one orthologues of `published` human and mouse genes."""
    pairs = {"human": [f"GENE{i}" for i in range(n_genes)], "mouse": [f"Gene{i}" for i in range(n_genes)]}
    pd.DataFrame(pairs).to_csv(path, index=False)
    return path


def orthologues(path: Path) -> list[dict[str, object]]:
    """Return the split option `orthologues` of a table with the columns human and mouse."""
    return [{"path": str(path), "columns": {"human": "human", "mouse": "mouse"}}]


def options(**changes: object) -> dict[str, object]:
    """Return the split options that fit `published` human cells."""
    return {
        "dataset": "tiny",
        "split": "human",
        "organism": "human",
        "label": "cell_type",
        "donor": "donor_id",
        "batch": ["assay", "donor_id"],
        "ensembl": "index",
        "symbol": "feature_name",
        **changes,
    }


def split_file(folder: Path, organism: str = "human", **changes: object) -> Path:
    """Write the published cells of an organism and a split made of them; return the split's path."""
    sizes = {key: changes.pop(key) for key in ("n_cells", "n_genes", "seed") if key in changes}
    source = folder / f"{organism}_published.h5ad"
    published(organism=organism, **sizes).write_h5ad(source)
    target = folder / f"{changes.get('split', organism)}.h5ad"
    make_split(source, target, options(organism=organism, split=changes.pop("split", organism), **changes))
    return target


def as_json(value: object) -> str:
    """Return `value` as the scripts' --options take it."""
    return json.dumps(value)


PARTS = dict.fromkeys(["GENE0+ctrl", "GENE1+ctrl", "GENE2+ctrl", "GENE0+GENE1", "ctrl+GENE3"], "train")
PARTS |= {"GENE1+GENE2": "val"}
PARTS |= dict.fromkeys(["GENE2+GENE0", "GENE1+GENE4", "GENE4+ctrl", "GENE3+GENE1"], "test")


def screen(n_cells: int = 400, n_genes: int = 40, seed: int = 0, parts: Mapping[str, str] = PARTS) -> anndata.AnnData:
    """Return a screen as cz-benchmarks publishes them: X log-normalised, layers["counts"], obs["condition"] and ["split"].

    What a gene does is a shift of a fifth of the genes, and pairs do both. Rates of genes 10 to 12 are zero.

    Args:
        parts: the part of each condition ("train", "val", "test"), named by GENE0, GENE1, ...; by default singles of GENE0 to
            GENE4 and pairs of them.
    """
    generator = np.random.default_rng(seed)
    targets = {gene for condition in parts for gene in condition.split("+")} - {"ctrl"}
    n_targets = 1 + max(int(gene[4:]) for gene in targets)
    names = ["ctrl", "ctrl", "ctrl", *parts]
    conditions = generator.permutation([names[i % len(names)] for i in range(n_cells)])
    base = np.random.default_rng(7).gamma(1.0, 3.0, n_genes)
    base[10:13] = 0
    shape = (n_targets, n_genes)
    shifts = np.random.default_rng(8).normal(0, 1, shape) * (np.random.default_rng(9).random(shape) < 0.2)
    effect = np.asarray(
        [sum(shifts[int(g[4:])] for g in c.split("+") if g != "ctrl") + np.zeros(n_genes) for c in conditions]
    )
    counts = generator.poisson(base * np.exp(effect)).astype(np.float32)
    counts[:, 0] += 1
    expression = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 100).astype(np.float32)
    obs = pd.DataFrame(
        {
            "condition": pd.Categorical(conditions),
            "split": pd.Categorical([parts.get(c, "train") for c in conditions]),
            "batch_of": pd.Categorical((np.arange(n_cells) % 2).astype(str)),
        },
        index=[f"cell{i}" for i in range(n_cells)],
    )
    var = pd.DataFrame(
        {"feature_name": [f"GENE{i}" for i in range(n_genes)]}, index=[f"ENSG{i:011d}" for i in range(n_genes)]
    )
    return anndata.AnnData(csr_matrix(expression), obs, var, layers={"counts": csr_matrix(counts)})


def screen_options(**changes: object) -> dict[str, object]:
    """Return the split options that fit `screen`."""
    return {
        "dataset": "tiny_screen",
        "split": "k562",
        "organism": "human",
        "label": "condition",
        "modality": "perturbation",
        "counts": "layers/counts",
        "expression": "X",
        "partition": "split",
        "ensembl": "index",
        "symbol": "feature_name",
        **changes,
    }
