"""Is what somebody hands in a run of cellgauge, whole and consistent? provenance.json and scores.parquet are read again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cellgauge.core.errors import one_line
from cellgauge.files.score import STATUSES
from cellgauge.results.catalogue import metrics_of
from cellgauge.results.changes import PublishedRun, scores_file
from cellgauge.results.provenance import PARQUET_KEY, repeatable
from cellgauge.results.uncertainty import SCORE_KEY

if TYPE_CHECKING:
    import pandas as pd

MOST = 3
"""How many examples a sentence gives."""
ROUNDING = 1e-9


def verify(folder: str | Path) -> tuple[PublishedRun, list[str]]:
    """Return a run and one sentence for each thing that is wrong with it.

    What is checked: both files can be read and belong together, the rows keep the contract of score rows, they name what the
    configuration names, values lie in their metric's range, and means over folds are the means of their folds. Raise
    CellgaugeError where a file is missing or cannot be read at all.
    """
    run = PublishedRun.read(folder)
    checks = (_metadata(run), _rows(run.scores), _names(run), _values(run), _folds(run.scores))
    return run, [fault for faults in checks for fault in faults]


def _metadata(run: PublishedRun) -> Iterator[str]:
    import pyarrow.parquet

    path = scores_file(run.folder)
    text = (pyarrow.parquet.read_schema(path).metadata or {}).get(PARQUET_KEY)
    if text is None:
        yield f"{path.name} contains no provenance"
        return
    try:
        inside = json.loads(text)
    except ValueError as error:
        yield f"the provenance in {path.name} is not JSON ({one_line(error)})"
        return
    outside = repeatable(run.about)
    if inside != outside:
        keys = sorted({*inside, *outside}) if isinstance(inside, Mapping) else []
        differing = [key for key in keys if inside.get(key) != outside.get(key)]
        yield f"the provenance in {path.name} is not that of provenance.json (it differs in {', '.join(differing) or 'all'})"


def _rows(scores: pd.DataFrame) -> Iterator[str]:
    import numpy as np
    import pandas as pd

    value, ok = pd.to_numeric(scores["value"], errors="coerce"), scores["status"] == "ok"
    yield from _some(scores[~scores["status"].isin(STATUSES)], "have an unknown status")
    yield from _some(scores[ok & ~np.isfinite(value)], "have status ok but no number")
    yield from _some(
        scores[~ok & (value.notna() | (scores["reason"] == ""))], "have no status ok, but a value or no reason"
    )
    yield from _some(scores[scores["source"] != ""], "are published values")
    yield from _some(scores[scores.duplicated([*SCORE_KEY, "seed", "fold"]) & ok], "appear more than once")


def _names(run: PublishedRun) -> Iterator[str]:
    config = run.about["config"]
    known = {"task": config.get("tasks", {}), "model": run.about["models"], "dataset": config.get("datasets", {})}
    for column, names in known.items():
        if unknown := sorted({*run.scores[column]} - {*names}):
            yield f"rows name a {column} that the configuration of the run lacks: {', '.join(unknown[:MOST])}"


def _values(run: PublishedRun) -> Iterator[str]:
    ok = run.scores[run.scores["status"] == "ok"]
    for task, metric, facts in metrics_of(run.about["config"].get("tasks", {})):
        low, high = facts.get("range") or (None, None)
        rows = ok[(ok["task"] == task) & (ok["metric"] == metric)]
        below = rows["value"] < low - ROUNDING if low is not None else rows["value"].isna()
        above = rows["value"] > high + ROUNDING if high is not None else rows["value"].isna()
        yield from _some(rows[below | above], f"are outside the range of {metric}")


def _folds(scores: pd.DataFrame) -> Iterator[str]:
    """Find means that are not those of their folds."""
    ok = scores[(scores["status"] == "ok") & scores["seed"].isna() & (scores["condition"] == "")]
    means = ok[ok["fold"].notna()].groupby(SCORE_KEY)["value"].mean().rename("of_folds")
    whole = ok[ok["fold"].isna()].join(means, on=SCORE_KEY)
    apart = (whole["value"] - whole["of_folds"]).abs() > ROUNDING * (1 + whole["value"].abs())
    yield from _some(whole[apart], "are not the mean of their folds")


def _some(rows: pd.DataFrame, what: str) -> Iterator[str]:
    if len(rows):
        columns = ["task", "model", "dataset", "split", "metric"]
        examples = ["/".join(map(str, row)) for row in rows[columns].head(MOST).itertuples(index=False, name=None)]
        yield f"{len(rows):,} rows {what} (such as {', '.join(examples)})"
