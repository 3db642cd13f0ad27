"""Which models no test tells apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from string import ascii_letters


def cliques(order: Sequence[str], better: Mapping[frozenset[str], str]) -> list[list[str]]:
    """Return the largest groups of models of which no test tells any two apart, those with the best ranks first.

    They are the maximal cliques of the graph that joins such pairs (Bron & Kerbosch 1973, Communications of the ACM 16,
    575-577); a model that is told apart from all others is a group of its own.

    Args:
        order: the models by mean rank.
        better: the better one of each pair that a test tells apart.
    """
    alike = {a: {b for b in order if b != a and frozenset((a, b)) not in better} for a in order}
    place = {model: n for n, model in enumerate(order)}
    groups = [sorted(group, key=place.__getitem__) for group in _cliques(set(), set(order), set(), alike)]
    return sorted(groups, key=lambda group: [place[model] for model in group])


def _cliques(
    group: set[str], candidates: Set[str], done: Set[str], alike: Mapping[str, Set[str]]
) -> Iterator[set[str]]:
    if not candidates and not done:
        yield group
        return
    pivot = max(candidates | done, key=lambda model: len(candidates & alike[model]))
    for model in candidates - alike[pivot]:
        yield from _cliques(group | {model}, candidates & alike[model], done & alike[model], alike)
        candidates, done = candidates - {model}, done | {model}


def letters_of(groups: Sequence[Sequence[str]]) -> list[tuple[str, Sequence[str]]]:
    """Return each group with its letter: a to z, A to Z, then numbers set apart by commas."""
    names = [*ascii_letters, *(f",{n}" for n in range(len(ascii_letters) + 1, len(groups) + 1))]
    return list(zip(names, groups, strict=False))
