"""One page per task: every score of every model on every split, and the counts beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from cellgauge.report.comparisons import by_metric, by_split
from cellgauge.report.heat import Cell, HeatTable
from cellgauge.report.matrices import LabelRow, LabelTable, label_table
from cellgauge.report.pages import Page
from cellgauge.report.ranking import contest
from cellgauge.report.screens import condition_tables, strata_tables
from cellgauge.results import words
from cellgauge.results.columns import Column, headlines
from cellgauge.results.compare import Result
from cellgauge.results.entries import Entry, Metric, Task, Variant
from cellgauge.results.numbers import DASH, number, readable
from cellgauge.results.read import Tables
from cellgauge.results.verdicts import warnings


def pages(tables: Tables) -> Iterator[Page]:
    """Yield a page for each task that has values."""
    for task in tables.tasks.values():
        labels = [*_labels(tables, task), *(condition_tables(tables, task) if task.of_screens else ())]
        if not tables.variants(task.name) and not labels:
            continue
        metrics = dict.fromkeys(v.metric for v in tables.scored(task.name))
        strata = strata_tables(tables, task) if task.of_screens else ()
        summaries, heats = list(_summaries(tables, task)), [*_heats(tables, task), *strata]
        context = {
            "warnings": list(_warnings(tables, task)),
            "summaries": summaries,
            "heats": heats,
            "contests": list(_contests(tables, task)),
            "labels": labels,
            "screen": task.of_screens,
            "counts": list(_counts(tables, task)),
            "choices": _choices(tables, task, [*heats, *summaries]),
            "metrics": [tables.metric(task.name, name) for name in metrics],
            "description": task.description,
        }
        yield Page(f"task-{task.slug}", task.title, "task.html", context, ("profile", "dataset", "model"))


def _warnings(tables: Tables, task: Task) -> Iterator[tuple[dict[str, str], str]]:
    """Yield (about, sentence) for each control that a headline score of the task shows not to do what a control should.

    `about` holds the dataset and the profile, which the page's filters read.
    """
    for profile, (dataset, entry) in product(tables.profiles, tables.datasets.items()):
        for result in headlines(tables, task, dataset, profile):
            about = {"dataset": dataset, "profile": profile}
            for _, sentence in warnings(result):
                yield about, f"{entry.title}, {result.metric.title}: {sentence}"


def choices(
    scores: Sequence[tuple[Variant, Metric]], *others: tuple[str, str, list[tuple[str, str]]]
) -> list[dict[str, Any]]:
    """Return the controls that choose among scores, each with its options in the order of preference.

    They are metric, classifier and `others` (key, title, options as pairs of value and label), where there is a choice.
    """
    metrics = {metric.name: metric.title for _, metric in scores}
    classifiers = sorted(dict.fromkeys(v.classifier for v, _ in scores), key=words.place_of_classifier)
    of_classifiers = [(name, words.classifier(name) or "none") for name in classifiers]
    controls = [("metric", "Metric", list(metrics.items())), ("classifier", "Classifier", of_classifiers), *others]
    return [{"key": key, "title": title, "options": options} for key, title, options in controls if len(options) > 1]


def _choices(tables: Tables, task: Task, heats: Sequence[HeatTable]) -> list[dict[str, Any]]:
    """Return the controls by which the tables can be told apart."""
    used = {key for table in heats for key in table.about}
    scores = [(v, tables.metric(task.name, v.metric)) for v in tables.scored(task.name)]
    scores.sort(key=lambda score: score[1].name != task.headline)
    subsets = sorted(dict.fromkeys(v.subset for v, _ in scores), key=words.place_of_subset)
    of_subsets = [(name, words.subset(name)) for name in subsets]
    controls = choices(scores, ("subset", "Genes" if task.of_screens else "Cells", of_subsets))
    return [control for control in controls if control["key"] in used]


def _summaries(tables: Tables, task: Task) -> Iterator[HeatTable]:
    """Yield models x metrics for each dataset, profile and classifier; with one split also what is no score."""
    for dataset, entry in tables.datasets.items():
        n_splits, variants = len(tables.splits(task.name, dataset)), tables.variants(task.name, dataset)
        single = task.spans or n_splits == 1
        for profile, part in product(tables.profiles, tables.sets(task.name, dataset)):
            whole = [v for v in variants if (v.profile, v.set) == (profile, part)]
            scored = [v for v in tables.scored(task.name, dataset) if (v.profile, v.set) == (profile, part)]
            for name in dict.fromkeys(v.classifier for v in scored):
                fitting = [v for v in whole if v.classifier == name or (single and v.classifier == "")]
                fitting = [v for v in fitting if "/" not in v.subset]  # strata have a table of their own
                columns = [_column(Result(tables, task.name, dataset, variant)) for variant in fitting]
                columns = [c for c in columns if c[1].metric.is_score or (single and not c[1].metric.is_spread)]
                columns.sort(key=lambda column: (not column[1].metric.is_score, column[0].variant.subset))
                over = "one value per model" if single else f"means over {n_splits} splits"
                over = entry.described(part) if part else over
                about = {"profile": profile, "classifier": name}
                table = by_metric(columns, _caption(entry.title, over, profile, name), about)
                if table:
                    yield table


def _column(result: Result) -> tuple[Result, Column]:
    metric, variant = result.metric, result.variant
    key = ".".join(filter(None, (variant.metric, variant.subset)))
    if metric.is_score:
        return result, Column(key, metric.title, metric, words.subset(variant.subset))
    return result, Column(key, metric.title, metric, "diagnostics", about=words.subset_if_any(variant.subset))


def _heats(tables: Tables, task: Task) -> Iterator[HeatTable]:
    """Yield models x splits of each score; by single classifiers of the headline alone, so that the page stays small."""
    several = [dataset for dataset in tables.datasets if not task.spans and len(tables.splits(task.name, dataset)) > 1]
    for variant in tables.scored(task.name):
        if variant.classifier in words.USUAL_CLASSIFIERS or variant.metric == (task.headline or variant.metric):
            results = [Result(tables, task.name, dataset, variant) for dataset in several]
            yield from filter(None, (by_split(result, _about(result)) for result in results))


def _about(result: Result, over: str = "") -> str:
    what = f"{result.tables.datasets[result.dataset].title}: {result.metric.title}"
    return _caption(what, over, result.variant.profile, result.variant.classifier, result.variant.subset)


def _contests(tables: Tables, task: Task) -> Iterator[dict[str, Any]]:
    """Yield who can be told apart by each score; of several classifiers by their mean, so that the page stays small."""
    variants = [v for v in tables.variants(task.name) if v.classifier in words.USUAL_CLASSIFIERS]
    results = [Result(tables, task.name, dataset, v) for v, dataset in product(variants, tables.datasets)]
    yield from filter(None, (contest(result, _about(result, "ranks")) for result in results))


def _labels(tables: Tables, task: Task) -> Iterator[LabelTable]:
    """Yield, for each set that a task spans, how many cells of which species each label has, and its value by model."""
    sets = [(entry, part) for entry in tables.datasets.values() for part in tables.sets(task.name, entry.name) if part]
    for entry, part in sets:
        dataset, title = entry.name, f"{entry.title}, {entry.described(part)}"
        of_set = {v: rows for (*key, v), rows in tables.conditions.items() if key == [task.name, dataset, part]}
        sizes: dict[tuple[str, str], float] = {}
        for variant, values in of_set.items():
            if variant.metric == "n_cells":
                for (_, label), n in values.items():
                    sizes[variant.subset, label] = max(n, sizes.get((variant.subset, label), 0))
        counts = _cells_by_species(dataset, title, sizes)
        if counts:
            yield counts
        of_label: dict[str, float] = {}
        for (_, label), n in sizes.items():
            of_label[label] = of_label.get(label, 0) + n
        for variant, values in of_set.items():
            metric = tables.metric(task.name, variant.metric)
            if metric.is_score:
                pairs = metric.of_pairs == "species"
                by = "by pair of species (trained on the first, tested on the second)" if pairs else "by label"
                caption = _caption(f"{title}: {metric.title}", by, variant.profile, variant.classifier)
                about = {"profile": variant.profile, "dataset": dataset}
                heading, rows = ("Species", {}) if pairs else ("Label", of_label)
                table = label_table(caption, tables.models, values, metric, rows, about, heading=heading)
                if table:
                    yield table


def _cells_by_species(dataset: str, title: str, sizes: Mapping[tuple[str, str], float]) -> LabelTable | None:
    species = [Entry(name, readable(name)) for name in dict.fromkeys(name for name, _ in sizes)]
    if len(species) < 2:
        return None
    n_species = {label: sum((s.name, label) in sizes for s in species) for _, label in sizes}
    labels = sorted(n_species, key=lambda label: (-n_species[label], label))
    counts = [[sizes.get((s.name, label)) for s in species] for label in labels]
    cells = [[Cell(DASH if n is None else f"{n:,.0f}") for n in row] for row in counts]
    rows = [LabelRow(label, "", "", row) for label, row in zip(labels, cells, strict=True)]
    about = {"profile": "corrected", "dataset": dataset}
    return LabelTable(f"{title}: cells of each label and species", species, rows, about, of_models=False)


def _caption(what: str, over: str, profile: str, classifier: str = "", subset: str = "") -> str:
    scheme = words.classifier(classifier), words.subset_if_any(subset)
    return ", ".join(filter(None, (what, over, *scheme, f"{words.profile(profile)} scores")))


def _counts(tables: Tables, task: Task) -> Iterator[dict[str, Any]]:
    """Yield what is no score, unless the summary of a single split shows it; models that agree share a row.

    `rows` are (what, models, one text per split).
    """
    for dataset, entry in tables.datasets.items():
        splits = tables.splits(task.name, dataset)
        variants = tables.variants(task.name, dataset)
        for profile in tables.profiles:
            scored = any(v.profile == profile for v in tables.scored(task.name, dataset))
            if scored and (task.spans or len(splits) < 2):
                continue
            rows = []
            for variant in variants:
                metric = tables.metric(task.name, variant.metric)
                if variant.profile != profile or metric.is_score or metric.is_spread:
                    continue
                values = tables.values[task.name, dataset, variant]
                what = [metric.title, words.classifier(variant.classifier), words.subset_if_any(variant.subset)]
                for models, numbers in _agreeing(tables, values, splits):
                    texts = [DASH if n is None else number(n, metric) for n in numbers]
                    rows.append((", ".join(filter(None, what)), models, texts))
            if rows:
                caption = f"{entry.title}, {words.profile(profile)} scores"
                about = {"profile": profile, "dataset": dataset}
                yield {"caption": caption, "splits": list(map(readable, splits)), "rows": rows, "about": about}


def _agreeing(
    tables: Tables, values: Mapping[tuple[str, str], float], splits: Sequence[str]
) -> list[tuple[str, list[float | None]]]:
    """Put models together that do not contradict each other: (titles, one number per split)."""
    rows = {model: [values.get((model, split)) for split in splits] for model in tables.models}
    groups: list[tuple[list[str], list[float | None]]] = []
    for model, row in sorted(rows.items(), key=lambda item: item[1].count(None)):
        if row.count(None) == len(row):
            continue
        for models, numbers in groups:
            if all(n is None or n == m for n, m in zip(row, numbers, strict=True)):
                models.append(model)
                break
        else:
            groups.append(([model], row))
    if len(groups) == 1 and len(groups[0][0]) > 1:
        return [("all models", groups[0][1])]
    return [
        (", ".join(e.title for m, e in tables.models.items() if m in models), numbers) for models, numbers in groups
    ]
