"""What tables hold, as objects: metrics, tasks, models and data sets, intervals, and what is missing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cellgauge.results.catalogue import is_beside
from cellgauge.results.numbers import readable, short

KINDS = ("foundation", "precomputed", "baseline", "control")
"""The kinds of models, in the order of the rows of every table."""


@dataclass(frozen=True)
class Variant:
    """What tells two scores of one model on one split apart; and of a task that spans splits, the set of them."""

    profile: str
    metric: str
    classifier: str
    subset: str
    set: str = ""


@dataclass(frozen=True)
class Metric:
    """A metric as config/tasks.yaml describes it; one without a direction is a count that stands diagnostics.

    `counts_missing` is what counts as wrong where a model left it out, "cells" or "genes".
    `in_full` holds the subsets of which every single condition is shown. Where `of_pairs` is "labels", a condition is a pair
    of labels in JSON, the true and the predicted one; where it is "species", an ordered pair of them, "human to mouse".
    `czbenchmarks` holds the `task` and the `metric` under which cz-benchmarks has it.
    """

    name: str
    title: str
    description: str = ""
    source: str = ""
    higher_is_better: bool | None = None
    low: float | None = None
    high: float | None = None
    in_full: Sequence[str] = ()
    of_pairs: str = ""
    czbenchmarks: Mapping[str, str] = field(default_factory=dict)
    also_known_as: tuple[str, ...] = ()
    counts_missing: str = ""

    @classmethod
    def of(cls, name: str, facts: Mapping[str, Any]) -> Metric:
        """Return the metric that an entry of the catalogue describes; keys that are absent or empty have their defaults."""
        ends: Sequence[Any] = facts.get("range") or ()
        low, high = ends if len(ends) == 2 else (None, None)
        names = tuple(facts.get("also_known_as") or ())
        keys = ("description", "source", "higher_is_better", "in_full", "of_pairs", "czbenchmarks", "counts_missing")
        others = {key: facts[key] for key in keys if facts.get(key) is not None}
        return cls(name, facts.get("title") or name, low=low, high=high, also_known_as=names, **others)

    @property
    def is_spread(self) -> bool:
        """Whether it is the standard deviation of another metric, or that metric without a donor."""
        return is_beside(self.name)

    @property
    def is_score(self) -> bool:
        """Whether models may be compared by it."""
        return self.higher_is_better is not None and not self.is_spread

    @property
    def rises(self) -> bool:
        """Whether the higher of two values is the better one; also true where the catalogue does not say."""
        return self.higher_is_better is not False

    @property
    def is_closed(self) -> bool:
        """Whether both ends of the range are known."""
        return self.low is not None and self.high is not None

    @property
    def range(self) -> str:
        """The range in words, "" when it is not known."""
        low, high = (None if end is None else short(end) for end in (self.low, self.high))
        if self.is_closed:
            return f"{low} to {high}"
        return f"at least {low}" if low is not None else f"at most {high}" if high is not None else ""


@dataclass(frozen=True)
class Interval:
    """The 95 % interval of a value; `units` says what the value is the mean of."""

    low: float
    high: float
    units: str


@dataclass(frozen=True)
class Task:
    """A task; one that spans splits is scored on sets of them."""

    name: str
    title: str
    metrics: Mapping[str, Metric]
    slug: str = ""
    description: str = ""
    spans: bool = False
    also_known_as: Sequence[str] = ()
    modality: str = ""  # the data that it scores, "" where unknown
    headline: str = ""  # the metric that stands for the task, "" where the catalogue names none

    @property
    def of_screens(self) -> bool:
        """Whether it scores predicted responses to perturbations, each condition for itself."""
        return self.modality == "perturbation"


@dataclass(frozen=True)
class Entry:
    """A model or a dataset: its key, the title that the page shows, and what else the catalogue says of it.

    `facts` holds text, and lists and dictionaries under the keys of `cellgauge.results.read.OF_JSON`.
    """

    name: str
    title: str
    kind: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_control(self) -> bool:
        """Whether it brackets the models: a control is compared and never ranked."""
        return self.kind == "control"

    @property
    def is_precomputed(self) -> bool:
        """Whether its job reads a file that was made elsewhere: what the job took says nothing of the model."""
        return self.facts.get("adapter", self.kind).startswith("precomputed") or self.kind == "precomputed"

    @property
    def is_uninformed(self) -> bool:
        """Whether it knows nothing of the cells: a metric that it wins tells nothing by itself."""
        return self.facts.get("uninformed") == "True"

    @property
    def is_fitted_on_split(self) -> bool:
        """Whether it is fitted to the very cells that it is scored on."""
        return self.facts.get("fitted_on_split") == "True"

    @property
    def size(self) -> str:
        """The cells and donors of a dataset in words, "" where the catalogue does not say."""
        counts = {what: self.facts.get(f"n_{what}", "") for what in ("cells", "donors")}
        return ", ".join(f"{int(count):,} {what}" for what, count in counts.items() if count.isdecimal())

    @property
    def also_known_as(self) -> Sequence[str]:
        """Its names elsewhere, by which it is found too."""
        return self.facts.get("also_known_as") or ()

    @property
    def files(self) -> Sequence[Mapping[str, Any]]:
        """The files that a model needs beside the cells: url, and where they were ever fetched size and sha256."""
        return [file for file in self.facts.get("files") or () if "url" in file]

    @property
    def leakage(self) -> Mapping[str, Mapping[str, str]]:
        """Per dataset whether a model has seen it in training: state (clean, likely, known, unknown) and where that is said."""
        return self.facts.get("leakage") or {}

    @property
    def notes(self) -> Mapping[str, str]:
        """What its files say of how they were read or what they lack, by split, of a model by "dataset/split"."""
        return self.facts.get("notes") or {}

    @property
    def organisms(self) -> Mapping[str, str]:
        """The species of each split, of a dataset whose catalogue entry names them."""
        return self.facts.get("splits") or {}

    @property
    def sets(self) -> Mapping[str, Sequence[str]]:
        """The splits of each set that tasks which span splits are scored on."""
        return self.facts.get("sets") or {}

    def described(self, split_set: str, most: int | None = None) -> str:
        """Return a set in words, with its species: "common: human, mouse"; of more than `most` species their number."""
        splits = self.sets.get(split_set, ())
        species = list(dict.fromkeys(name for split, name in self.organisms.items() if split in splits))
        named = ", ".join(map(readable, species)) if most is None or len(species) <= most else f"{len(species)} species"
        return ": ".join(filter(None, [readable(split_set), named]))


@dataclass(frozen=True)
class Missing:
    """A score that is not there, and why (or, with status ok, what is to be said of one that is)."""

    status: str
    reason: str

    @property
    def label(self) -> str:
        """The status as the page shows it."""
        return {"failed": "failed", "ok": "note"}.get(self.status, "n/a")


NO_ROW = Missing("not_applicable", "the score file holds no such value")


def slug(name: str, taken: Iterable[str] = ()) -> str:
    """Return `name` as a part of an HTML id and of a permalink, unlike all those `taken`."""
    base = name_of_id = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "x"
    used, number = set(taken), 2
    while name_of_id in used:
        name_of_id, number = f"{base}-{number}", number + 1
    return name_of_id
