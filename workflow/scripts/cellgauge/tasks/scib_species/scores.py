"""The scIB suite over the species of a set of splits: task `scib`, with species for batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from cellgauge.files.score import Score
from cellgauge.tasks.cells import CellsToScore
from cellgauge.tasks.scib.scores import score as suite

SCOPE = "dataset"
COMPARES = "organism"
NEEDS = ("label",)
PROFILES = ("corrected",)


def score(
    cells: CellsToScore, *, profiles: Sequence[str], seed: int, n_top_genes: int = 3000, n_components: int = 50
) -> Iterator[Score]:
    """Yield what task `scib` yields, the species being the batches.

    The unintegrated expression that PCR is compared with is that of the genes that all splits share: one-to-one orthologs.

    Args:
        n_top_genes, n_components: as for `tasks.scib.score`.

    Raises:
        CellgaugeError, NotScorable: as `tasks.scib.score`.
    """
    of_species = replace(cells, obs={**cells.obs, "batch": cells.obs["organism"]})
    params = {"batch_columns": ("batch",), "n_top_genes": n_top_genes, "n_components": n_components}
    yield from suite(of_species, profiles=profiles, seed=seed, **params)
