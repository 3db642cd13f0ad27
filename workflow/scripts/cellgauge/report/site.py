"""A static site of several runs: an index, their reports, what changed from run to run, how to submit results."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from cellgauge.core.atomic import atomic_path
from cellgauge.core.errors import CellgaugeError
from cellgauge.report import write_page
from cellgauge.report.changes import render_changes
from cellgauge.results.changes import PublishedRun, compare_runs, scores_file
from cellgauge.results.columns import headlines
from cellgauge.results.numbers import number
from cellgauge.results.provenance import FILE, date_text, version_text
from cellgauge.results.read import Tables

LINKS = (("index.html", "Runs"), ("changelog.html", "Changelog"), ("submit.html", "How to submit results"))


def build_site(folders: Sequence[str | Path], output: str | Path) -> Path:
    """Write the site of the runs in `folders`, the oldest first, and return its index; raise CellgaugeError where a folder
    holds no run, or two have one name.
    """
    output = Path(output)
    runs = sorted((PublishedRun.read(folder) for folder in folders), key=lambda run: str(run.about["made"].get("date")))
    names = [run.folder.resolve().name for run in runs]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise CellgaugeError(f"two runs lie in folders called '{twice}'; rename one of them")
    rows = [_row(*pair, output) for pair in zip([None, *runs], runs, strict=False)]
    context = {"rows": rows[::-1]}
    write_page(output / "changelog.html", "Changelog", "changelog.html", context, LINKS)
    write_page(output / "submit.html", "How to submit results", "submit.html", {}, LINKS)
    write_page(output / "index.html", "Runs", "runs.html", context, LINKS)
    return output / "index.html"


def _row(before: PublishedRun | None, run: PublishedRun, output: Path) -> dict[str, Any]:
    """Copy the files of a run into the site, and return what its pages show of it.

    `best` is the best model of each task on each dataset; `changes` and `summary` are the page of what changed since the run
    before it and its sentence, "" for the first run.
    """
    name, about = run.folder.resolve().name, run.about
    files = {file: run.folder / file for file in ("report.html", FILE)} | {"scores.parquet": scores_file(run.folder)}
    for target, source in files.items():
        if source.is_file():
            with atomic_path(output / name / target) as temporary:
                shutil.copyfile(source, temporary)
    row = {
        "run": run,
        "folder": name,
        "report": files["report.html"].is_file(),
        "date": date_text(about),
        "version": version_text(about),
        "models": ", ".join(run.title("models", model) for model in about["models"]),
        "datasets": ", ".join(run.title("datasets", dataset) for dataset in about["config"].get("datasets", {})),
        "best": list(_best(run)),
    }
    if before is None:
        return {**row, "changes": "", "summary": ""}
    changes, page = compare_runs(before, run), f"changes-{name}.html"
    render_changes(changes, output / page, LINKS)
    return {**row, "changes": page, "summary": changes.summary}


def _best(run: PublishedRun) -> Iterator[tuple[str, str, str, str]]:
    """Yield the best model of each task on each dataset; none where the tables of the run are not there."""
    try:
        tables = Tables.read(run.folder / "tables")
    except CellgaugeError:
        return
    for task, dataset, profile in product(tables.tasks.values(), tables.datasets.values(), tables.profiles[:1]):
        for result in headlines(tables, task, dataset.name, profile):
            for model, mean in list(result.ranked.items())[:1]:
                score = f"{result.metric.title} {number(mean, result.metric)}"
                yield task.title, dataset.title, tables.models[model].title, score
