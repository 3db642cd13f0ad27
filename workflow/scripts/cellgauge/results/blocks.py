"""Complete blocks: splits together with the models that were scored on every one of them.

Others run some models on few splits and some on many. A mean over the few and one over the many are of different cells, so
models are compared on what they share: ten on five tissues, three of them on 26.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cellgauge.results.uncertainty import VARIANT

if TYPE_CHECKING:
    import pandas as pd


def blocks(table: pd.DataFrame) -> Iterator[tuple[list[str], pd.DataFrame]]:
    """Yield the splits and the rows of each block of two models or more, the largest sets of splits of a dataset first.

    Every set of splits that some model covers, for some variant of a metric, makes a block: with these splits, in the order of
    the rows, and with all models and variants that cover them.
    """
    import pandas as pd

    of_variants = ["model", *VARIANT]
    variants = pd.MultiIndex.from_frame(table[of_variants])
    for _, rows in table[(table["status"] == "ok") & (table["condition"] == "")].groupby("dataset", sort=False):
        covered = rows.groupby(of_variants)["split"].agg(frozenset)
        for splits in sorted(set(covered), key=lambda one: (-len(one), sorted(one))):
            fitting = covered.index[[covering >= splits for covering in covered]]
            if fitting.get_level_values("model").nunique() > 1:
                in_order = [split for split in rows["split"].unique() if split in splits]
                yield in_order, table[variants.isin(fitting) & table["split"].isin(splits)]
