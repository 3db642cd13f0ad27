"""Score every planted world and write docs/calibration.md: which scores see the right order of models, and which do not.

    make calibrate                       # 3 seeds, all tasks; minutes on 2 cores

It fails where the headline of a task disagrees with a world.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import scoring  # first: it finds our own modules

from cellgauge.core.threads import default_to_one_thread

default_to_one_thread()

import numpy as np
from claims import (
    ALLOWED,
    BLIND,
    NONE,
    RIGHT,
    WRONG,
    Judgment,
    Scores,
    collect,
    faults_of_headline,
    headline,
    metrics,
)
from scoring import ROOT, Value
from worlds import WORLDS, Alike, Better, Expected, Planted

from cellgauge.core.atomic import atomic_path
from cellgauge.core.errors import run_cli
from cellgauge.plan.interpreter import python_of, require
from cellgauge.results.entries import Metric, Variant
from cellgauge.results.numbers import DASH, MINUS
from cellgauge.results.words import subset

N_SEEDS = 3
APART = {"scib": "scib"}
"""Tasks that run in an environment of their own, and its name."""

INTRODUCTION = """\
# Calibration: which scores to trust

Scores measure models; here models with a known order measure the scores. In each *world* below, data and models are simulated
so that the better model is known. The workflow's own code computes every score in every world. A score that the worse model
wins in a world will mislead you on data that look like that world.

`make calibrate` writes this page: {n_seeds} draws of each world, profile `corrected` unless stated. A score can be the
*headline* of a task, the number behind the verdict, only if the better model wins in every world.

- **right**: the better model is ahead in every draw; models with the same information get the same value; a known value is
  met.
- **blind**: the better model is neither ahead nor behind in every draw, or has no value where the worse one has. A lead below
  {least} does not count (1 %, if a score has no upper bound).
- **wrong**: the worse model is ahead in every draw; models with the same information get different values; a known value is
  missed.
"""


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--output", type=Path, default=ROOT / "docs/calibration.md", metavar="MD")
    cli.add_argument("--seeds", type=int, default=N_SEEDS, help=f"how often each world is made (default {N_SEEDS})")
    cli.add_argument("--processes", type=int, default=2)
    args = cli.parse_args()
    for environment in APART.values():
        require(environment, "make calibrate")
    scores = collect(measure(range(args.seeds), args.processes))
    with atomic_path(args.output) as temporary:
        temporary.write_text(page(scores, args.seeds), encoding="utf-8")
    problems = list(disagreements(scores))
    print("\n".join([*problems, f"{args.output}: {len(scores)} tables, {len(problems)} problems"]))
    sys.exit(bool(problems))


def measure(seeds: Sequence[int], processes: int) -> list[Value]:
    """Return the values of all worlds and tasks, in an order that does not depend on which is done first."""
    with ProcessPoolExecutor(processes) as pool:
        apart = [
            pool.submit(scoring.score_apart, task, seeds, str(ROOT / python_of(name))) for task, name in APART.items()
        ]
        jobs = [pool.submit(score, name, seed) for name in WORLDS for seed in seeds]
        return [value for job in [*jobs, *apart] for value in job.result()]


def score(name: str, seed: int) -> list[Value]:
    """Return the values of one world and seed, for the tasks that this Python runs."""
    planted = WORLDS[name]
    tasks = [task for task in (*planted.tasks, *planted.shown) if task not in APART]
    return list(scoring.score_world(planted, tasks, seed))


def disagreements(scores: Mapping[tuple[str, str], Scores]) -> Iterator[str]:
    """Yield where headlines disagree with worlds."""
    for (task, name), of_world in scores.items():
        if task not in WORLDS[name].tasks:
            continue
        faults = [sentence(fault) for fault in faults_of_headline(of_world)]
        if faults:
            yield f"{task}, {name}: the headline is at fault: {'; '.join(faults)}"


# --- the page --------------------------------------------------------------------------------------------------------


def page(scores: Mapping[tuple[str, str], Scores], n_seeds: int) -> str:
    """Return the page: a summary for each task, then each world with its values."""
    parts = [INTRODUCTION.format(n_seeds=n_seeds, least=text(0.005))]
    for task in dict.fromkeys(task for task, _ in scores):
        of_task = [s for (name, _), s in scores.items() if name == task]
        parts += summary(task, [s for s in of_task if task in WORLDS[s.world].tasks])
    parts.append("# The worlds\n")
    for planted in WORLDS.values():
        parts += describe(planted, [scores[task, planted.name] for task in (*planted.tasks, *planted.shown)])
    return "\n".join(parts).rstrip() + "\n"


def summary(task: str, scores: Sequence[Scores]) -> Iterator[str]:
    """Yield a table of a task's scores: how often each is right, and in words where it is not."""
    first = headline(scores[0])
    yield f"## Task `{task}`\n"
    states = tally(task, scores, first)
    verdict = "is right in every world" if not any(j.is_fault for j in states) else "should not be, see below"
    yield f"The headline is {words(task, first)}, which {verdict}.\n"
    yield "| score | right | blind | wrong | where it is not right |\n|---|---|---|---|---|"
    for variant in variants(scores, "corrected"):
        counts = count(tally(task, scores, variant))
        name = words(task, variant)
        yield f"| {f'**{name}**' if variant == first else name} | {' | '.join(counts)} | {failures(variant, scores)} |"
    reference = variants(scores, "reference")
    if reference:
        lines = [f"{words(task, v)} {'/'.join(count(tally(task, scores, v)))}" for v in reference]
        yield f"\nProfile `reference` (right/blind/wrong): {'; '.join(lines)}."
    yield ""


