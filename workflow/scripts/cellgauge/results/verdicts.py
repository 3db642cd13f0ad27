"""Which model for what: for each task and dataset the best model by the task's first score, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cellgauge.results.compare import Result
from cellgauge.results.entries import Entry, Task
from cellgauge.results.numbers import number
from cellgauge.results.ranking import least_p
from cellgauge.results.read import Tables
from cellgauge.results.scales import ranks
from cellgauge.results.uncertainty import ALPHA
from cellgauge.results.words import subset

PRETRAINED = ("foundation", "precomputed")
LEAKAGE = {
    "known": "It has seen these data in training.",
    "likely": "It has likely seen these data in training.",
    "unknown": "Whether it has seen these data in training is unknown.",
}
MOST_NAMES = 4


@dataclass(frozen=True)
class Verdict:
    """What one task says of the models on one dataset, in sentences.

    Attributes:
        about: task, dataset and profile, for the page's filters.
        measure, remarks: the score that it is about, and what must be known of it.
        best: the model with the best mean, "" where no two models can be compared.
        value: its mean, as text.
        sentences: how sure that is, and what else must be known.
    """

    task: Task
    dataset: Entry
    about: Mapping[str, str]
    measure: str
    remarks: str
    best: str
    value: str
    sentences: Sequence[str]


def verdict(result: Result, task: Task) -> Verdict | None:
    """Return what a task's first score says on one dataset; None where no model has a value."""
    tables, metric, variant = result.tables, result.metric, result.variant
    if not result.means:
        return None
    ranked = {m: mean for m, (mean, _) in result.means.items() if result.covers(m)}
    ranked = {m: mean for m, mean in ranked.items() if tables.models[m].kind != "control"}
    about = {"task": task.name, "dataset": result.dataset, "profile": variant.profile}
    scheme = [subset(variant.subset)] if variant.subset else []
    scheme += [tables.datasets[result.dataset].described(variant.set)] if variant.set else []
    remarks = ", ".join([*scheme, *([] if metric.higher_is_better else ["lower is better"])])
    known = (task, tables.datasets[result.dataset], about, metric.title, remarks)
    if len(ranked) < 2:
        return Verdict(*known, "", "", ["Fewer than two models can be compared.", *_not_ranked(result, ranked)])
    places = ranks(ranked, metric)
    best = min(ranked, key=lambda model: places[model])
    sentences = [
        *_how_sure(result, best, ranked),
        *_leaks(tables.models[best], result.dataset),
        *_worth(result, best, ranked),
        *_beaten_by_noise(result, ranked[best]),
        *_not_ranked(result, ranked),
    ]
    return Verdict(*known, tables.models[best].title, number(ranked[best], metric), sentences)


def not_told_apart(result: Result, best: str, ranked: Mapping[str, float]) -> list[str] | None:
    """Return the models that cannot be told from the best one, the nearest first; None where nothing says so.

    A signed-rank test over splits or conditions decides where there are enough of them (comparisons.csv), else the interval of
    the best mean.
    """
    others = [model for model in ranked if model != best]
    others.sort(key=lambda model: abs(ranked[model] - ranked[best]))
    key = (result.task, result.dataset, result.variant)
    if key in result.tables.contests:
        better = result.tables.better.get(key, {})
        return [model for model in others if better.get(frozenset((best, model))) != best]
    interval = result.interval(best)
    return [m for m in others if interval.low <= ranked[m] <= interval.high] if interval else None


def _how_sure(result: Result, best: str, ranked: Mapping[str, float]) -> Iterator[str]:
    tables, contest = result.tables, result.tables.contests.get((result.task, result.dataset, result.variant))
    unit = _unit(result)
    alike = not_told_apart(result, best, ranked)
    if alike is None:
        yield f"Too few {unit} to say how sure that is."
    elif contest:
        n = int(next(iter(contest.values()))["n_splits"])
        if least_p(len(contest), n) >= ALPHA and len(alike) == len(ranked) - 1:
            yield f"{n} {unit} are too few to tell any of {len(contest)} models apart."
        elif alike:
            yield f"Not told apart from it over {n} {unit}: {_names(tables, alike)}."
        else:
            yield f"Ahead of every other model over {n} {unit}."
    else:
        reach = f"its 95\N{NO-BREAK SPACE}% interval ({result.interval(best).resampled} drawn)"
        within = f"Within {reach}: {_names(tables, alike)}" if alike else f"No other mean lies within {reach}"
        yield f"{within}; too few {unit} for a test."


def _worth(result: Result, best: str, ranked: Mapping[str, float]) -> Iterator[str]:
    """Say how pretrained models do against baselines."""
    tables, places = result.tables, ranks(ranked, result.metric)
    kinds = {kind: [m for m in ranked if tables.models[m].kind in kind] for kind in (PRETRAINED, ("baseline",))}
    pretrained, baselines = kinds.values()
    if not pretrained:
        yield "No pretrained model could be compared."
    elif best in baselines:
        first = min(pretrained, key=lambda model: places[model])
        yield f"It is a baseline; the best pretrained model is {_with_value(result, first, ranked)}."
    elif baselines:
        first = min(baselines, key=lambda model: places[model])
        yield f"The best baseline is {_with_value(result, first, ranked)}."


def _leaks(model: Entry, dataset: str) -> Iterator[str]:
    if model.kind in PRETRAINED:
        state = model.leakage.get(dataset, {}).get("state", "unknown")
        if state in LEAKAGE:
            yield LEAKAGE[state]


def _beaten_by_noise(result: Result, best: float) -> Iterator[str]:
    models, rising = result.tables.models, result.metric.higher_is_better
    for model, (mean, _) in result.means.items():
        if models[model].is_uninformed and (mean > best if rising else mean < best):
            yield f"Caution: {_with_value(result, model, {model: mean})} does better, so do not choose by this score alone."
            return


def _not_ranked(result: Result, ranked: Mapping[str, float]) -> Iterator[str]:
    models = result.tables.models
    left = [m for m in models if m in result.means and m not in ranked and models[m].kind != "control"]
    if left:
        unit = _unit(result)
        yield f"Not compared, as {'it lacks' if len(left) == 1 else 'they lack'} {unit}: {_names(result.tables, left)}."


def _unit(result: Result) -> str:
    return f"{result.tables.tasks[result.task].witness}s"


def _names(tables: Tables, models: Sequence[str]) -> str:
    titles = [tables.models[model].title for model in models]
    if len(titles) > MOST_NAMES + 1:
        titles = [*titles[:MOST_NAMES], f"{len(titles) - MOST_NAMES} more"]
    return " and ".join(filter(None, (", ".join(titles[:-1]), titles[-1])))


def _with_value(result: Result, model: str, ranked: Mapping[str, float]) -> str:
    return f"{result.tables.models[model].title} ({number(ranked[model], result.metric)})"
