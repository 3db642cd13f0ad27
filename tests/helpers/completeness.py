"""Whether a run made all that its plan names: every row of the grid, and a reason wherever there is no number."""

from __future__ import annotations

from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pandas as pd

from cellgauge.plan.inputs import Inputs
from cellgauge.tasks.traits import task_traits

PLACE = ["task", "model", "dataset", "split"]
KEY = ["classifier", "metric", "subset", "condition", "seed", "fold"]


def faults(inputs: Inputs, folder: Path) -> list[str]:
    """Return what is missing or unexplained in the results below `folder`, a sentence each."""
    table = pd.read_csv(folder / "results/tables/scores.csv", keep_default_na=False, dtype=str)
    return [*_grid(inputs, table), *_models_differ(table), *_files(inputs, folder), *_logs(folder)]


def _grid(inputs: Inputs, table: pd.DataFrame) -> Iterator[str]:
    rows = dict(list(table.groupby(PLACE)))
    for cell in inputs.grid.cells:
        place = tuple(vars(cell).values())
        part = rows.pop(place, table[:0])
        for profile in inputs.run.options["profiles"]:
            if profile in task_traits(cell.task).profiles and profile not in set(part["profile"]):
                yield f"{'/'.join(place)}: no row in profile {profile}"
        if not (part["status"] == "ok").any() and part["reason"].nunique() != 1:
            yield f"{'/'.join(place)}: no value, and not one reason but {sorted(set(part['reason']))}"
    for skipped in inputs.grid.skipped:
        *place, reason = vars(skipped).values()
        part = rows.pop(tuple(place), table[:0])
        if list(part["status"].unique()) != ["not_applicable"] or list(part["reason"].unique()) != [reason]:
            yield f"{'/'.join(place)}: does not apply ({reason}), but the tables say {part['reason'].tolist()}"
    yield from (f"{'/'.join(place)}: in the tables, but in no plan" for place in rows)
    for row in table[table["status"] == "failed"][[*PLACE, "reason"]].drop_duplicates().itertuples(index=False):
        yield f"{'/'.join(row[:4])}: failed ({row.reason})"
    for row in table[(table["status"] != "ok") & (table["reason"].str.len() < 10)].itertuples(index=False):
        yield f"{'/'.join(row[:4])}: {row.metric} is {row.status} without a reason"


def _models_differ(table: pd.DataFrame) -> Iterator[str]:
    """Yield which models lack, without a word, a row that others have of the same task and cells."""
    # What does not apply as a whole is one row; of confusion only pairs of labels that were confused are rows.
    table = table[(table["metric"] != "") & (table["metric"] != "confusion")]
    for place, rows in table.groupby(["task", "dataset", "split", "profile"]):
        every = rows[KEY].drop_duplicates()
        for model, own in rows.groupby("model"):
            lacking = every.merge(own[KEY], how="left", indicator=True).query("_merge == 'left_only'")
            for metric, lines in lacking.groupby("metric"):
                example = lines.iloc[0][KEY].to_dict()
                yield f"{model} on {'/'.join(place)}: {len(lines)} rows of {metric} are missing, such as {example}"


def _files(inputs: Inputs, folder: Path) -> Iterator[str]:
    for path in (*inputs.embeddings(), *inputs.scores(), *inputs.layouts(), "results/czbenchmarks.json"):
        if not (folder / path).is_file():
            yield f"{path}: not made"
    page = unescape((folder / "results/report.html").read_text(encoding="utf-8"))
    for kind, names in (("models", inputs.run.models), ("datasets", inputs.run.datasets)):
        for name in names:
            title = inputs.run.entries[kind][name]["title"]
            if title not in page:
                yield f"report: {title} is not named"


def _logs(folder: Path) -> Iterator[str]:
    for log in sorted((folder / "logs").rglob("*.log")):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        bad = [line for line in lines if line.startswith(("error:", "Traceback"))]
        yield from (f"{log.relative_to(folder)}: {line}" for line in bad)
