"""Published numbers beside ours: where the same data and model were run, does the profile `reference` reproduce them?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellgauge.errors import CellgaugeError

if TYPE_CHECKING:
    import pandas as pd

KEYS = ("dataset", "split", "model", "task", "metric", "value", "within", "source")
OPTIONAL = {"classifier": "", "subset": "", "relative": False}
COLUMNS = [
    *("task", "model", "dataset", "split", "classifier", "metric", "subset"),
    *("published", "ours", "difference", "allowed", "verdict", "source"),
]
VERDICTS = ("within", "outside", "not run")


def read_anchors(path: str | Path) -> list[dict[str, Any]]:
    """Return the entries of config/anchors.yaml, with what they leave out filled in.

    Raises:
        CellgaugeError: an entry lacks a key or has an unknown one.
    """
    import yaml

    found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))["anchors"]
    for number, entry in enumerate(found, 1):
        wrong = sorted(set(KEYS) - set(entry)) or sorted(set(entry) - {*KEYS, *OPTIONAL})
        if wrong:
            raise CellgaugeError(
                f"{path}: entry {number} lacks or does not know the key '{wrong[0]}'; it has {', '.join(KEYS)}"
            )
    return [{**OPTIONAL, **entry} for entry in found]


def compare_with_anchors(headline: pd.DataFrame, anchors: list[Mapping[str, Any]]) -> pd.DataFrame:
    """Return COLUMNS, one row per anchor: what was published, ours of profile reference, and whether they agree.

    Args:
        headline: the row that stands for each score (`cellgauge.tables.headline`).
    """
    import pandas as pd

    by = ["task", "model", "dataset", "split", "classifier", "metric", "subset"]
    own = headline[(headline["profile"] == "reference") & (headline["condition"] == "")]
    values = {tuple(row[:-1]): row[-1] for row in own[[*by, "value"]].itertuples(index=False, name=None)}
    rows = []
    for anchor in anchors:
        key = tuple(anchor[name] for name in by)
        ours, published = values.get(key), float(anchor["value"])
        allowed = float(anchor["within"]) * (abs(published) if anchor["relative"] else 1)
        difference = None if ours is None else ours - published
        verdict = "not run" if difference is None else "within" if abs(difference) <= allowed else "outside"
        rows.append((*key, published, ours, difference, allowed, verdict, anchor["source"]))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"ours": "float64", "difference": "float64"})
