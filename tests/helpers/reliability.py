"""The table of docs/reliability.md: one row per test that is marked `reliability`, made by `make reliability`."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
IN_FULL = os.environ.get("CELLGAUGE_RELIABILITY") == "1"
"""Whether tests try as often as docs/reliability.md says; else they take a small sample of the tries."""
HEAD = """# Reliability: injected faults

Whatever fails around cellgauge, no result is lost, no file is left incomplete and no damaged file is used. Each row is a test
that injects a fault and checks the outcome. `make reliability` runs them all and writes this table.

| fault | how it was injected | tries | outcome | as claimed |
|---|---|---|---|---|
"""
HOLDS = {"passed": "yes", "skipped": "not run", "failed": "**no**", "error": "**no**"}


def write(path: Path, reports: Mapping[str, Sequence[Any]]) -> None:
    """Write the rows of the marked tests that ran; rows of other tests stay.

    Args:
        reports: pytest's reports by outcome, the worst last. Parametrized tests share a row; their tries are added.
    """
    rows = {row[:2] + row[3:4]: (int(row[2]), row[4]) for row in read(path)} if path.exists() else {}
    ran: dict[tuple[str, ...], tuple[int, str]] = {}
    for kind, holds in HOLDS.items():
        for report in reports[kind]:
            if mark := dict(getattr(report, "user_properties", ())).get("reliability"):
                key = (mark["fault"], mark["provoked"], mark["outcome"])
                ran[key] = (ran.get(key, (0, ""))[0] + mark["tries"], holds)
    lines = (f"| {f} | {p} | {n} | {o} | {holds} |\n" for (f, p, o), (n, holds) in sorted((rows | ran).items()))
    path.write_text(HEAD + "".join(lines), encoding="utf-8")


def read(path: Path) -> list[tuple[str, ...]]:
    """Return the rows of the table: fault, how it was provoked, tries, outcome, whether it holds."""
    lines = path.read_text(encoding="utf-8").rpartition("---|\n")[2].splitlines()
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]


def marks() -> Iterator[tuple[str, str, str]]:
    """Yield fault, how it is provoked and outcome of every marked test, read from the source."""
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.reliability":
                texts = {word.arg: word.value for word in node.keywords}
                yield tuple(ast.literal_eval(texts[name]) for name in ("fault", "provoked", "outcome"))
