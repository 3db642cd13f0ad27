"""Prepare the cells of a split for a network that returns at once; print as JSON what it took. See `bench_models.py --host`.

    python bench/host_rate.py FAMILY --split H5AD --weights FOLDER [--processes 2]

Everything before the network runs as in `embed_cells.py` on a GPU, with mini-batches of a GPU's size: reading, tokenizing,
collating. Without --processes one thread does it. Prints cells, CPU seconds (of all processes), seconds, and peak memory
in MiB (of this process, and of the largest of the others; Linux alone).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

from cellgauge.models.base import embed_files, load_adapter


def cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def largest_child_mb() -> float:
    """Return the highest peak of the processes at work; getrusage would count this one's memory when it started them."""
    peaks = [0]
    for process in multiprocessing.active_children():
        with suppress(OSError, IndexError):  # it has just ended
            status = Path(f"/proc/{process.pid}/status").read_text()
            peaks.append(int(status.split("VmHWM:")[1].split()[0]))
    return max(peaks) / 1024


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("family")
    cli.add_argument("--split", required=True)
    cli.add_argument("--weights", required=True)
    cli.add_argument("--processes", type=int, default=0)
    args = cli.parse_args()

    import numpy as np
    import torch

    from cellgauge.inference import run

    torch.set_num_threads(1)
    result: dict[str, Any] = {}

    def prepare_alone(split: Any, encoder: Any, *, cells_per_window: int | None = None, **_: Any) -> tuple[Any, dict]:
        cpu, wall = cpu_seconds(), time.perf_counter()
        pipeline = run.host_pipeline(
            split, encoder, run.default_tokens("cuda"), cells_per_window or 2048, args.processes
        )
        n_cells, child = 0, 0.0
        with pipeline as batches:
            for i, batch in enumerate(batches):
                n_cells += len(batch.rows)
                child = max(child, largest_child_mb()) if i % 20 == 0 else child
        result.update(cells=n_cells, largest_child_mb=child, cpu=cpu_seconds() - cpu, wall=time.perf_counter() - wall)
        return np.zeros((len(split.cells), encoder.n_dims), dtype=np.float32), {}

    load_adapter(args.family).embed_split = prepare_alone
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "embedding.h5ad"
        embed_files(args.family, [args.split], output, weights=args.weights, options={"device": "cpu"})
    result["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(result))


if __name__ == "__main__":
    main()
