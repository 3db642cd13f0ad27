"""What others published, as the report's machinery reads tables: one `Tables` per source, each block of splits a dataset."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cellgauge.results.compare import Result
from cellgauge.results.entries import KINDS, Entry, Metric, Task, slug
from cellgauge.results.numbers import readable
from cellgauge.results.read import Tables
from cellgauge.results.uncertainty import VARIANT

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Record:
    """One source of published values."""

    # name, title, facts: its key, its title, and what else its entry says
    name: str
    title: str
    facts: Mapping[str, str]
    tables: Tables  # its values; each block of splits that models share is a dataset
    # n_values, n_used: how many values it has, and how many are used
    n_values: int
    n_used: int
    # why the others are not: `reason`, how many (`n`), and of which `models` and `metrics`, as text
    left_out: list[dict[str, Any]]


def records(tables: Tables) -> Iterator[Record]:
    """Yield the sources of published values, in the order of their table."""
    for facts in tables.published["published_sources"].to_dict("records"):
        rows = tables.published["published"]
        rows = rows[rows["source"] == facts["source"]]
        known = {key: json.loads(facts.pop(key) or "{}") for key in ("models", "datasets", "tasks")}
        of_source = _tables(tables, facts["source"], rows, known)
        counts = len(rows), int((rows["status"] == "ok").sum())
        title = facts["title"] or readable(facts["source"])
        yield Record(facts["source"], title, facts, of_source, *counts, list(_left_out(rows, of_source)))


def published_means(result: Result) -> Iterator[tuple[Entry, str, float]]:
    """Yield (model, source, mean) of each model of which a source published the same score over the very same splits."""
    rows = result.tables.published.get("published")
    if rows is None or not len(rows):
        return
    about = {**vars(result.variant), "task": result.task, "dataset": result.dataset, "status": "ok", "condition": ""}
    del about["set"]
    for column, value in about.items():
        rows = rows[rows[column] == value]
    splits = [result.variant.set] if result.variant.set else result.splits
    for (name, source), of_model in rows[rows["split"].isin(splits)].groupby(["model", "source"], sort=False):
        if set(of_model["split"]) == set(splits) and len(of_model) == len(splits):
            model = result.tables.models.get(name, Entry(name, name, "foundation"))
            yield replace(model, title=f"{model.title}, published"), source, float(of_model["value"].mean())


def _tables(tables: Tables, source: str, rows: pd.DataFrame, known: Mapping[str, Mapping[str, Any]]) -> Tables:
    """Return the tables of one source. Others than those of scores (runtime, layouts, anchors) are the run's, and not shown."""
    import pandas as pd

    names = ("published_summary", "published_comparisons", "published_ranks")
    of_source = [part[part["source"] == source] for part in map(tables.published.get, names)]
    places = dict.fromkeys(of_source[0][["dataset", "splits"]].itertuples(index=False, name=None))
    keys = {place: ": ".join(place) for place in places}
    parts = [_of_block(rows, of_source[0], place).assign(dataset=key) for place, key in keys.items()]
    summary, pairs, ranked = (
        part.assign(dataset=[keys[place] for place in part[["dataset", "splits"]].itertuples(index=False, name=None)])
        for part in of_source
    )
    return replace(
        tables,
        scores=pd.concat(parts, ignore_index=True) if parts else rows[:0],
        summary=summary,
        pairs=pairs,
        ranked=ranked,
        models=_models(rows, known["models"], keys),
        datasets={key: Entry(key, _title(place, known["datasets"])) for place, key in keys.items()},
        tasks={name: _task(name, known["tasks"].get(name, {})) for name in dict.fromkeys(rows["task"])},
        published={},
    )


def _of_block(rows: pd.DataFrame, summary: pd.DataFrame, place: tuple[str, str]) -> pd.DataFrame:
    """Return the rows of a block: the values that its means are of, and what says why others are not there."""
    by = ["model", *VARIANT]
    dataset, splits = place
    summary = summary[(summary["dataset"] == dataset) & (summary["splits"] == splits)]
    inside = rows[(rows["dataset"] == dataset) & rows["split"].isin(splits.split())]
    of_means = set(summary[by].itertuples(index=False, name=None))
    covers = np.array([key in of_means for key in inside[by].itertuples(index=False, name=None)])
    used = inside["status"] == "ok"
    n_splits = inside.groupby("model")["split"].nunique()
    unused = set(n_splits.index[n_splits == len(splits.split())]) - set(inside.loc[used, "model"])
    return inside[np.where(used, covers, inside["model"].isin({*summary["model"], *unused}))]


def _title(place: tuple[str, str], datasets: Mapping[str, Mapping[str, str]]) -> str:
    dataset, splits = place[0], place[1].split()
    title = datasets.get(dataset, {}).get("title") or readable(dataset)
    return f"{title}, {len(splits)} splits" if len(splits) > 1 else f"{title}, {readable(splits[0])}"


def _models(
    rows: pd.DataFrame, known: Mapping[str, Mapping[str, Any]], keys: Mapping[tuple[str, str], str]
) -> dict[str, Entry]:
    """Return the models; what they have seen of a dataset holds for each of its blocks."""
    entries = {}
    for name in dict.fromkeys(rows["model"]):
        facts = dict(known.get(name, {}))
        seen = facts.get("leakage", {})
        facts["leakage"] = {key: seen[place[0]] for place, key in keys.items() if place[0] in seen}
        entries[name] = Entry(name, facts.get("title") or name, facts.get("kind", ""), facts)
    places = {kind: place for place, kind in enumerate(KINDS)}
    return dict(sorted(entries.items(), key=lambda item: places.get(item[1].kind, len(KINDS))))


def _task(name: str, entry: Mapping[str, Any]) -> Task:
    metrics = {metric: Metric.of(metric, facts) for metric, facts in entry.get("metrics", {}).items()}
    title, about = entry.get("title") or readable(name), entry.get("description", "")
    return Task(name, title, metrics, slug(name), about, headline=entry.get("headline", ""))


def _left_out(rows: pd.DataFrame, tables: Tables) -> Iterator[dict[str, Any]]:
    """Yield the reasons for which values are not used, the most frequent first."""
    unused = rows[rows["status"] != "ok"]
    for reason, group in sorted(unused.groupby("reason", sort=False), key=lambda item: -len(item[1])):
        models = [tables.models[name].title if name else "" for name in dict.fromkeys(group["model"])]
        metrics = dict.fromkeys(
            tables.metric(task, name).title if task in tables.tasks else name
            for task, name in group[["task", "metric"]].drop_duplicates().itertuples(index=False, name=None)
        )
        whole = group["model"].nunique() == rows["model"].nunique()
        named = "all models" if whole else ", ".join(models)
        yield {"reason": reason, "n": len(group), "models": named, "metrics": ", ".join(metrics)}
