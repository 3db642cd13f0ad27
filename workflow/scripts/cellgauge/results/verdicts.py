"""Which model for what: for each task and dataset the best model by the task's headline score, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cellgauge.results.compare import Result
from cellgauge.results.numbers import as_printed, number

MOST_NAMES = 4


def answer(result: Result) -> str:
    """Return the model with the best mean and how sure that is, or why there is none, in a sentence."""
    if len(result.ranked) < 2:
        return "Fewer than two models can be compared."
    models, best = result.tables.models, next(iter(result.ranked))
    value = number(result.ranked[best], result.metric)
    if noise := unbeaten(result):
        control = f"{models[noise].title} ({number(result.comparable[noise], result.metric)})"
        return f"No model beats {control}; the best is {models[best].title} ({value})."
    alike = _few([models[m].title for m in result.ranked if m != best and result.ahead(best, m) != best])
    best = f"{models[best].title} scores best"
    if not result.contest:
        return f"{best}; there are too few units for a test."
    if alike:
        return f"{best}, but not significantly better than {_list(alike)} over {result.over}."
    return f"{best}, significantly better than every other model over {result.over}."


def unbeaten(result: Result) -> str:
    """Return the negative control that the best model does not beat, "" where there is none."""
    models, means = result.tables.models, result.comparable
    best = next(iter(result.ranked), None)
    noise = next((m for m in means if models[m].is_control and models[m].is_uninformed), None)
    if best is None or noise is None or _first_by_numbers(result, means, best, noise) == best:
        return ""
    return noise


def standings(result: Result) -> list[str]:
    """Return how the other models stand to the best baseline, and which are not ranked or failed, in sentences."""
    return [*_standings(result), *_standings_on_few(result), *_not_ranked(result)]


def _standings(result: Result) -> Iterator[str]:
    """Say of every model that is neither a baseline nor a control how it stands to the best baseline."""
    tables, metric = result.tables, result.metric
    models = [m for m in result.ranked if tables.models[m].kind != "baseline"]
    baseline = result.best_baseline
    if baseline is None:
        if models:
            yield "There is no baseline to compare with."
        return
    value = number(result.ranked[baseline], metric)
    groups: dict[tuple[str, str], list[str]] = {}
    for model in models:
        groups.setdefault(_standing(result, model, baseline, result.ranked), []).append(model)
    for (standing, untested), members in groups.items():
        values = [number(result.ranked[model], metric) for model in members]
        compared = f"the best baseline, {tables.models[baseline].title} ({value}{untested})"
        if len(members) == 1:
            yield f"{tables.models[members[0]].title}: {values[0]}, {standing} {compared}."
        else:
            named = ", ".join(_few([f"{tables.models[m].title} ({v})" for m, v in zip(members, values, strict=True)]))
            yield f"{standing[0].upper()}{standing[1:]} {compared}: {named}."


def _standing(result: Result, model: str, baseline: str, means: Mapping[str, float]) -> tuple[str, str]:
    """Return how a model compares with a baseline, and "; not tested" where no test says so, else ""."""
    better = _ahead(result, means, model, baseline)
    standing = {model: "above", baseline: "below"}.get(better, "not significantly different from")
    return standing, "; not tested" if result.ahead(model, baseline) is None else ""


def _ahead(result: Result, means: Mapping[str, float], one: str, other: str) -> str:
    """Return the better of two models, "" for neither: by the test of their differences, else by `means` as printed."""
    ahead = result.ahead(one, other)
    return _first_by_numbers(result, means, one, other) if ahead is None else ahead


def _first_by_numbers(result: Result, means: Mapping[str, float], one: str, other: str) -> str:
    """Return the better one of two models by their means as they are printed, "" where these are equal."""
    first, second = (as_printed(means[name], result.metric) for name in (one, other))
    return "" if first == second else one if (first > second) == result.metric.rises else other


def _standings_on_few(result: Result) -> Iterator[str]:
    """Say of every such model whose mean lacks splits how it stands to the best baseline on those that it has."""
    tables, metric = result.tables, result.metric
    baselines = [m for m in result.ranked if tables.models[m].kind == "baseline"]
    for model, (mean, _) in result.means.items():
        entry, splits = tables.models[model], [split for name, split in result.values if name == model]
        if model in result.ranked or entry.kind in ("control", "baseline") or not result.lacks_splits_alone(model):
            continue
        sentence = f"{entry.title}: {number(mean, metric)} over {result.shortfall(model)}"
        means = {b: sum(result.values[b, s] for s in splits) / len(splits) for b in baselines}
        if means:
            best = (max if metric.rises else min)(means, key=lambda baseline: means[baseline])
            standing, untested = _standing(result, model, best, {model: mean, **means})
            of = f"the best baseline there, {tables.models[best].title} ({number(means[best], metric)}{untested})"
            sentence = f"{sentence}, {standing} {of}"
        yield f"{sentence}."


def _not_ranked(result: Result) -> Iterator[str]:
    """Name the other models whose means lack something, with what they reached, and those that failed."""
    models = result.tables.models
    not_ranked, failed = [], []
    for name, entry in models.items():
        if entry.is_control:
            continue
        if name not in result.means:
            failed += [entry.title] if result.gap(name).status == "failed" else []
        elif name not in result.ranked and (entry.kind == "baseline" or not result.lacks_splits_alone(name)):
            value = number(result.means[name][0], result.metric)
            not_ranked.append(f"{entry.title} ({value} over {result.shortfall(name)})")
    if not_ranked:
        yield f"Not ranked: {', '.join(not_ranked)}."
    if failed:
        yield f"Failed: {', '.join(failed)}."


def _few(names: list[str]) -> list[str]:
    """Return names, of many the first ones and how many more there are."""
    return names if len(names) <= MOST_NAMES + 1 else [*names[:MOST_NAMES], f"{len(names) - MOST_NAMES} more"]


def _list(titles: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(titles[:-1]), titles[-1])))


def warnings(result: Result) -> Iterator[tuple[str, str]]:
    """Yield (control, sentence) for each positive control that a model beats and each negative control that beats a model.

    The test of paired differences decides where there is one, else the numbers as they are printed.
    """
    models, metric = result.tables.models, result.metric
    for control in (name for name in result.comparable if models[name].is_control):
        negative, means = models[control].is_uninformed, result.comparable
        wrong = [m for m in result.ranked if _ahead(result, means, control, m) == (control if negative else m)]
        if not wrong:
            continue
        named = _list([f"{models[m].title} ({number(result.ranked[m], metric)})" for m in wrong])
        whole = f"{models[control].title} ({number(means[control], metric)})"
        fault = (
            f"knows nothing about the cells, beats {named}" if negative else f"knows the answer, is beaten by {named}"
        )
        yield control, f"{whole}, which {fault}. Do not choose a model by this score alone."
