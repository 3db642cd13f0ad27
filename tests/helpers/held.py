"""What an embedding file holds, but for what was measured when it was made: to compare files that must be equal."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from cellgauge.inference.shards import ADDED, LARGEST, RATES

MEASURED = {*ADDED, *LARGEST, *RATES} - {"halved_batches"}


def held(path: Path) -> dict[str, object]:
    """Return every array and scalar by its name, numbers as bytes."""
    arrays = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    chosen = {name: np.asarray(value) for name, value in arrays.items() if name.rpartition("/")[2] not in MEASURED}
    return {name: value.tolist() if value.dtype == object else value.tobytes() for name, value in chosen.items()}
