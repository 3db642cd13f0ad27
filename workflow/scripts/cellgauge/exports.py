"""What others read: leaderboards (Markdown, LaTeX, csv), and results as cz-benchmarks writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cellgauge.contracts import atomic_path
from cellgauge.organisms import ORGANISMS
from cellgauge.report.compare import Result
from cellgauge.report.data import Interval, Metric, Tables, Variant
from cellgauge.report.formats import MINUS, number
from cellgauge.report.pages.overview import columns
from cellgauge.report.words import subset
from cellgauge.results.czbenchmarks import CLASSIFIERS, METRICS

VERSION = "0.10.2"
"""The cz-benchmarks that profile reference computes as."""


def export(tables_dir: str | Path, output: str | Path) -> None:
    """Write leaderboards and tables as Parquet into `tables_dir`, and czbenchmarks.json into `output`.

    Raises:
        CellgaugeError: a table is missing or lacks a column.
    """
    import pandas as pd

    tables_dir, tables = Path(tables_dir), Tables.read(tables_dir)
    boards = list(leaderboards(tables))
    _write(tables_dir / "leaderboard.md", markdown(boards))
    _write(tables_dir / "leaderboard.tex", latex(boards))
    with atomic_path(tables_dir / "leaderboard.csv") as temporary:
        pd.DataFrame(long_form(boards), columns=LONG).to_csv(temporary, index=False)
    made = datetime.fromtimestamp((tables_dir / "scores.csv").stat().st_mtime, UTC)
    _write(Path(output) / "czbenchmarks.json", _as_json(cz_results(tables, made.isoformat())))
    for name in ("summary", "runtime", "models", "datasets"):
        with atomic_path(tables_dir / f"{name}.parquet") as temporary:
            pd.read_csv(tables_dir / f"{name}.csv", float_precision="round_trip").to_parquet(temporary, index=False)


# --- leaderboards ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A model's mean in one column; `best` marks the best one, and those within its interval."""

    text: str
    interval: str
    best: bool


@dataclass(frozen=True)
class Leaderboard:
    """Models x metrics of one task, dataset and profile; `rows` are (model, one place per column), None for no value."""

    title: str
    columns: Sequence[tuple[str, Metric]]
    rows: Sequence[tuple[str, str, Sequence[Place | None]]]


def leaderboards(tables: Tables) -> Iterator[Leaderboard]:
    """Yield the tables of the report's overview, one per dataset, profile and task.

    Controls are shown, and never the best. A model that lacks splits or conditions is shown, and never the best.
    """
    for dataset, entry in tables.datasets.items():
        for profile in tables.profiles:
            for task in tables.tasks.values():
                chosen = list(columns(tables, task, dataset, profile))
                results = [Result(tables, task.name, dataset, variant) for _, variant, _ in chosen]
                places = [_places(result) for result in results]
                shown = [model for model in tables.models if any(model in column for column in places)]
                if not shown:
                    continue
                headings = [(_heading(column.title, variant), column.metric) for _, variant, column in chosen]
                rows = [
                    (tables.models[model].title, tables.models[model].kind, [column.get(model) for column in places])
                    for model in shown
                ]
                yield Leaderboard(f"{task.title}, {entry.title}, profile {profile}", headings, rows)


def _heading(title: str, variant: Variant) -> str:
    about = [subset(variant.subset) if variant.subset else "", variant.set]
    return f"{title} ({', '.join(filter(None, about))})" if any(about) else title


def _places(result: Result) -> dict[str, Place]:
    metric = result.metric
    means = {model: mean for model, (mean, _) in result.means.items()}
    contest = [m for m in means if result.covers(m) and result.tables.models[m].kind != "control"]
    rising = metric.higher_is_better is not False
    first = max(contest, key=lambda m: means[m] if rising else -means[m], default=None)
    interval = result.interval(first) if first else None
    found = {}
    for model, mean in means.items():
        best = model in contest and (mean == means[first] or _within(mean, interval))
        own = result.interval(model)
        ends = f"{number(own.low, metric)} to {number(own.high, metric)}" if own else ""
        found[model] = Place(number(mean, metric), ends, best)
    return found


