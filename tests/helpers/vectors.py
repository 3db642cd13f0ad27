"""Vectors of the official codes (tests/golden): their cells as a split, and what our adapters make of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import anndata
import numpy as np

from cellgauge.files.embedding import Embedding
from cellgauge.files.split import Split
from cellgauge.models.base import embed_files

GOLDEN = Path(__file__).parents[1] / "golden"
AIDO_CELL_GENES = 19264


def split_of(case: Path, target: Path, organism: str = "human", rows: object = slice(None)) -> Path:
    """Write the input of a case as a split, as it is: some hold values that are no counts. `rows` selects cells."""
    data = anndata.read_h5ad(case / "input.h5ad")[rows].copy()
    data.uns = {"dataset": "golden", "split": case.name, "organism": organism}
    data.write_h5ad(target, compression="gzip")
    return target


def geneformer_split(case: Path, target: Path) -> Path:
    """Write Geneformer's input as a split whose genes are Ensembl ids without a version."""
    data = anndata.read_h5ad(split_of(case, target))
    ids = data.var["ensembl_id"].str.replace(r"\.\d+$", "", regex=True)  # as split_dataset.py does
    data.var_names, data.var["feature_name"] = ids.to_list(), ids.to_list()
    data.write_h5ad(target)
    return target


def transcriptformer_split(case: Path, target: Path) -> Path:
    """Write TranscriptFormer's input as a split: its ids are in a column."""
    data = anndata.read_h5ad(case / "input.h5ad")
    data.var_names = data.var["ensembl_id"].astype(str).to_numpy()
    data.uns = {"dataset": "golden", "split": case.name, "organism": "mouse"}
    data.write_h5ad(target)
    return target


def aido_cell_weights(case: Path, folder: Path) -> Path:
    """Copy AIDO.Cell's checkpoint, with a list of genes in which those of the input have their true positions."""
    shutil.copytree(case / "checkpoint", folder)
    header, *lines = (case / "genes_present.tsv").read_text().splitlines()
    symbols = {int(index): symbol for symbol, index in (line.split("\t") for line in lines)}
    genes = (f"{symbols.get(index, f'ABSENT{index}')}\t{index}" for index in range(AIDO_CELL_GENES))
    (folder / "OS_scRNA_gene_index.19264.tsv").write_text("\n".join([header, *genes]) + "\n")
    return folder


def scgenept_screen(case: Path, target: Path) -> Path:
    """Write scGenePT's input as a screen whose every condition is to be predicted, the control too."""
    data = anndata.read_h5ad(case / "dataset.h5ad")
    data.layers["expression"] = data.X
    data.obs["label"], data.obs["partition"] = data.obs["condition"], data.obs["split"]
    conditions = json.loads((case / "config.json").read_text())["perts"]
    held_out = json.dumps(dict.fromkeys(conditions, "unseen_single"))
    data.uns = {"dataset": "golden", "split": case.name, "organism": "human", "strata": held_out}
    data.write_h5ad(target)
    return target


def scgenept_weights(case: Path, name: str, folder: Path) -> Path:
    """Copy a checkpoint of scGenePT into a folder of its own beside the vocabulary."""
    folder.mkdir(exist_ok=True)
    (checkpoint,) = (case / "models/finetuned" / name / "norman").glob("*.pt")
    shutil.copy(checkpoint, folder)
    shutil.copy(case / "models/pretrained/scgpt/vocab.json", folder)
    return folder


def scgenept_panel(case: Path, target: Path) -> Path:
    """Write the genes that scGenePT was fine-tuned on, one a line."""
    target.write_text("\n".join(anndata.read_h5ad(case / "ref_adata.h5ad").var_names))
    return target


def embedding(adapter: str, split: Path, weights: Path, **options: object) -> Embedding:
    """Return what an adapter makes of a split, on the CPU."""
    output = split.with_name(f"{split.stem}_embedding.h5ad")
    embed_files(adapter, [split], output, weights=weights, options={"device": "cpu", **options})
    found = Embedding.read(output)
    assert found.matrix.shape == found.shape  # read while the file is there: the next embedding takes its place
    return found


def tokens(encoder: object, split: Path) -> list:
    """Return the records of all cells, in their order."""
    opened = Split.open(split)
    blocks = opened.count_blocks(7)  # other than the default, so that a block's end is met
    return [r for start, counts in blocks for r in encoder.tokenize(counts, opened.cells[start : start + 7])]


def same(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Assert that two matrices agree within an absolute tolerance."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
