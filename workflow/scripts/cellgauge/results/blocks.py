"""Complete blocks: splits together with the models that were scored on every one of them.

Others run some models on few splits and some on many. A mean over the few and one over the many are of different cells, so
models are compared on what they share: ten on five tissues, three of them on 26.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellgauge.results.uncertainty import VARIANT

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Block:
    """Score rows of one dataset in which every model has every split."""

    dataset: str
    splits: tuple[str, ...]  # names of its splits, in the order of the rows
    rows: pd.DataFrame  # score rows, for each variant of a metric those of the models that cover all splits

    @property
    def name(self) -> str:
        """The splits as a table names them."""
        return " ".join(self.splits)


def blocks(table: pd.DataFrame) -> Iterator[Block]:
    """Yield the blocks of two models or more of score rows, the largest sets of splits of a dataset first.

    Every set of splits that some model covers, for some variant of a metric, makes a block: with these splits, and with all
    models and variants that cover them.
    """
    ok = table[(table["status"] == "ok") & (table["condition"] == "")]
    places: dict[str, dict[str, None]] = defaultdict(dict)
    covered: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for *key, split in ok[["model", *VARIANT, "split"]].itertuples(index=False, name=None):
        covered[tuple(key)].add(split)
        places[key[2]][split] = None
    keys = list(table[["model", *VARIANT]].itertuples(index=False, name=None))
    for dataset, order in places.items():
        splits_of = {key: splits for key, splits in covered.items() if key[2] == dataset}
        for splits in sorted(set(map(frozenset, splits_of.values())), key=lambda one: (-len(one), sorted(one))):
            fitting = {key for key, covering in splits_of.items() if covering >= splits}
            if len({key[0] for key in fitting}) > 1:
                rows = table[np.array([key in fitting for key in keys]) & table["split"].isin(splits)]
                yield Block(dataset, tuple(split for split in order if split in splits), rows)
