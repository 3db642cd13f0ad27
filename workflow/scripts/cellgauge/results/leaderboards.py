"""Leaderboards in Markdown, LaTeX and CSV: the overview's tables, for papers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cellgauge.results import words
from cellgauge.results.columns import Column, columns
from cellgauge.results.compare import Result
from cellgauge.results.entries import Metric
from cellgauge.results.numbers import MINUS, number
from cellgauge.results.read import Tables


@dataclass(frozen=True)
class Place:
    """A model's mean in one column.

    `rank` is 1 plus the number of models that a test says are ahead, None where there is none; `interval` names its units;
    `coverage` is what the mean lacks.
    """

    text: str
    interval: str
    rank: int | None
    coverage: str


@dataclass(frozen=True)
class Leaderboard:
    """Models x metrics of one task, dataset and profile; `rows` are (model, one place per column), None for no value."""

    title: str
    columns: Sequence[tuple[str, Metric]]
    rows: Sequence[tuple[str, str, Sequence[Place | None]]]


def leaderboards(tables: Tables) -> Iterator[Leaderboard]:
    """Yield the tables of the report's overview, one per dataset, profile and task.

    Controls are shown without a rank, as are models whose means lack splits, folds, cells, conditions or genes.
    """
    for dataset, entry in tables.datasets.items():
        for profile in tables.profiles:
            for task in tables.tasks.values():
                chosen = list(columns(tables, task, dataset, profile))
                places = [_places(result) for result, _ in chosen]
                rows = [
                    (model.title, model.kind, [column.get(name) for column in places])
                    for name, model in tables.models.items()
                    if any(name in column for column in places)
                ]
                if rows:
                    headings = [(_heading(result, column), column.metric) for result, column in chosen]
                    yield Leaderboard(f"{task.title}, {entry.title}, {words.profile(profile)} scores", headings, rows)


def _heading(result: Result, column: Column) -> str:
    about = ", ".join(filter(None, (column.about, result.variant.set)))
    return f"{column.title} ({about})" if about else column.title


def _places(result: Result) -> dict[str, Place]:
    metric = result.metric
    places = {}
    for model, (mean, _) in result.means.items():
        interval = result.interval(model)
        ends = f"{result.interval_text(model)}, {interval.units}" if interval else ""
        places[model] = Place(number(mean, metric), ends, result.rank(model), result.shortfall(model))
    return places


ARROWS = {True: ("↑", r"$\uparrow$"), False: ("↓", r"$\downarrow$")}
"""By whether higher is better: the direction in Markdown and in LaTeX."""
BOLD = (
    "Bold: no paired test puts another model ahead; if nothing can be tested, nothing is "
    "bold. In {}: 95 % confidence intervals and what they are over (over seeds they say nothing about other data). A mean "
    "over part of the splits, folds, cells, conditions or genes says so and has no rank."
)


def markdown(boards: Sequence[Leaderboard]) -> str:
    """Return the leaderboards as Markdown tables; names are escaped."""
    parts = ["# Leaderboards\n", f"{BOLD.format('parentheses')}\n"]
    for board in boards:
        parts.append(f"## {_md(board.title)}\n")
        heads = [f"{_md(title)} {ARROWS[metric.rises][0]}" for title, metric in board.columns]
        parts.append(_row(["model", *heads]) + "\n" + _row(["---", *["---:"] * len(heads)]))
        for title, kind, places in board.rows:
            cells = [f"{_md(title)} ({kind})" if kind in ("control", "baseline") else _md(title)]
            for place in places:
                text = "" if place is None else f"**{place.text}**" if place.rank == 1 else place.text
                if place and place.interval:
                    text += f" ({place.interval})"
                cells.append(text + (f" over {place.coverage}" if place and place.coverage else ""))
            parts.append(_row(cells))
        parts.append("")
    return "\n".join(parts)


LONG = ["leaderboard", "model", "kind", "metric", "mean", "interval", "rank", "coverage"]


def long_form(boards: Sequence[Leaderboard]) -> Iterator[tuple[str, ...]]:
    """Yield the leaderboards as one table, one row per mean, the columns LONG."""
    for board in boards:
        for title, kind, places in board.rows:
            for (metric, _), place in zip(board.columns, places, strict=True):
                if place:
                    about = place.text, place.interval, str(place.rank or ""), place.coverage
                    yield (board.title, title, kind, metric, *about)


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
    parts = ["% Needs \\usepackage{booktabs}. " + BOLD.format("brackets")]
    for board in boards:
        heads = [f"{_tex(title)} {ARROWS[metric.rises][1]}" for title, metric in board.columns]
        parts += ["\\begin{table}", f"\\caption{{{_tex(board.title)}. Means with 95\\,\\% intervals.}}"]
        parts += [f"\\begin{{tabular}}{{l{'r' * len(heads)}}}", "\\toprule"]
        parts += [" & ".join(["Model", *heads]) + r" \\", "\\midrule"]
        for title, kind, places in board.rows:
            cells = [f"\\emph{{{_tex(title)}}}" if kind == "control" else _tex(title)]
            for place in places:
                text = "" if place is None else f"\\textbf{{{place.text}}}" if place.rank == 1 else place.text
                ends = f" {{\\scriptsize [{place.interval.replace(' to ', ', ')}]}}" if place and place.interval else ""
                lacks = f" {{\\scriptsize over {_tex(place.coverage)}}}" if place and place.coverage else ""
                cells.append((text + ends + lacks).replace(MINUS, "$-$"))
            parts.append(" & ".join(cells) + r" \\")
        parts += ["\\bottomrule", "\\end{tabular}", "\\end{table}", ""]
    return "\n".join(parts)


def _tex(text: str) -> str:
    """Return text that LaTeX prints as it is."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {sign: f"\\{sign}" for sign in "&%$#_{}"} | {"<": r"\textless{}", ">": r"\textgreater{}"}
    return "".join(special.get(sign, sign) for sign in " ".join(text.split()))
