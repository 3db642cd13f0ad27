"""Windows, which the cells of a split are embedded in, and the shards of several jobs, which are cut between them.

So mini-batches hold the same cells whether one job embeds a split or several do: on a CPU the rows are the same to the last
bit (docs/adr/0043).
"""

from __future__ import annotations

from cellgauge.core.errors import CellgaugeError

WINDOW = 2048
"""Cells of a split that are sorted by length before they are divided into mini-batches, unless an adapter says otherwise."""


def rows_of_shard(n_cells: int, number: int, n_shards: int) -> slice:
    """Return which cells of a split a shard holds.

    Together they hold every cell. None is empty: where there are more shards than windows, some hold the same window.

    Args:
        number: from 1 to `n_shards`.

    Raises:
        CellgaugeError: there is no such shard.
    """
    if not 1 <= number <= n_shards:
        raise CellgaugeError(f"there is no shard {number} of {n_shards}")
    n_windows = max(1, -(-n_cells // WINDOW))
    first = (number - 1) * n_windows // n_shards
    last = max(number * n_windows // n_shards, first + 1)
    return slice(first * WINDOW, min(last * WINDOW, n_cells))
