"""Published values beside ours: where the same data and model were run, does profile `reference` reproduce them?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cellgauge.results.czbenchmarks import PROFILE

if TYPE_CHECKING:
    import pandas as pd

KEY = ["task", "model", "dataset", "split", "classifier", "metric", "subset"]
COLUMNS = [*KEY, "published", "ours", "difference", "sd", "allowed", "verdict", "source", "reason"]
VERDICTS = ("within", "outside", "not judged")

SPREAD = {
    "ari": 0.016,
    "nmi": 0.0085,
    "silhouette": 1e-5,
    "accuracy": 0.0040,
    "f1": 0.0080,
    "precision": 0.011,
    "recall": 0.0077,
    "auroc": 0.0014,
    "entropy_per_cell": 3e-4,
    "batch_silhouette": 1e-5,
}
"""The standard deviation of a score of one embedding between runs that should agree, by metric.

Measured by bench/bench_spread.py (docs/results.md): over ten seeds of Leiden, and of folds and forests, the root mean square of
seven embeddings of real cells; of the silhouettes, which draw nothing, over embeddings moved by 1e-3. Of the entropy what
cz-benchmarks' approximate neighbors differ by from exact ones (docs/performance.md).
"""
TWO_RUNS = 1.96 * math.sqrt(2)
"""Two runs with this standard deviation each differ by less than so many of them, 19 times in 20."""
LEAST = 5e-4
"""What is always allowed: half a unit of the third decimal, the last one that is published and shown."""


def compare_with_published(
    best: pd.DataFrame, published: pd.DataFrame, sources: Mapping[str, Mapping[str, Any]]
) -> pd.DataFrame:
    """Return COLUMNS, one row per published value whose data, model and metric the run has too.

    `sd` is what one value is known to vary by: that of the run's own Leiden seeds on these very cells where it has it, else
    SPREAD; with that of the published model's own repeats, where it draws random numbers (`spread` of the source's entry).
    `allowed` is what two values differ by then. Where no such number is known, the verdict is "not judged".

    Args:
        best: the row that stands for each score of the run (`cellgauge.results.tables.headline`).
        published: score rows of others.
        sources: the entries of these, by `source`.
    """
    import pandas as pd

    whole = best[best["condition"] == ""]
    of_run = _values(whole[whole["profile"] == PROFILE])
    seeds = _values(whole[(whole["profile"] == "corrected") & whole["metric"].str.endswith("_sd")])
    rows = published[(published["status"] == "ok") & (published["profile"] == PROFILE) & published["fold"].isna()]
    rows = rows[(rows["condition"] == "") & rows["seed"].isna()]
    comparisons = []
    for *parts, value, source, reason in rows[[*KEY, "value", "source", "reason"]].itertuples(index=False, name=None):
        key = tuple(parts)
        if key not in of_run:
            continue
        of_models = sources.get(source, {}).get("spread", {})
        sd = _sd(key, seeds, of_models)
        allowed, difference = max(TWO_RUNS * sd, LEAST) if sd == sd else math.nan, of_run[key] - value
        verdict = "not judged" if allowed != allowed else "within" if abs(difference) <= allowed else "outside"
        comparisons.append((*key, value, of_run[key], difference, sd, allowed, verdict, source, reason))
    return pd.DataFrame(comparisons, columns=COLUMNS)


def _sd(
    key: tuple[str, ...], seeds: Mapping[tuple[str, ...], float], of_models: Mapping[str, Mapping[str, float]]
) -> float:
    """Return the standard deviation of a value over runs, NaN where it is not known."""
    task, model, dataset, split, _, metric, _ = key
    of_method = seeds.get((task, model, dataset, split, "", f"{metric}_sd", ""), SPREAD.get(metric, math.nan))
    return math.hypot(of_method, of_models[model].get(metric, math.nan) if model in of_models else 0.0)


def _values(rows: pd.DataFrame) -> dict[tuple[str, ...], float]:
    return {tuple(row[:-1]): row[-1] for row in rows[[*KEY, "value"]].itertuples(index=False, name=None)}