def _within(value: float, interval: Interval | None) -> bool:
    return interval is not None and interval.low <= value <= interval.high


def markdown(boards: Sequence[Leaderboard]) -> str:
    """Return the leaderboards as Markdown tables; names are escaped."""
    parts = ["# Leaderboards\n", "In bold: the best mean and those within its 95 % interval, controls left out.\n"]
    for board in boards:
        parts.append(f"## {_md(board.title)}\n")
        heads = [f"{_md(title)} {metric.arrow}" for title, metric in board.columns]
        parts.append(_row(["model", *heads]) + "\n" + _row(["---", *["---:"] * len(heads)]))
        for title, kind, places in board.rows:
            cells = [f"{_md(title)} ({kind})" if kind in ("control", "baseline") else _md(title)]
            for place in places:
                text = "" if place is None else f"**{place.text}**" if place.best else place.text
                cells.append(f"{text} ({place.interval})" if place and place.interval else text)
            parts.append(_row(cells))
        parts.append("")
    return "\n".join(parts)


LONG = ["leaderboard", "model", "kind", "metric", "mean", "interval", "best"]


def long_form(boards: Sequence[Leaderboard]) -> Iterator[tuple[str, str, str, str, str, str, str]]:
    """Yield the leaderboards as one table, one row per mean, the columns LONG."""
    for board in boards:
        for title, kind, places in board.rows:
            for (metric, _), place in zip(board.columns, places, strict=True):
                if place:
                    yield board.title, title, kind, metric, place.text, place.interval, "yes" if place.best else ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _md(text: str) -> str:
    """Return text that Markdown shows as it is."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for sign in "\\|`*_[]#":  # the backslash first
        escaped = escaped.replace(sign, f"\\{sign}")
    return " ".join(escaped.split())


def latex(boards: Sequence[Leaderboard]) -> str:
    """Return the leaderboards as LaTeX tables for the package booktabs; names are escaped."""
    parts = [
        "% Needs \\usepackage{booktabs}. In bold: the best mean and those within its 95 % interval, controls left out."
    ]
    for board in boards:
        heads = [f"{_tex(title)} {_arrow(metric)}".strip() for title, metric in board.columns]
        parts += [
            "\\begin{table}",
            f"\\caption{{{_tex(board.title)}. Means with 95\\,\\% intervals.}}",
            f"\\begin{{tabular}}{{l{'r' * len(heads)}}}",
            "\\toprule",
            " & ".join(["Model", *heads]) + r" \\",
            "\\midrule",
        ]
        for title, kind, places in board.rows:
            cells = [f"\\emph{{{_tex(title)}}}" if kind == "control" else _tex(title)]
            for place in places:
                text = "" if place is None else f"\\textbf{{{place.text}}}" if place.best else place.text
                ends = f" {{\\scriptsize [{place.interval.replace(' to ', ', ')}]}}" if place and place.interval else ""
                cells.append((text + ends).replace(MINUS, "$-$"))
            parts.append(" & ".join(cells) + r" \\")
        parts += ["\\bottomrule", "\\end{tabular}", "\\end{table}", ""]
    return "\n".join(parts)


def _arrow(metric: Metric) -> str:
    return {True: r"$\uparrow$", False: r"$\downarrow$", None: ""}[metric.higher_is_better]


def _tex(text: str) -> str:
    """Return text that LaTeX prints as it is."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {sign: f"\\{sign}" for sign in "&%$#_{}"} | {"<": r"\textless{}", ">": r"\textgreater{}"}
    return "".join(special.get(sign, sign) for sign in " ".join(text.split()))


# --- as cz-benchmarks writes them ------------------------------------------------------------------------------------


