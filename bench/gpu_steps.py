"""The steps of `bench/gpu_check.py`, each a process of its own: python bench/gpu_steps.py STEP [FAMILY] --folder F ...

A step writes what it measures as JSON lines while it goes, so that one that fails or runs out of time leaves the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests" / "helpers"), str(ROOT / "workflow" / "scripts")]


@dataclass(frozen=True)
class Shape:
    """The published size of a transformer, as far as its arithmetic goes.

    Attributes:
        products: weights of a layer that every token is multiplied with.
        last: those of the last layer that an embedding needs for every token; the rest is computed for one token.
        causal: whether a token attends to those before it alone, half of all.
        attends_last: whether the last layer's attention is of all tokens.
    """

    layers: int
    width: int
    products: int
    last: int
    causal: bool = False
    attends_last: bool = True

    def flop(self, tokens: float) -> float:
        """Return the operations that the embedding of a cell needs: 2 for a weight, 4 x width for a pair of tokens."""
        pairs = 4 * tokens * tokens * self.width / (2 if self.causal else 1)
        whole = self.layers - 1
        return 2 * tokens * (whole * self.products + self.last) + pairs * (whole + self.attends_last)


def _post_norm(layers: int, width: int, hidden: int) -> Shape:
    """Return the shape of an encoder whose output at the first token is the embedding: keys and values suffice at last."""
    return Shape(layers, width, 4 * width**2 + 2 * width * hidden, 2 * width**2, attends_last=False)


@dataclass(frozen=True)
class Family:
    """What is measured of a model.

    Attributes:
        adapter: of cellgauge/models, and the official path of bench/official.
        title: the model, and the cells if they are special.
        cells: which cells of the folder.
        tokens: of a cell, where the arrays of a mini-batch do not show them; 0 where they do.
        short, long: cells of the runs: short in any precision, long in the fastest (about 4 s at 40 % of an H100's peak).
        official: cells of the two runs of the official path, and its options; none for what would take too long.
        ours: options under which both sides sample the same genes.
    """

    adapter: str
    title: str
    cells: str
    shape: Shape
    short: int
    long: int
    official: tuple[int, int] = (0, 0)
    official_options: Mapping[str, object] = field(default_factory=dict)
    ours: Mapping[str, object] = field(default_factory=dict)
    tokens: int = 0


SAMPLE = {"random_stream": "official"}
FAMILIES = {
    "scgpt": Family(
        *("scgpt", "scGPT whole human", "plain", _post_norm(12, 512, 512), 2048, 20_000, (128, 640)),
        {"batch_size": 64},
        SAMPLE,
    ),
    "uce": Family(
        *("uce", "UCE, 4 layers", "plain", _post_norm(4, 1280, 5120), 512, 8192, (32, 160)),
        {"batch_size": 1, "min_cells": 0, "min_genes": 0},  # in larger batches its padding changes the embedding
        SAMPLE,
    ),
    "geneformer": Family(
        *("geneformer", "Geneformer 12L-95M, 4,096 tokens", "deep"),
        # the embedding is the output before the last layer
        *(Shape(11, 512, 4 * 512**2 + 2 * 512 * 1024, 4 * 512**2 + 2 * 512 * 1024), 256, 2560, (16, 64)),
        {"batch_size": 16},
    ),
    "transcriptformer": Family(
        *("transcriptformer", "TF-Sapiens, 600 genes", "shallow"),
        # the last product is of the sum over tokens
        *(Shape(12, 2048, 6 * 2048**2, 5 * 2048**2, causal=True), 256, 4096, (8, 32)),
        {"batch_size": 8},
    ),
    "aido_cell": Family(
        *("aido_cell", "AIDO.Cell-3M", "plain"),
        *(Shape(6, 128, 4 * 128**2 + 3 * 128 * 320, 4 * 128**2 + 3 * 128 * 320), 96, 1024, (4, 16)),
        {"batch_size": 1},
        tokens=19_266,
    ),
    "uce_33l": Family("uce", "UCE, 33 layers", "plain", _post_norm(33, 1280, 5120), 64, 1024, ours=SAMPLE),
}
REHEARSAL = (4, 12)  # cells of the short and the long run with tiny networks
REHEARSAL_OPTIONS = {"aido_cell": {"min_matched_genes": 0.001}, "uce": {"sample_size": 64}}


@dataclass(frozen=True)
class Context:
    """Where a step reads and writes.

    Attributes:
        folder: what `gpu_bundle.py` made.
        scratch: of this check alone: checkpoints, splits, embeddings.
        lines: the file that takes the results.
        device: "cuda:0", or "cpu" in a rehearsal.
        ends: when the step must end, as time.monotonic counts.
    """

    folder: Path
    scratch: Path
    lines: Path
    device: str
    rehearse: bool
    ends: float

    @property
    def precisions(self) -> tuple[str, ...]:
        return ("fp32", "bf16") if self.device == "cpu" else ("fp32", "tf32", "bf16")

    def emit(self, kind: str, **row: Any) -> None:
        """Append a result: `kind` is the table that it belongs to."""
        with self.lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **row}, default=_plain) + "\n")

    def part(self, measure: Callable[[], Mapping[str, Any]], kind: str, **about: Any) -> None:
        """Emit what a part measures. Where it fails, or no time is left for it, the error is its result."""
        try:
            if time.monotonic() > self.ends:
                raise TimeoutError("no time was left")
            row = measure()
        except Exception as error:
            row = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"}
        self.emit(kind, **about, **row)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def machine(context: Context) -> None:
    """Emit what the machine is, and its ceilings: products of large matrices, a large copy."""
    import torch

    facts = {
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "cpu_cores": os.cpu_count(),
        "memory_gb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9,
    }
    if context.device != "cpu":
        properties = torch.cuda.get_device_properties(0)
        facts |= {"card": properties.name, "card_memory_gb": properties.total_memory / 1e9, "cuda": torch.version.cuda}
        query = ["nvidia-smi", "-i", "0", "--query-gpu=driver_version", "--format=csv,noheader"]
        facts["driver"] = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    edge = 256 if context.rehearse else 8192
    for precision in context.precisions:
        kind = torch.bfloat16 if precision == "bf16" else torch.float32
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        first, second = (torch.randn(edge, edge, device=context.device).to(kind) for _ in range(2))
        seconds = _seconds(lambda a=first, b=second: a @ b, context.device, 3 if precision == "fp32" else 10)
        facts[f"{precision}_tflops"] = 2 * edge**3 / seconds / 1e12
    numbers = torch.empty(2**16 if context.rehearse else 2**31, dtype=torch.uint8, device=context.device).random_()
    target = torch.empty_like(numbers)
    seconds = _seconds(lambda: target.copy_(numbers), context.device, 10)
    facts["copy_gb_per_s"] = 2 * len(numbers) / seconds / 1e9
    context.emit("machine", **facts)


def _seconds(function: Callable[[], Any], device: str, times: int) -> float:
    """Return the median seconds of a call, after two that do not count."""
    import torch

    wait = torch.cuda.synchronize if device != "cpu" else lambda: None
    taken = []
    for _ in range(times + 2):
        wait()
        began = time.perf_counter()
        function()
        wait()
        taken.append(time.perf_counter() - began)
    return sorted(taken[2:])[times // 2]


def golden(context: Context, *families: str) -> None:
    """Emit how far the golden cases (those of some families, or all) are from the official vectors, in every precision."""
    from gpu_golden import CASES

    folder = context.scratch / "golden"
    folder.mkdir()
    for family in families or CASES:
        case = cache(partial(CASES[family], folder))
        for precision in context.precisions:
            about = {"family": family, "precision": precision}
            context.part(lambda f=family, c=case, p=precision: _golden(context, f, c(), p), "golden", **about)


def _golden(context: Context, family: str, case: Any, precision: str) -> dict[str, float]:
    """Return how far our vectors of a `gpu_golden.Golden` are from the official ones."""
    import numpy as np

    options = {**case.options, "precision": precision}
    if case.conditions:
        from cellgauge.predictors.base import load_predictor
        from cellgauge.screens.screen import Screen

        screen, predict = Screen.open(case.split), load_predictor(family).predict
        predicted = predict(screen, case.weights, device=context.device, **options)
        cells = {response.condition: response.cells for response in predicted.responses}
        return _distance(np.concatenate([cells[condition] for condition in case.conditions]), case.expected)
    output = context.scratch / f"golden_{family}.h5ad"
    return _distance(
        _embed(context, family, case.split, case.weights, output, **options).matrix[case.rows], case.expected
    )


def _embed(context: Context, adapter: str, split: Path, weights: Path, output: Path, **options: Any) -> Any:
    """Embed by the entry that the workflow's jobs use; return the embedding, its matrix read."""
    from cellgauge.files.embedding import Embedding
    from cellgauge.models.base import embed_files

    embed_files(adapter, [split], output, weights=weights, options={"device": context.device, **options})
    embedding = Embedding.read(output)
    assert embedding.matrix.shape == embedding.shape  # read while the file is there
    output.unlink()
    return embedding


def _distance(ours: Any, expected: Any) -> dict[str, float]:
    """Return the largest difference, the largest value, and the lowest cosine of an embedded row."""
    import numpy as np

    ours, expected = ours.astype(np.float64), expected.astype(np.float64)
    if ours.shape != expected.shape:
        raise ValueError(f"shape {ours.shape}, expected {expected.shape}")
    rows = np.isfinite(expected).all(axis=1)
    if not np.isfinite(ours[rows]).all():
        raise ValueError("values that are not finite")
    ours, expected = ours[rows], expected[rows]
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(expected, axis=1)
    cosines = (ours * expected).sum(axis=1) / np.maximum(norms, 1e-300)
    return {
        "largest_difference": float(np.abs(ours - expected).max()),
        "largest_value": float(np.abs(expected).max()),
        "lowest_cosine": float(cosines.min()),
    }


# --- cells and checkpoints --------------------------------------------------------------------------------------------


def sizes(name: str, rehearse: bool) -> dict[str, int]:
    """Return the number of cells of each split of a family."""
    family = FAMILIES[name]
    if rehearse:
        few, many = REHEARSAL if any(family.official) else (0, 0)
        return {"short": REHEARSAL[0], "long": REHEARSAL[1], "official_few": few, "official_many": many}
    few, many = family.official
    return {"short": family.short, "long": family.long, "official_few": few, "official_many": many}


def prepare(context: Context, name: str) -> None:
    """Write the splits and the checkpoint of a family below the scratch folder."""
    from cellgauge.files.split import Split

    family, home = FAMILIES[name], context.scratch / name
    home.mkdir(parents=True)
    base = context.folder / "cells" / f"{family.cells}.h5ad"
    for label, n_cells in sizes(name, context.rehearse).items():
        if n_cells:
            repeat_cells(base, home / f"{label}.h5ad", n_cells)
    split = Split.open(base)
    write_checkpoint(name, home / "weights", split.symbols.tolist(), split.genes.tolist(), tiny=context.rehearse)
    (home / "ready").touch()


def repeat_cells(base: Path, target: Path, n_cells: int) -> None:
    """Write a split of the first `n_cells` cells of another, from its first anew where it has fewer; ids are cell0, ..."""
    import numpy as np

    from cellgauge.files.split import Split, write_split

    data = Split.open(base).to_anndata()
    data = data[np.arange(n_cells) % data.n_obs].copy()
    data.obs_names, data.uns["split"] = [f"cell{row}" for row in range(n_cells)], target.stem
    write_split(target, data)


def write_checkpoint(name: str, folder: Path, symbols: Sequence[str], genes: Sequence[str], *, tiny: bool) -> None:
    """Write random weights in the published size, or those of the tests."""
    if tiny:
        import made_checkpoints

        made_checkpoints.make(FAMILIES[name].adapter, folder, symbols, genes)
        return
    import real_size

    folder.mkdir()
    writers = {"uce_33l": partial(real_size.uce, layers=33)}
    writers |= {family: recipe.write for family, recipe in real_size.FAMILIES.items()}
    writers[name](folder, symbols)


# --- speed ------------------------------------------------------------------------------------------------------------


class NullNetwork:
    """A network that returns zeros at once, and counts the tokens of the mini-batches, padding included."""

    def __init__(self, n_dims: int) -> None:
        self._n_dims, self._tokens, self._cells = n_dims, 0, 0

    def __call__(self, *arrays: Any) -> Any:
        import torch

        self._cells += len(arrays[0])
        self._tokens += arrays[0].shape[0] * arrays[0].shape[1]
        return torch.zeros(len(arrays[0]), self._n_dims, device=arrays[0].device)

    @property
    def tokens_per_cell(self) -> float:
        return self._tokens / max(1, self._cells)


@dataclass
class Observed:
    """What the loop over mini-batches was seen to do: when it began and ended, by the day's clock, and a cell's tokens."""

    began: float = 0.0
    ended: float = 0.0
    tokens_per_cell: float = 0.0


@contextmanager
def observed(adapter: str, *, null: bool = False) -> Iterator[Observed]:
    """Observe `embed_split` of an adapter; with `null`, let it run with a network that returns at once."""
    from cellgauge.models.base import load_adapter

    module = load_adapter(adapter)
    seen, original = Observed(), module.embed_split

    def embed_split(split: Any, encoder: Any, **options: Any) -> Any:
        network = NullNetwork(encoder.n_dims)
        if null:
            encoder.forward = network
        seen.began = time.time()
        try:
            return original(split, encoder, **options)
        finally:
            seen.ended, seen.tokens_per_cell = time.time(), network.tokens_per_cell

    module.embed_split = embed_split
    try:
        yield seen
    finally:
        module.embed_split = original


class Utilization:
    """Samples of nvidia-smi every tenth of a second: how much of the time a kernel ran."""

    def __init__(self, device: str) -> None:
        self._text, self._process = bytearray(), None
        if device != "cpu":
            command = ["nvidia-smi", "--query-gpu=timestamp,utilization.gpu", "--format=csv,noheader,nounits"]
            # a terminal, because a program may hold back what it writes to a pipe or a file
            self._master, slave = pty.openpty()
            self._process = subprocess.Popen(
                [*command, "-lms", "100", "-i", "0"], stdout=slave, stderr=subprocess.DEVNULL
            )
            os.close(slave)
            threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while part := os.read(self._master, 4096):
                self._text += part
        except OSError:
            pass  # the end of the process is an error of its terminal

    def between(self, began: float, ended: float) -> dict[str, float]:
        """Return the mean share of the time in which a kernel ran, between two times, as time.time gives them."""
        shares = [share for at, share in self.samples(self._text.decode()) if began <= at <= ended]
        return {"smi_busy": sum(shares) / len(shares), "smi_samples": len(shares)} if shares else {}

    @staticmethod
    def samples(text: str) -> Iterator[tuple[float, float]]:
        """Yield the time and the share of each line of nvidia-smi; lines cut short or without a value are left out."""
        for line in text.rpartition("\n")[0].splitlines():
            when, _, percent = line.partition(",")
            try:
                yield datetime.strptime(when.strip(), "%Y/%m/%d %H:%M:%S.%f").timestamp(), float(percent) / 100
            except ValueError:
                continue

    def close(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()


NOT_FACTS = {"model", "adapter", "dataset", "split", "splits", "organism", "params", "seed", "device", "versions"}
NOT_FACTS |= {"shared_space", "expression_tasks", "revision", "species", "proteins"}


def family(context: Context, name: str) -> None:
    """Emit the speed of a family in every precision, that of the host alone, its kernels, and the official path beside it."""
    about, home = FAMILIES[name], context.scratch / name
    _wait_for(home / "ready", context)
    options = dict(REHEARSAL_OPTIONS.get(about.adapter, {})) if context.rehearse else {}
    watch = Utilization(context.device)
    embed = partial(_run, context, name, watch)
    matrices: dict[str, Any] = {}

    def measure(run: str, split: str, **given: Any) -> dict[str, Any]:
        row, embedding = embed(split, **{**options, **given})
        matrices[run] = embedding.matrix
        return row

    def host() -> dict[str, Any]:
        row, _ = embed("long", null=True, **options, precision="fp32")
        tokens = about.tokens or row["tokens_per_cell"]
        context.emit("arithmetic", family=name, tokens=tokens, gflop_per_cell=about.shape.flop(tokens) / 1e9)
        return row

    speed, fastest = partial(context.part, kind="speed", family=name, title=about.title), context.precisions[-1]
    speed(host, run="host")
    speed(lambda: measure("default", "short"), run="default")
    speed(lambda: measure(fastest, "long", precision=fastest), run=fastest)
    quick = name == "uce_33l"  # its checkpoint is read anew by every run
    for precision in () if quick else context.precisions[:-1]:
        speed(lambda p=precision: measure(p, "short", precision=p), run=precision)
    for run in sorted(set(matrices) - {"fp32"}) if "fp32" in matrices else ():
        rows = slice(min(len(matrices[run]), len(matrices["fp32"])))
        context.part(
            lambda r=run, n=rows: _distance(matrices[r][n], matrices["fp32"][n]), "deviation", family=name, run=run
        )
    if not quick:
        context.part(lambda: _profile(context, embed, {**options, "precision": fastest}), "kernels", family=name)
    if any(about.official):
        _official(context, name, embed, options)
    watch.close()


def compiled(context: Context, name: str) -> None:
    """Emit the speed of a family with compiled layers, which the workflow chooses for long runs alone."""
    from cellgauge.inference import device

    about, home = FAMILIES[name], context.scratch / name
    _wait_for(home / "ready", context)
    device.COMPILE_FROM = 0.0
    options = dict(REHEARSAL_OPTIONS.get(about.adapter, {})) if context.rehearse else {}
    watch = Utilization(context.device)
    options["precision"] = context.precisions[-1]
    for run, split in (("compiling", "short"), ("compiled", "long")):
        context.part(
            lambda s=split: _run(context, name, watch, s, **options)[0],
            "speed",
            family=name,
            title=about.title,
            run=run,
        )
    watch.close()


def _wait_for(path: Path, context: Context) -> None:
    while not path.exists():
        if time.monotonic() > context.ends or path.with_name("failed").exists():
            raise TimeoutError(f"{path.parent.name}: cells and checkpoint are not ready")
        time.sleep(0.2)


def _run(
    context: Context, name: str, watch: Utilization, split: str, *, null: bool = False, **options: Any
) -> tuple[dict[str, Any], Any]:
    """Embed a split of a family; return what was measured and the embedding."""
    home = context.scratch / name
    with observed(FAMILIES[name].adapter, null=null) as seen:
        began = time.perf_counter()
        embedding = _embed(
            context, FAMILIES[name].adapter, home / f"{split}.h5ad", home / "weights", home / "out.h5ad", **options
        )
        seconds = time.perf_counter() - began
    facts = {name: value for name, value in embedding.uns.items() if name not in NOT_FACTS}
    row = {"cells": embedding.shape[0], "seconds": seconds, "loop_seconds": seen.ended - seen.began, **facts}
    row |= {} if null else watch.between(seen.began, seen.ended)
    if null:
        row["tokens_per_cell"] = seen.tokens_per_cell
    return row, embedding


def _profile(context: Context, embed: Callable, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the GPU seconds of a cell in kernels and copies, and the kernels that take most, from PyTorch's profiler."""
    from torch.profiler import ProfilerActivity, profile

    activity = ProfilerActivity.CPU if context.device == "cpu" else ProfilerActivity.CUDA
    with profile(activities=[activity]) as profiled:
        row, _ = embed("short", **options)
    spent: list[tuple[float, int, str]] = []
    for event in profiled.key_averages():
        own = getattr(event, "self_device_time_total", None) or getattr(event, "self_cuda_time_total", 0)
        own = event.self_cpu_time_total if context.device == "cpu" else own
        spent.append((own / 1e6, event.count, event.key))
    total = sum(seconds for seconds, _, _ in spent)
    copies = sum(seconds for seconds, _, key in spent if key.startswith("Memcpy"))
    top = [{"kernel": key[:100], "seconds": s, "calls": n} for s, n, key in sorted(spent, reverse=True)[:12]]
    return {
        "cells": row["cells"],
        "busy_seconds": total,
        "copy_seconds": copies,
        "loop_seconds": row["loop_seconds"],
        "cells_per_busy_second": row["cells"] / total if total else 0.0,
        "top": top,
    }


def _official(context: Context, name: str, embed: Callable, options: Mapping[str, Any]) -> None:
    """Emit what a cell costs on the official path, in fp32 and under autocast to bf16, and how far ours is from it in fp32."""
    import importlib

    import torch

    about, home = FAMILIES[name], context.scratch / name
    given = dict(about.official_options)
    if context.rehearse and about.adapter == "uce":
        given["sample_size"] = REHEARSAL_OPTIONS["uce"]["sample_size"]
    matrices: dict[str, Any] = {}
    few, many = (sizes(name, context.rehearse)[f"official_{size}"] for size in ("few", "many"))

    def time_official(precision: str) -> dict[str, Any]:
        path, taken = importlib.import_module(f"official.{about.adapter}"), {}
        torch.backends.mha.set_fastpath_enabled(
            precision == "fp32"
        )  # it knows no autocast on a CPU, and is off on a GPU
        for split in ("official_few", "official_few", "official_many"):  # the first warms up
            began = time.perf_counter()
            with torch.autocast(context.device.partition(":")[0], torch.bfloat16, enabled=precision == "bf16"):
                rows = path.embed(home / f"{split}.h5ad", home / "weights", device=context.device, **given)
            taken[split] = time.perf_counter() - began
        matrices[precision] = rows
        seconds = (taken["official_many"] - taken["official_few"]) / (many - few)
        return {"cells": many, "seconds_per_cell": seconds}

    def compare() -> dict[str, Any]:
        _, ours = embed("official_many", **{**options, **about.ours, "precision": "fp32"})
        return _distance(ours.matrix, matrices["fp32"])

    for precision in ("fp32", "bf16"):
        context.part(lambda p=precision: time_official(p), "official", family=name, precision=precision)
    context.part(compare, "against_official", family=name)


SCORED = ((10_000, 512), (50_000, 512))


def scoring(context: Context, where: str) -> None:
    """Emit the seconds of the scorers' heavy parts on `where`, "cpu" (numpy, one thread) or "gpu"."""
    import numpy as np
    import synthetic
    from threadpoolctl import threadpool_limits

    from cellgauge.metrics.classifiers import k_nearest_neighbors, logistic_regression
    from cellgauge.metrics.knn.exact import nearest_neighbors
    from cellgauge.metrics.silhouette import silhouette_widths

    device = None if where == "cpu" else context.device
    for n_cells, n_dims in ((300, 16), (600, 16)) if context.rehearse else SCORED:
        data = synthetic.cells(n_cells, n_dims)
        matrix, codes = data["matrix"], np.unique(data["label"], return_inverse=True)[1]
        test = np.arange(n_cells) % 5 == 0
        train, asked, known = matrix[~test], matrix[test], codes[~test]
        n_classes = int(codes.max()) + 1
        parts = {
            "neighbors": lambda m=matrix: nearest_neighbors(m, 15, device=device)[0],
            "silhouette": lambda m=matrix, c=codes: silhouette_widths(m, c, device),
            "logistic regression": lambda t=train, c=known, a=asked, n=n_classes: (
                logistic_regression(t, c, a, n, device=device)[0].probabilities
            ),
            "kNN": lambda t=train, c=known, a=asked, n=n_classes: (
                k_nearest_neighbors(t, c, a, n, 5, device).probabilities
            ),
        }
        if where == "gpu":  # the first call starts CUDA and loads its libraries: not a part's own cost
            nearest_neighbors(matrix[:2000], 15, device=device)
        for part, compute in parts.items():
            about = {"where": where, "part": part, "cells": n_cells, "dims": n_dims}
            stored = context.scratch / f"scores_{part.replace(' ', '_')}_{n_cells}.npy"
            with threadpool_limits(1):
                context.part(lambda c=compute, s=stored: _scored(c, s, where), "scoring", **about)


def _scored(compute: Callable[[], Any], stored: Path, where: str) -> dict[str, float]:
    """Return the seconds of a part of the scorers, and how far the GPU's result is from the CPU's, which is `stored`."""
    import numpy as np

    began, cpu = time.perf_counter(), time.process_time()
    result = np.asarray(compute())
    row = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
    if where == "cpu":
        np.save(stored, result, allow_pickle=False)
    elif stored.exists():
        row["largest_difference"] = float(np.abs(result - np.load(stored)).max())
    return row


def gpu_tests() -> list[Path]:
    """Return the test files of which some tests are skipped where there is no GPU."""
    return sorted(path for path in (ROOT / "tests").rglob("test_*.py") if "no GPU here" in path.read_text())


def tests(context: Context) -> None:
    """Run the tests that need a GPU; emit how many passed, and the names of those that did not."""
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "-p", "no:cacheprovider", *map(str, gpu_tests())]
    command += [
        "-k",
        "logistic and cpu" if context.rehearse else "cuda or gpu",
        f"--basetemp={context.scratch / 'pytest'}",
    ]
    left = max(1.0, context.ends - time.monotonic())
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=left, check=False)
        text = done.stdout + done.stderr
        found = re.findall(r"(\d+) (passed|failed|error|skipped)", text)
        counts: dict[str, Any] = {{"error": "errors"}.get(word, word): int(n) for n, word in found}
    except subprocess.TimeoutExpired as error:
        text = (error.stdout or b"").decode()
        counts = {**progress(text), "out_of_time": True}
    lines = text.splitlines()
    failing = [line[:300] for line in lines if line.startswith(("FAILED", "ERROR"))]
    context.emit("tests", **counts, failing=failing, tail=lines[-12:] if not counts or failing else [])


def progress(text: str) -> dict[str, int]:
    """Return how many tests pytest's lines of dots say have passed, failed and had errors, before it was stopped."""
    letters = "".join(line for line in text.splitlines() if re.fullmatch(r"[.sxXFE]+( +\[ *\d+%\])?", line))
    return {"passed": letters.count("."), "failed": letters.count("F"), "errors": letters.count("E")}


def memory(context: Context) -> None:
    """Emit whether mini-batches that do not fit are halved for real, with most of the card's memory taken by someone else.

    A batch is asked for that could not fit; the embedding must be that of batches that fit.
    """
    import torch

    name = "scgpt"
    _wait_for(context.scratch / name / "ready", context)
    unwatched = Utilization("cpu")
    _, plain = _run(context, name, unwatched, "short", precision="fp32")
    taken, left_gb = None, 0.0
    if context.device != "cpu":
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info()
        taken = torch.empty(max(0, free - 5 * 2**30), dtype=torch.uint8, device=context.device)
        left_gb = torch.cuda.mem_get_info()[0] / 1e9
    row, halved = _run(context, name, unwatched, "short", precision="fp32", tokens_per_batch=10**7)
    del taken
    distance = _distance(halved.matrix, plain.matrix)
    context.emit(
        "memory", family=name, cells=row["cells"], left_gb=left_gb, halved=row.get("halved_batches"), **distance
    )


STEPS = {step.__name__: step for step in (machine, golden, prepare, family, compiled, scoring, tests, memory)}


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("step", choices=STEPS)
    cli.add_argument(
        "about",
        nargs="*",
        help="the family of `prepare`, `family`, `compiled`, families of `golden`; cpu or gpu for `scoring`",
    )
    for name in ("folder", "scratch", "lines"):
        cli.add_argument(f"--{name}", type=Path, required=True)
    cli.add_argument("--device", default="cuda:0")
    cli.add_argument("--rehearse", action="store_true")
    cli.add_argument("--seconds", type=float, default=600, help="after which no further part begins")
    args = cli.parse_args()
    context = Context(
        args.folder.resolve(),
        args.scratch.resolve(),
        args.lines.resolve(),
        args.device,
        args.rehearse,
        time.monotonic() + args.seconds,
    )
    STEPS[args.step](context, *args.about)


if __name__ == "__main__":
    main()
