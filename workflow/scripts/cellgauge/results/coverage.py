"""Like with like: of how many of a split's cells, conditions and genes a score is, and over how many folds and splits a mean.

A model that leaves out what is hard scores better on the rest. So a score of less than LEAST of its split, and a mean over
fewer folds, pairs of species or splits than another model's, is shown with both numbers. It is neither ranked nor tested,
unless the metric counts what is missing as wrong (`counts_missing` in config/tasks.yaml).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from cellgauge.results.catalogue import Tasks, metrics_of
from cellgauge.results.uncertainty import SHEET, Singles

if TYPE_CHECKING:
    import pandas as pd

LEAST = 0.99
"""The least share of cells, genes, conditions and labels; of folds and pairs of species, which are few, all are needed."""
OF_FEW = ("folds", "pairs of species")
COUNTS = {"cells": ("n_cells", "n_unembedded", ""), "genes": ("n_genes", "n_genes_unpredicted", "all")}
"""What may be missing: the metrics that count what is scored and what is not, and their subset."""
COUNT_METRICS = {name for *pair, _ in COUNTS.values() for name in pair}
"""The metrics of COUNTS; they are themselves of all cells or genes."""
COUNTS_IN = "corrected"
"""The profile in which metrics may count what is missing as wrong: cz-benchmarks does not."""


class Coverage:
    """What the scores of a run are of.

    Args:
        scores: all score rows, those of single conditions among them.
        headline: the row that stands for each score.
        singles: what they are the means of (`cellgauge.results.uncertainty.singles`).
        tasks: what the catalogue says of the tasks.
    """

    def __init__(self, scores: pd.DataFrame, headline: pd.DataFrame, singles: Singles, tasks: Tasks) -> None:
        self._counted = {(task, metric): facts.get("counts_missing") for task, metric, facts in metrics_of(tasks)}
        self._singles = singles
        whole = scores[(scores["status"] == "ok") & (scores["condition"] == "")]
        columns = ["task", "dataset", "split", "model", "profile", "metric", "subset", "value"]
        rows = whole.loc[whole["metric"].isin(COUNT_METRICS), columns]
        self._counts = {tuple(key): value for *key, value in rows.itertuples(index=False, name=None)}
        self._splits: dict[tuple, dict[str, dict[str, None]]] = defaultdict(lambda: defaultdict(dict))
        rows = headline.loc[headline["condition"] == "", [*SHEET, "model", "split"]]
        for *key, model, split in rows.itertuples(index=False, name=None):
            self._splits[tuple(key)][model][split] = None

    def parts(self, key: tuple[str, ...], model: str, split: str) -> Iterator[tuple[str, int, int]]:
        """Yield what may be missing in a score of one split, how much of it is scored, and how much there is.

        Args:
            key: the fields SHEET of the score.
        """
        task, dataset, _, _, metric, _, profile = key
        for what, (scored, left_out, of) in COUNTS.items():
            if profile == COUNTS_IN and self._counted.get((task, metric)) == what:
                continue
            place = (task, dataset, split, model, profile)
            counts = [self._counts.get((*place, name, of), 0.0) for name in (scored, left_out)]
            if sum(counts):
                yield what, int(counts[0]), int(sum(counts))
        of_kinds = {} if metric in COUNT_METRICS else self._singles.get((task, dataset, split, *key[3:]), {})
        for kind in ("conditions", "labels", *OF_FEW):
            of_models = of_kinds.get(kind, {})
            if model in of_models or (of_models and kind == "conditions"):
                yield kind, len(of_models.get(model, ())), len(set().union(*of_models.values()))

    def short(self, key: tuple[str, ...], model: str, splits: Collection[str] | None = None) -> str:
        """Return what scores are of in words, such as "1,490 of 2,142 cells"; "" where little or nothing is missing."""
        sums: dict[str, list[int]] = {}
        below: dict[str, None] = {}
        for split in self._splits[key][model] if splits is None else splits:
            for what, n_scored, n_total in self.parts(key, model, split):
                total = sums.setdefault(what, [0, 0])
                total[0], total[1] = total[0] + n_scored, total[1] + n_total
                if n_scored < (1 if what in OF_FEW else LEAST) * n_total:
                    below[what] = None
        return "; ".join(f"{sums[what][0]:,} of {sums[what][1]:,} {what}" for what in below)

    def lacks_splits(self, key: tuple[str, ...], model: str) -> str:
        """Return over how many of the splits that any model has a model's mean is, "2 of 3 splits"; "" where over all."""
        n = len(set().union(*self._splits[key].values()))
        return "" if len(self._splits[key][model]) == n else f"{len(self._splits[key][model])} of {n} splits"

    def shortfall(self, key: tuple[str, ...], model: str) -> str:
        """Return both of what a model's mean lacks, "" where it may be compared."""
        return "; ".join(filter(None, (self.short(key, model), self.lacks_splits(key, model))))

    def numbers(self, key: tuple[str, ...], model: str) -> tuple[int | None, int | None]:
        """Return how many cells (of screens: conditions) the scores of a model are of, and how many there are, over splits."""
        n_scored = n_total = 0
        for split in self._splits[key][model]:
            parts = [part for part in self.parts((*key[:4], "", *key[5:]), model, split) if part[0] == "cells"]
            parts += [part for part in self.parts(key, model, split) if part[0] == "conditions"]
            n_scored, n_total = n_scored + sum(part[1] for part in parts), n_total + sum(part[2] for part in parts)
        return (n_scored, n_total) if n_total else (None, None)