def cz_results(tables: Tables, timestamp: str) -> dict[str, Any]:
    """Return the scores of profile reference in the result format of cz-benchmarks 0.10 (`czbenchmarks run`).

    It is what `write_results` in their cli/cli_run.py wrote, of `TaskResult` in cli/types.py and classes of metrics/types.py;
    the model types are not theirs alone. Release 0.15.1 writes no results, but has the classes of metrics. A value that is a
    mean over folds carries what it is the mean of, as their aggregated results do.
    """
    results = []
    for (task, dataset, model, split), metrics in _by_job(tables).items():
        for cz_task in METRICS:
            found = [metric for name, metric in metrics if name == cz_task]
            if found:
                results.append(_task_result(tables, cz_task, task, dataset, model, split, found))
    return {
        "czbenchmarks_version": VERSION,
        "args": "cellgauge, profile reference",
        "task_results": results,
        "timestamp": timestamp,
    }


def _by_job(tables: Tables) -> dict[tuple[str, str, str, str], list[tuple[str, dict[str, Any]]]]:
    """Return the results of each score file by task, dataset, model and split, each with their name of its task."""
    folds: dict[tuple[str, ...], list[float]] = {}
    key = ["task", "dataset", "model", "split", "metric", "classifier", "subset"]
    rows = tables.scores[(tables.scores["profile"] == "reference") & (tables.scores["status"] == "ok")]
    single = rows[rows["fold"].notna()]
    for *parts, value in single[[*key, "value"]].itertuples(index=False, name=None):
        folds.setdefault(tuple(parts), []).append(value)
        folds.setdefault((*parts[:5], "mean", parts[6]), []).append(value)
    found: dict[tuple[str, str, str, str], list[tuple[str, dict[str, Any]]]] = {}
    best = tables.best[tables.best["profile"] == "reference"]
    for *parts, value in best[[*key, "value"]].itertuples(index=False, name=None):
        task, dataset, model, split, metric, classifier, genes = parts
        known = tables.metric(task, metric).czbenchmarks
        if not known or "/" in genes:
            continue
        params = {"classifier": CLASSIFIERS.get(classifier, classifier)} if classifier else {}
        if genes:
            params["subset"] = genes
        if split in tables.datasets[dataset].sets:
            params["set"] = split
        result: dict[str, Any] = {"metric_type": known["metric"], "params": params, "value": value}
        values = folds.get(tuple(parts))
        if values:
            result |= {"n_values": len(values), "value_std_dev": _deviation(values), "values_raw": values}
        found.setdefault((task, dataset, model, split), []).append((known["task"], result))
    return found


def _deviation(values: Sequence[float]) -> float | None:
    mean = sum(values) / len(values)
    return (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5 if len(values) > 1 else None


def _task_result(
    tables: Tables, cz_task: str, task: str, dataset: str, model: str, split: str, metrics: list[dict[str, Any]]
) -> dict[str, Any]:
    data, entry = tables.datasets[dataset], tables.models[model]
    splits = data.sets.get(split, [split])
    datasets = [
        {
            "name": f"{dataset}/{name}",
            "organism": _scientific(data.organisms.get(name, "")),
            "name_display": data.title,
            "subset_display": name,
        }
        for name in splits
    ]
    kind = "BASELINE" if entry.kind == "baseline" else entry.facts.get("czbenchmarks") or model.upper()
    return {
        "task_name": cz_task,
        "task_name_display": tables.tasks[task].title,
        "model": {"type": kind, "args": {"model": model}, "name_display": entry.title, "variant_display": ""},
        "datasets": datasets,
        "metrics": metrics,
        "runtime_metrics": {},
    }


def _scientific(organism: str) -> str:
    """Return a species' scientific name as cz-benchmarks writes it: homo_sapiens."""
    return ORGANISMS[organism].scientific.lower().replace(" ", "_") if organism in ORGANISMS else organism


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
