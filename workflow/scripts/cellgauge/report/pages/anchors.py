"""Anchors: our numbers of profile reference beside those that others published for the same data and model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cellgauge.anchors import VERDICTS
from cellgauge.report.data import Tables
from cellgauge.report.formats import DASH, MINUS, readable
from cellgauge.report.pages import Page
from cellgauge.report.words import classifier


@dataclass(frozen=True)
class Anchor:
    """One published number and ours, as text; `verdict` is one of `cellgauge.anchors.VERDICTS`."""

    dataset: str
    split: str
    model: str
    task: str
    key: tuple[str, str, str]
    what: str
    published: str
    ours: str
    difference: str
    allowed: str
    verdict: str
    source: str


def pages(tables: Tables) -> Iterator[Page]:
    """Yield the page, unless the tables know no anchors."""
    found = [_anchor(tables, row) for row in tables.anchors.to_dict("records")]
    found.sort(key=lambda anchor: anchor.verdict == "not run")
    if found:
        counts = {verdict: sum(anchor.verdict == verdict for anchor in found) for verdict in VERDICTS}
        yield Page(
            "anchors",
            "Published numbers",
            "anchors.html",
            {"anchors": found, "counts": counts},
            ("dataset", "task", "model"),
        )


def _anchor(tables: Tables, row: dict) -> Anchor:
    task, model, dataset = row["task"], row["model"], row["dataset"]
    metric = tables.metric(task, row["metric"]).title if task in tables.tasks else row["metric"]
    what = ", ".join(filter(None, (metric, classifier(row["classifier"]))))
    ran = row["ours"] == row["ours"]
    return Anchor(
        dataset=tables.datasets[dataset].title if dataset in tables.datasets else readable(dataset),
        split=readable(row["split"]),
        model=tables.models[model].title if model in tables.models else readable(model),
        task=tables.tasks[task].title if task in tables.tasks else readable(task),
        key=(model, dataset, task),
        what=what,
        published=f"{row['published']:.3f}",
        ours=f"{row['ours']:.3f}" if ran else DASH,
        difference=f"{row['difference']:+.3f}".replace("-", MINUS) if ran else DASH,
        allowed=f"{row['allowed']:.3f}",
        verdict=row["verdict"],
        source=row["source"],
    )
