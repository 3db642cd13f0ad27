"""One job that embeds several splits, one after the other: the checkpoint is read once, and a split that is done stays done.

Snakemake removes all outputs of a job that fails. Each embedding is therefore kept beside its place, under a name that holds a
digest of all that it was made from, until every split of the job is embedded. The next attempt takes what it can from there.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cellgauge.inference.adapter_job import Stopwatch

DIGEST_LENGTH = 16


def embed_several(
    embed: Callable[..., None],
    adapter: str,
    split_paths: Sequence[str | Path],
    outputs: Sequence[str | Path],
    *,
    weights: str | Path | None = None,
    model: str = "",
    options: Mapping[str, Any] | None = None,
    code: str = "",
    benchmarks: Sequence[str | Path] = (),
) -> None:
    """Embed each split and write its embedding file.

    Args:
        embed: `cellgauge.models.base.embed_files`, which embeds one split.
        split_paths, outputs: the splits, and the embedding file of each.
        weights, model, options: see there.
        code: a digest of the code that embeds: what other code began is not taken up.
        benchmarks: where to write seconds, CPU seconds and peak MiB of each split, as Snakemake does for a job of one.
    """
    added_species = (options or {}).get("species_files", {}).values()
    files = [path for source in (weights, *added_species) for path in _files(source)]
    stages = []
    for number, (split, output) in enumerate(zip(map(Path, split_paths), map(Path, outputs), strict=True)):
        digest = _digest(adapter, model, options, code, [split, *files])
        stage = output.with_name(f".{output.stem}.{digest}.h5ad")
        for stale in output.parent.glob(f".{output.stem}.*.h5ad"):
            if stale != stage:
                stale.unlink()
        stages.append((stage, output))
        if stage.exists():
            print(f"{output.stem}: embedded by an earlier attempt")
            continue
        clock = Stopwatch()
        embed(adapter, [split], stage, weights=weights, model=model, options=options)
        print(f"{output.stem}: embedded, {number + 1} of {len(outputs)}", flush=True)
        if benchmarks:
            write_benchmark(Path(benchmarks[number]), clock.read())
    for stage, output in stages:
        stage.replace(output)


def _digest(adapter: str, model: str, options: Mapping[str, Any] | None, code: str, files: Sequence[Path]) -> str:
    """Return a digest of what an embedding is made from; files count by path, size and time of their last change."""
    stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    text = json.dumps([adapter, model, dict(options or {}), code, stats], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def _files(weights: str | Path | None) -> list[Path]:
    """Return the files of a checkpoint, or of an added species."""
    if weights is None:
        return []
    return sorted(path for path in Path(weights).rglob("*") if path.is_file()) or [Path(weights)]


def write_benchmark(path: Path, used: Mapping[str, float]) -> None:
    """Write what `Stopwatch.read` returns as Snakemake writes a benchmark."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = (used["wall_seconds"], used["peak_memory_mb"], used["cpu_seconds"])
    path.write_text("s\tmax_rss\tcpu_time\n" + "\t".join(map(str, values)) + "\n", encoding="utf-8")