def variants(scores: Iterable[Scores], profile: str) -> list[Variant]:
    """Return the variants of a profile that any world has, in the order of the score files."""
    return list(dict.fromkeys(variant for of_world in scores for variant in of_world.variants(profile)))


def tally(task: str, scores: Iterable[Scores], variant: Variant) -> list[Judgment]:
    """Return what a score says of all worlds that have it."""
    return [judgment for s in scores if variant in s.values for judgment in s.judgments(variant)]


def count(judgments: Sequence[Judgment]) -> list[str]:
    """Return how many of the claims a score sees, does not see and contradicts, as text."""
    return [
        str(sum(judgment.state in states for judgment in judgments))
        for states in ((RIGHT, ALLOWED), (BLIND,), (WRONG,))
    ]


def failures(variant: Variant, scores: Iterable[Scores]) -> str:
    """Return in words where a score is blind or wrong, world by world."""
    found = {}
    for of_world in scores:
        if variant in of_world.values:
            faults = [sentence(judgment) for judgment in of_world.judgments(variant) if judgment.is_fault]
            if faults:
                found[WORLDS[of_world.world]] = faults
    return "<br>".join(f"[{p.title}](#{p.name.replace('_', '-')}): {'; '.join(faults)}" for p, faults in found.items())


def sentence(judgment: Judgment) -> str:
    """Return a fault in words."""
    claim = judgment.claim
    if isinstance(claim, Expected):
        return f"“{claim.model}” gets {claim.value + judgment.difference:.2f}, not {text(claim.value)}"
    if isinstance(claim, Alike):
        return f"“{claim.first}” and “{claim.second}” differ"
    if judgment.difference is None:
        return f"“{claim.better}” has no value, “{claim.worse}” has one"
    if judgment.state == BLIND:
        return f"“{claim.better}” is not separated from “{claim.worse}”"
    return f"“{claim.worse}” beats “{claim.better}”"


def describe(planted: Planted, scores: Sequence[Scores]) -> Iterator[str]:
    """Yield a world: what is planted, and for each task a table of values and of what they say."""
    models, claims = planted.known
    letters = dict(zip(models, "ABCDEFGHIJ", strict=False))
    yield f"## {planted.title}\n\n{planted.text}\n"
    yield f"{', '.join(f'{letter}: {model}' for model, letter in letters.items())}.\n"
    orders = [claim for claim in claims if not isinstance(claim, Expected)]
    for claim in orders:
        if isinstance(claim, Better) and claim.tie:
            yield f"{heading(claim, letters)} may tie: {claim.tie}.\n"
    for of_world in scores:
        task = of_world.task
        yield f"| {task} | {' | '.join(letters.values())} | {' | '.join(heading(c, letters) for c in orders)} |"
        yield f"|---|{'---|' * (len(letters) + len(orders))}"
        first = headline(of_world)
        for variant in of_world.variants("corrected"):
            metric, name = metrics(task)[variant.metric], words(task, variant)
            judgments = list(of_world.judgments(variant))
            cells = [value(of_world, variant, model, judgments) for model in letters]
            cells += [state(j, metric) for j in judgments if not isinstance(j.claim, Expected)]
            yield f"| {f'**{name}**' if variant == first else name} | {' | '.join(cells)} |"
        yield ""


def heading(claim: Better | Alike, letters: Mapping[str, str]) -> str:
    """Return a claim in letters."""
    if isinstance(claim, Better):
        return f"{letters[claim.better]} over {letters[claim.worse]}"
    return f"{letters[claim.first]} as {letters[claim.second]}"


def value(scores: Scores, variant: Variant, model: str, judgments: Iterable[Judgment]) -> str:
    """Return the mean of a model over seeds as text, with the value that it should have where it has another one."""
    mean = scores.mean(variant, model)
    if np.isnan(mean):
        return DASH
    missed = [
        j.claim for j in judgments if isinstance(j.claim, Expected) and j.claim.model == model and j.state == WRONG
    ]
    shown = text(mean, metrics(scores.task)[variant.metric])
    return f"**{shown}** (not {text(missed[0].value)})" if missed else shown


def state(judgment: Judgment, metric: Metric) -> str:
    """Return what a score says of an order as text: by how much the better model is ahead."""
    if judgment.difference is None:
        return DASH if judgment.state == NONE else "**blind**"
    if isinstance(judgment.claim, Alike):
        return "equal" if judgment.state == RIGHT else f"**wrong** {text(abs(judgment.difference), metric)}"
    if judgment.state == RIGHT:
        return text(judgment.difference, metric)
    return {ALLOWED: "tie", BLIND: "**blind**"}.get(judgment.state, f"**wrong** {text(judgment.difference, metric)}")


def words(task: str, variant: Variant) -> str:
    """Return a score in words."""
    title = metrics(task)[variant.metric].title
    return f"{title}, {subset(variant.subset)}" if variant.subset else title


def text(number: float, metric: Metric | None = None) -> str:
    """Return a number with two decimals, or two digits where the range is open: no more than another processor would give."""
    if metric is None:
        shown = f"{number:g}"
    elif metric.is_closed:
        shown = f"{number:.2f}"
    else:
        shown = f"{number:#.2g}".rstrip(".")
    return shown.replace("-", MINUS) if shown.strip("-0.") else shown.lstrip("-")


if __name__ == "__main__":
    run_cli(main)
