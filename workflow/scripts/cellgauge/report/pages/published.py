"""Published: values of others, compared among themselves by the care that ours are, and set beside ours where both exist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cellgauge.report.answers import answers
from cellgauge.report.comparisons import by_metric, by_split
from cellgauge.report.heat import HeatTable
from cellgauge.report.pages import Page
from cellgauge.report.pages.tasks import choices
from cellgauge.report.published import Record, records
from cellgauge.report.ranking import contest
from cellgauge.results.columns import Column, columns
from cellgauge.results.compare import Result
from cellgauge.results.entries import Metric, Variant
from cellgauge.results.numbers import DASH, MINUS, readable
from cellgauge.results.read import Tables
from cellgauge.results.reproduction import VERDICTS
from cellgauge.results.words import classifier, place_of_classifier

ORDER = ("outside", "not judged", "within")
MANY = 9
"""More splits than this are not named above the tables; the columns further below name them."""


def pages(tables: Tables) -> Iterator[Page]:
    """Yield the page, unless the run read nothing of others."""
    sources = list(records(tables))
    if not sources:
        return
    titles = {record.name: record.title for record in sources}
    anchors = [_anchor(tables, titles, row) for row in tables.anchors.to_dict("records")]
    anchors.sort(key=lambda anchor: ORDER.index(anchor["verdict"]))
    context = {
        "anchors": anchors,
        "counts": {verdict: sum(anchor["verdict"] == verdict for anchor in anchors) for verdict in VERDICTS},
        "n_used": sum(record.n_used for record in sources),
        "records": [{"record": record, "blocks": list(_blocks(record))} for record in sources],
        "choices": choices([score for record in sources for score in _scores(record)]),
        "panels": [panel for record in sources for panel in _panels(record)],
    }
    yield Page("published", "Published", "published.html", context, ("model",))


def _blocks(record: Record) -> Iterator[dict[str, Any]]:
    """Yield splits that some models share, named where they are few: a picture per task, all scores, one by classifier."""
    tables = record.tables
    for key, entry in tables.datasets.items():
        profile = tables.profiles[0]
        chosen = [column for task in tables.tasks.values() for column in columns(tables, task, key, profile)]
        splits = list(dict.fromkeys(tables.scores.loc[tables.scores["dataset"] == key, "split"]))
        over = f"means over {len(splits)} splits" if len(splits) > 1 else "one split"
        means = by_metric(chosen, f"{entry.title}: {over}", {})
        if means:
            names = ", ".join(map(readable, splits)) if 1 < len(splits) <= MANY else ""
            parts = {"answers": list(answers(tables, key, profile)), "by_classifier": list(_by_classifier(tables, key))}
            yield {"data": entry, "splits": names, "means": means, **parts}


def _by_classifier(tables: Tables, key: str) -> Iterator[HeatTable]:
    """Yield models x classifiers of the first score that has several: a mean over them hides what each does."""
    for task in tables.tasks.values():
        variants = tables.scored(task.name, key)
        for name in ("f1", *dict.fromkeys(v.metric for v in variants)):
            of_metric = sorted(
                (v for v in variants if v.metric == name), key=lambda v: place_of_classifier(v.classifier)
            )
            if len({v.classifier for v in of_metric}) > 1:
                results = [(v.classifier, Result(tables, task.name, key, v)) for v in of_metric]
                chosen = [(r, Column(f"{name}.{c}", classifier(c), r.metric, r.metric.title)) for c, r in results]
                caption = f"{tables.datasets[key].title}: {tables.metric(task.name, name).title} by classifier"
                table = by_metric(chosen, caption, {})
                if table:
                    yield table
                break


def _panels(record: Record) -> Iterator[tuple[HeatTable | None, dict[str, Any] | None]]:
    """Yield for each score of each block models x splits, and who can be told apart; one is shown at a time."""
    tables = record.tables
    for task in tables.tasks.values():
        for variant in tables.scored(task.name):
            for key, entry in tables.datasets.items():
                result = Result(tables, task.name, key, variant)
                score = f"{entry.title}: {result.metric.title}"
                caption = ", ".join(filter(None, (score, classifier(variant.classifier))))
                table = by_split(result, caption) if len(result.all_splits) > 1 else None
                ranks = contest(result, f"{caption}, ranks")
                if table or ranks:
                    yield table, ranks


def _scores(record: Record) -> Iterator[tuple[Variant, Metric]]:
    for task in record.tables.tasks:
        yield from ((variant, record.tables.metric(task, variant.metric)) for variant in record.tables.scored(task))


def _anchor(tables: Tables, titles: Mapping[str, str], row: dict[str, Any]) -> dict[str, Any]:
    """Return one published value and ours, as text; `verdict` is one of `cellgauge.results.reproduction.VERDICTS`."""
    task, model, dataset = row["task"], row["model"], row["dataset"]
    source = titles.get(row["source"], row["source"])
    return {
        "dataset": tables.datasets[dataset].title,
        "split": readable(row["split"]),
        "model": tables.models[model].title,
        "key": (model, dataset, task),
        "what": ", ".join(filter(None, (tables.metric(task, row["metric"]).title, classifier(row["classifier"])))),
        "published": f"{row['published']:.3f}",
        "of_run": f"{row['ours']:.3f}",
        "difference": f"{row['difference']:+.3f}".replace("-", MINUS),
        "allowed": f"{row['allowed']:.4f}" if row["allowed"] == row["allowed"] else DASH,
        "verdict": row["verdict"],
        "source": f"{source} ({row['reason']})" if row["reason"] else source,
    }
