"""The embedding file of a split that several jobs embedded, each a shard of it (docs/adr/0043)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellgauge.core.errors import CellgaugeError, ContractError
from cellgauge.inference.several_splits import write_benchmark
from cellgauge.inference.windows import rows_of_shard

ADDED = ("wall_seconds", "cpu_seconds", "network_seconds", "gpu_seconds", "host_wait_seconds", "halved_batches")
LARGEST = ("peak_memory_mb", "peak_gpu_memory_mb", "fp32_max_deviation")
RATES = ("cells_per_second", "tokens_per_second", "gpu_utilization")
"""Means over the shards, weighted by their `network_seconds`."""
LISTED = ("device", "kernels", "kernels_that_failed", "rejected_precisions")
"""What may differ from machine to machine."""
OF_SHARD = ("unembedded",)
"""What the joined file says anew."""


def join_shards(
    shard_paths: Sequence[str | Path], split_path: str | Path, output: str | Path, benchmark: str | Path = ""
) -> None:
    """Write the embedding file of a split from those of its shards.

    Args:
        shard_paths: what `embed_files` wrote of every shard, in order.
        benchmark: where to write the seconds and CPU seconds of all shards together, and their highest peak of memory.

    Raises:
        CellgaugeError: shards of other cells, or that were computed differently.
    """
    import numpy as np

    from cellgauge.files.embedding import Embedding, write_embedding
    from cellgauge.files.split import Split

    split, matrix, facts = Split.open(split_path), None, []
    n_cells, end = len(split.cells), 0
    for number, path in enumerate(shard_paths, 1):
        rows, shard = rows_of_shard(n_cells, number, len(shard_paths)), Embedding.read(path)
        if not np.array_equal(shard.cells, split.cells[rows]):
            raise ContractError(
                f"{path}: its cells are not cells {rows.start + 1} to {rows.stop} of split {split.name}; delete it and run"
                " again"
            )
        if rows.start < end:
            continue
        end = rows.stop
        if matrix is None:
            matrix = np.empty((n_cells, shard.shape[1]), dtype=np.float32)
        if shard.shape[1] != matrix.shape[1]:
            raise ContractError(f"{path}: {shard.shape[1]} dimensions, the shards before have {matrix.shape[1]}")
        matrix[rows] = shard.matrix
        facts.append(shard.uns)
    joined = merged(facts, f"split {split.name} of {split.dataset}")
    write_embedding(output, matrix, split.cells, [split], joined)
    if benchmark:
        write_benchmark(Path(benchmark), joined)


def merged(facts: Sequence[Mapping[str, Any]], where: str) -> dict[str, Any]:
    """Return what the facts of shards say of the whole.

    Raises:
        CellgaugeError: the shards differ in what must be the same, such as the precision or the checkpoint.
    """
    names = dict.fromkeys(name for of_shard in facts for name in of_shard if name not in OF_SHARD)
    return {name: _merged(name, facts, where) for name in names}


def _merged(name: str, facts: Sequence[Mapping[str, Any]], where: str) -> Any:
    values = [of_shard[name] for of_shard in facts if name in of_shard]
    if name in RATES:
        seconds = [float(of_shard.get("network_seconds", 0)) for of_shard in facts if name in of_shard]
        return sum(v * s for v, s in zip(values, seconds, strict=True)) / max(sum(seconds), 1e-9)
    if name in ADDED or name.startswith("cells_of_"):
        return sum(values)
    if name in LARGEST:
        return max(values)
    if name == "fp32_min_cosine":
        return min(values)
    if name in LISTED:
        return ", ".join(dict.fromkeys(map(str, values)))
    if len(values) < len(facts) or any(value != values[0] for value in values):
        differing = ", ".join(dict.fromkeys(str(of_shard.get(name, "nothing")) for of_shard in facts))
        raise CellgaugeError(
            f"{where}: its shards were embedded differently, `{name}` is {differing}; give the model's `params` a value of"
            " it, or leave `run.shard_cells` out"
        )
    return values[0]
