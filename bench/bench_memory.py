"""Measure how the memory of a foundation model's job grows with the number of cells: tiny networks, made-up cells.

    python bench/bench_memory.py [--models scgpt uce ...] [--cells 5000 50000] [--genes 2000]

Each adapter embeds the fewer cells twice, then the more, in one process; prints as JSON, per model, the peak resident memory
of the last two in MiB (`peak_mb`), and by how many MiB the embedding that is returned grows (`embedding_mb`). Networks are
tiny because weights do not grow with cells. Needs /proc of Linux.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "helpers"), str(ROOT / "workflow" / "scripts")]

MODELS = {
    "scgpt": {},
    "uce": {"sample_size": 64},
    "aido_cell": {"min_matched_genes": 0.01},
    "geneformer": {},
    "transcriptformer": {},
}


def peak_mb() -> float:
    """Return the peak resident memory since the last call, in MiB."""
    status = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def write_split(path: Path, n_cells: int, symbols: list[str], density: float) -> None:
    """Write cells that express the first and a share of the other genes."""
    from real_size import write_split_of
    from scipy.sparse import random, vstack

    blocks = [
        random(1000, len(symbols), density, format="csr", dtype=np.float32, random_state=i)
        for i in range(-(-n_cells // 1000))
    ]
    counts = vstack(blocks, format="lil")[:n_cells]
    counts[:, 0] = 1  # no empty cell
    counts = counts.tocsr()
    counts.data = np.ceil(20 * counts.data)
    write_split_of(path, counts, symbols)


def write_checkpoint(model: str, folder: Path, symbols: list[str]) -> None:
    from made_checkpoints import make
    from real_size import made_up_ids

    make(model, folder, symbols, made_up_ids(symbols))


def growth(model: str, splits: list[Path], weights: Path) -> dict[str, object]:
    """Return what embedding each split takes."""
    from cellgauge.files.embedding import Embedding
    from cellgauge.models.base import embed_files

    peaks, sizes = [], []
    for split in (splits[0], *splits):  # the first time fills caches and is not counted
        peak_mb()
        output = split.with_suffix(f".{model}.h5ad")
        embed_files(model, [split], output, weights=weights, options={"device": "cpu", **MODELS[model]})
        peaks.append(peak_mb())
        found = Embedding.read(output)
        sizes.append(found.matrix.nbytes / 2**20)
        if found.uns["unembedded"]:
            sys.exit(f"error: {model} left out {found.uns['unembedded']} cells")
    return {"peak_mb": peaks[1:], "embedding_mb": sizes[-1] - sizes[0]}


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    cli.add_argument("--cells", type=int, nargs=2, default=[5000, 50_000])
    cli.add_argument("--genes", type=int, default=2000)
    cli.add_argument("--density", type=float, default=0.1, help="the share of genes that a cell expresses")
    args = cli.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, symbols = Path(scratch), [f"GENE{i}" for i in range(args.genes)]
        splits = [folder / f"cells{n_cells}.h5ad" for n_cells in args.cells]
        # in a process of its own, whose memory does not count
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
            for path, n_cells in zip(splits, args.cells, strict=True):
                other.submit(write_split, path, n_cells, symbols, args.density).result()
            for model in args.models:
                other.submit(write_checkpoint, model, folder / model / "weights", symbols).result()
        import torch

        torch.set_num_threads(1)
        found = {model: growth(model, splits, folder / model / "weights") for model in args.models}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
