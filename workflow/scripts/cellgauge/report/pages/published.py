"""Published: values of others, compared among themselves by the care that ours are, and set beside ours where both exist."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cellgauge.report.answers import Answer, answers
from cellgauge.report.comparisons import by_metric, by_split
from cellgauge.report.heat import HeatTable
from cellgauge.report.pages import Page
from cellgauge.report.pages.tasks import Choice
from cellgauge.report.published import Record, records
from cellgauge.report.ranking import Contest, contest
from cellgauge.results.columns import Column, columns
from cellgauge.results.entries import Entry, Variant
from cellgauge.results.numbers import DASH, MINUS, readable
from cellgauge.results.read import Tables
from cellgauge.results.reproduction import VERDICTS
from cellgauge.results.words import classifier, place_of_classifier

ORDER = ("outside", "not judged", "within")
MANY = 9
"""More splits than this are not named above the tables; the columns further below name them."""


@dataclass(frozen=True)
class Anchor:
    """One published value and ours, as text; `verdict` is one of `cellgauge.results.reproduction.VERDICTS`."""

    dataset: str
    split: str
    model: str
    key: tuple[str, str, str]
    what: str
    published: str
    ours: str
    difference: str
    allowed: str
    verdict: str
    source: str


@dataclass(frozen=True)
class BlockShown:
    """Splits that some models share, by name where there are few: a picture per task, all scores, one score by classifier."""

    data: Entry
    splits: str
    answers: Sequence[Answer]
    means: HeatTable
    by_classifier: Sequence[HeatTable]


@dataclass(frozen=True)
class RecordShown:
    record: Record
    blocks: Sequence[BlockShown]


def pages(tables: Tables) -> Iterator[Page]:
    """Yield the page, unless the run read nothing of others."""
    found = list(records(tables))
    if not found:
        return
    anchors = [_anchor(tables, found, row) for row in tables.anchors.to_dict("records")]
    anchors.sort(key=lambda anchor: ORDER.index(anchor.verdict))
    shown = [RecordShown(record, list(_blocks(record))) for record in found]
    panels = [panel for record in found for panel in _panels(record)]
    context = {
        "anchors": anchors,
        "counts": {verdict: sum(anchor.verdict == verdict for anchor in anchors) for verdict in VERDICTS},
        "n_used": sum(record.n_used for record in found),
        "records": shown,
        "choices": _choices(found),
        "panels": panels,
    }
    yield Page("published", "Published", "published.html", context, ("model",))


def _blocks(record: Record) -> Iterator[BlockShown]:
    tables = record.tables
    for key, entry in tables.datasets.items():
        profile = tables.profiles[0]
        chosen = [column for task in tables.tasks.values() for column in columns(tables, task, key, profile)]
        splits = list(dict.fromkeys(tables.scores.loc[tables.scores["dataset"] == key, "split"]))
        over = f"means over {len(splits)} splits" if len(splits) > 1 else "one split"
        means = by_metric(tables, key, chosen, f"{entry.title}: {over}", {})
        if means:
            named = ", ".join(map(readable, splits)) if 1 < len(splits) <= MANY else ""
            yield BlockShown(
                entry, named, list(answers(tables, key, profile)), means, list(_by_classifier(tables, key))
            )


def _by_classifier(tables: Tables, key: str) -> Iterator[HeatTable]:
    """Yield models x classifiers of the first score that has several: a mean over them hides what each does."""
    for task in tables.tasks.values():
        variants = [v for v in tables.variants(task.name, key) if tables.metric(task.name, v.metric).is_score]
        for name in ("f1", *dict.fromkeys(v.metric for v in variants)):
            own = [v for v in variants if v.metric == name]
            if len({v.classifier for v in own}) > 1:
                own.sort(key=lambda v: place_of_classifier(v.classifier))
                metric = tables.metric(task.name, name)
                shown = [
                    (task.name, v, Column(f"{name}.{v.classifier}", classifier(v.classifier), metric, metric.title))
                    for v in own
                ]
                table = by_metric(tables, key, shown, f"{tables.datasets[key].title}: {metric.title} by classifier", {})
                if table:
                    yield table
                break


def _panels(record: Record) -> Iterator[tuple[HeatTable | None, Contest | None]]:
    """Yield for each score of each block models x splits, and who can be told apart; one is shown at a time."""
    tables = record.tables
    for task in tables.tasks.values():
        for variant in tables.variants(task.name):
            if not tables.metric(task.name, variant.metric).is_score:
                continue
            for key in tables.datasets:
                caption = _caption(tables, task.name, key, variant)
                several = len(tables.splits(task.name, key)) > 1
                table = by_split(tables, task.name, key, variant, caption) if several else None
                found = contest(tables, task.name, key, variant, f"{caption}, ranks")
                if table or found:
                    yield table, found


def _caption(tables: Tables, task: str, key: str, variant: Variant) -> str:
    parts = [
        f"{tables.datasets[key].title}: {tables.metric(task, variant.metric).title}",
        classifier(variant.classifier),
    ]
    return ", ".join(filter(None, parts))


def _choices(found: Sequence[Record]) -> list[Choice]:
    """Return the controls that choose the score of which splits and ranks are shown."""
    metrics: dict[str, str] = {}
    classifiers: dict[str, str] = {}
    for record in found:
        for task in record.tables.tasks.values():
            for variant in record.tables.variants(task.name):
                metric = record.tables.metric(task.name, variant.metric)
                if metric.is_score:
                    metrics[metric.name] = metric.title
                    classifiers[variant.classifier] = classifier(variant.classifier) or "none"
    ordered = sorted(classifiers.items(), key=lambda item: place_of_classifier(item[0]))
    choices = [Choice("metric", "Metric", list(metrics.items())), Choice("classifier", "Classifier", ordered)]
    return [choice for choice in choices if len(choice.options) > 1]


def _anchor(tables: Tables, found: Sequence[Record], row: dict) -> Anchor:
    task, model, dataset = row["task"], row["model"], row["dataset"]
    what = ", ".join(filter(None, (tables.metric(task, row["metric"]).title, classifier(row["classifier"]))))
    titles = {record.name: record.title for record in found}
    source = titles.get(row["source"], row["source"])
    return Anchor(
        dataset=tables.datasets[dataset].title,
        split=readable(row["split"]),
        model=tables.models[model].title,
        key=(model, dataset, task),
        what=what,
        published=f"{row['published']:.3f}",
        ours=f"{row['ours']:.3f}",
        difference=f"{row['difference']:+.3f}".replace("-", MINUS),
        allowed=f"{row['allowed']:.4f}" if row["allowed"] == row["allowed"] else DASH,
        verdict=row["verdict"],
        source=f"{source} ({row['reason']})" if row["reason"] else source,
    )
