"""The page of what changed from one run to another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cellgauge.report import write_page
from cellgauge.results.changes import ALPHA, TINY, Change, Changes
from cellgauge.results.words import classifier, profile, subset_if_any

MOST = 500
"""How many scores are listed, those that changed first."""


def render_changes(changes: Changes, output: str | Path, links: Sequence[tuple[str, str]] = ()) -> None:
    """Write the page, one HTML file; `links` are (address, text) of its navigation."""
    listed = [change for change in changes.scores if change.verdict in ("better", "worse")]
    listed = changes.scores[: max(MOST, len(listed))]
    context = {
        "changes": changes,
        "rows": [_row(change, changes) for change in listed],
        "more": len(changes.scores) - len(listed),
        "added": list(_counted(changes.added, changes)),
        "gone": list(_counted(changes.gone, changes)),
        "alpha": ALPHA,
        "tiny": TINY,
    }
    write_page(output, "Changes", "changes.html", context, links)


def _row(change: Change, changes: Changes) -> dict[str, Any]:
    key, run = change.key, changes.after
    facts = run.about["config"].get("tasks", {}).get(key["task"], {}).get("metrics", {}).get(key["metric"], {})
    known = not math.isnan(change.low)
    scheme = [subset_if_any(key["subset"]), classifier(key["classifier"]), key["set"], profile(key["profile"])]
    return {
        "model": run.title("models", key["model"]),
        "task": run.title("tasks", key["task"]),
        "dataset": run.title("datasets", key["dataset"]),
        "metric": facts.get("title", key["metric"]),
        "scheme": ", ".join(filter(None, scheme)),
        "verdict": change.verdict,
        "called": change.verdict in ("better", "worse"),
        "before": _number(change.before),
        "after": _number(change.after),
        "difference": _number(change.difference, "+"),
        "interval": f"{_number(change.low, '+')} to {_number(change.high, '+')}" if known else "",
        "p": "" if not known else "<0.0001" if change.p_adjusted < 1e-4 else f"{change.p_adjusted:.2g}",
        "over": change.units or change.reason,
        "causes": ", ".join(change.causes) or "nothing recorded",
    }


def _number(value: float, sign: str = "-") -> str:
    return f"{value:{sign}.3f}".replace("-", "\N{MINUS SIGN}")


def _counted(counts: Mapping[tuple[str, str, str], int], changes: Changes) -> Iterator[tuple[str, str, str, int]]:
    for (task, dataset, model), n in counts.items():
        run = changes.after if model in changes.after.about["models"] else changes.before
        yield run.title("models", model), run.title("tasks", task), run.title("datasets", dataset), n
