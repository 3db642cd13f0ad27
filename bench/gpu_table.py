"""Write what GPUs were measured to do into docs/performance.md, from docs/gpu/*.json: one file for each card.

Only the standard library is needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CARDS = ROOT / "docs" / "gpu"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- docs/gpu: written by make docs -->", "<!-- docs/gpu: end -->"
NEVER = "Never run on a GPU: no card's file lies in docs/gpu yet.\n"
Rows = Sequence[Mapping[str, Any]]
COLUMNS = (
    "model",
    "precision",
    "cells/s",
    "share of peak",
    "GPU waits",
    "host alone, cells/s",
    "peak MB",
    "lowest cosine with fp32",
    "official, cells/s",
    "ratio",
)


def rows_of(result: Mapping[str, Any], kind: str) -> Rows:
    """Return the rows of a table that hold results, not errors."""
    return [row for row in result.get(kind, ()) if "error" not in row]


def errors_of(result: Mapping[str, Any]) -> list[str]:
    """Return what went wrong, a line each."""
    lines = [f"{row['step']}: {row['status']}" for row in result.get("steps", ()) if row["status"] != "done"]
    for kind, rows in result.items():
        for row in rows if isinstance(rows, list) else ():
            if "error" in row:
                about = [str(value) for name, value in row.items() if name != "error"]
                lines.append(f"{kind} {' '.join(about)}: {row['error']}")
    return lines


def speeds(result: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield a line of `COLUMNS` for each run of a family on the card; what was not measured is empty."""
    (machine, *_) = [*rows_of(result, "machine"), {}]
    arithmetic = {row["family"]: row["gflop_per_cell"] for row in rows_of(result, "arithmetic")}
    runs = {(row["family"], row["run"]): row for row in rows_of(result, "speed")}
    official = {(row["family"], row["precision"]): row["seconds_per_cell"] for row in rows_of(result, "official")}
    cosines = {(row["family"], row["run"]): row["lowest_cosine"] for row in rows_of(result, "deviation")}
    for (family, run), row in runs.items():
        if run in ("host", "default", "compiling"):
            continue
        speed = row["cells_per_second"]
        precision = row.get("precision", run)
        peak = machine.get(f"{precision}_tflops")
        host = runs.get((family, "host"), {}).get("cells_per_second")
        per_cell = official.get((family, precision))
        yield [
            str(row["title"]),
            f"{precision}, compiled" if run == "compiled" else str(precision),
            f"{speed:,.0f}",
            f"{speed * arithmetic[family] / 1e3 / peak:.0%}" if peak and family in arithmetic else "",
            f"{1 - row['smi_busy']:.0%}" if "smi_busy" in row else "",
            f"{host:,.0f}" if host else "",
            f"{row['peak_gpu_memory_mb']:,.0f}" if row.get("peak_gpu_memory_mb") else "",
            f"{cosines[family, run]:.6f}" if (family, run) in cosines else "",
            f"{1 / per_cell:,.1f}" if per_cell and per_cell > 0 else "",
            f"{speed * per_cell:.1f}" if per_cell and per_cell > 0 else "",
        ]


def table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in [columns, ["---"] * len(columns), *lines])


def golden(result: Mapping[str, Any]) -> Iterator[list[str]]:
    for row in rows_of(result, "golden"):
        yield [
            str(row["family"]),
            str(row["precision"]),
            f"{row['largest_difference']:.1e}",
            f"{row['largest_value']:.1e}",
            f"{row['lowest_cosine']:.6f}",
        ]


def scoring(result: Mapping[str, Any]) -> Iterator[list[str]]:
    rows = rows_of(result, "scoring")
    on_cpu = {(row["part"], row["cells"]): row for row in rows if row["where"] == "cpu"}
    for row in rows:
        other = on_cpu.get((row["part"], row["cells"]))
        if row["where"] == "gpu" and other:
            ratio = other["cpu_seconds"] / row["seconds"]
            differs = f"{row['largest_difference']:.1e}" if "largest_difference" in row else ""
            times = (f"{other['cpu_seconds']:.2f}", f"{row['seconds']:.2f}", f"{ratio:.1f}")
            yield [str(row["part"]), f"{row['cells']:,} x {row['dims']}", *times, differs]


def card(result: Mapping[str, Any]) -> str:
    """Return what a file says of a card, as Markdown."""
    (machine, *_) = [*rows_of(result, "machine"), {}]
    peaks = ", ".join(
        f"{machine[f'{p}_tflops']:.0f} in {p}" for p in ("fp32", "tf32", "bf16") if f"{p}_tflops" in machine
    )
    parts = [
        f"#### {machine.get('card', 'a card that was not named')}\n",
        f"{result['date']}, cellgauge {result['cellgauge'] or 'of an unknown commit'}, PyTorch {machine.get('torch', '?')},"
        f" driver {machine.get('driver', '?')}, {machine.get('cpu_cores', '?')} processor cores. Products of large matrices:"
        f" {peaks or '?'} TFLOP/s; copies: {machine.get('copy_gb_per_s', 0):,.0f} GB/s.\n",
        table(COLUMNS, speeds(result)),
    ]
    if lines := list(golden(result)):
        heads = ("golden vectors of", "precision", "largest difference", "largest value", "lowest cosine")
        parts.append(table(heads, lines))
    if lines := list(scoring(result)):
        heads = ("scoring", "cells x dims", "CPU s, one thread", "GPU s", "ratio", "largest difference")
        parts.append(table(heads, lines))
    parts += [f"{line}\n" for line in remarks(result)]
    return "\n".join(parts)


def remarks(result: Mapping[str, Any]) -> list[str]:
    """Return sentences on tests, on memory and on what went wrong."""
    lines = []
    for row in rows_of(result, "tests"):
        lines.append(
            f"Tests that need a GPU: {row.get('passed', 0)} passed, {row.get('failed', 0) + row.get('errors', 0)} failed"
            f"{'; no time was left for the others' if row.get('out_of_time') else ''}."
        )
    for row in rows_of(result, "memory"):
        lines.append(
            f"With {row['left_gb']:.1f} GB left, {row['family']} halved its batches {row['halved']} times; the embedding"
            f" differs by {row['largest_difference']:.1e} from that of batches that fit (largest value"
            f" {row['largest_value']:.1e})."
        )
    if errors := errors_of(result):
        lines.append("Not measured: " + "; ".join(errors) + ".")
    return lines


def summary(result: Mapping[str, Any]) -> str:
    """Return the tables as text, for the end of a check."""
    rehearsal = "This is a rehearsal on the CPU, with tiny networks: no number means anything.\n\n"
    return (rehearsal if result["rehearsal"] else "") + card(result)


def section(files: Iterable[Path]) -> str:
    """Return the section of docs/performance.md from the cards' files; rehearsals are not measurements."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(files)]
    cards = [card(result) for result in results if not result["rehearsal"]]
    return "\n".join(cards) or NEVER


def page(text: str, files: Iterable[Path]) -> str:
    """Return the page with the section in its place."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{section(files)}\n{END}{after}"


def main() -> None:
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), CARDS.glob("*.json")), encoding="utf-8")


if __name__ == "__main__":
    main()
