"""The scIB suite: is biology kept, and are batches mixed? Computed by scib-metrics, with the settings of its Benchmarker.

The one task that loads a large library: it runs in an environment of its own (docs/adr/0017).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from cellgauge.core.errors import CellgaugeError, one_line
from cellgauge.files.score import Score
from cellgauge.tasks.cells import CellsToScore, NotScorable, check_names, joined

if TYPE_CHECKING:
    import pandas as pd
    from scib_metrics.nearest_neighbors import NeighborsResults

SCOPE = "split"
NEEDS = ("label",)
PROFILES = ("corrected",)
BIO_CONSERVATION = ("isolated_labels", "nmi_kmeans", "ari_kmeans", "silhouette_label", "clisi")
BATCH_CORRECTION = ("bras", "ilisi", "kbet", "graph_connectivity", "pcr_comparison")
METRICS = (*BIO_CONSERVATION, *BATCH_CORRECTION)
BATCH_COLUMNS = ("batch", "donor")
WEIGHTS = {"bio_conservation": 0.6, "batch_correction": 0.4}
"""How scIB weighs both means in its total (Luecken et al. 2022)."""
N_NEIGHBORS = {"clisi": 90, "ilisi": 90, "kbet": 50, "graph_connectivity": 15}
"""Neighbors of each cell, itself included, that scib-metrics' Benchmarker gives each metric, all of one search for 90."""
MOST_NEIGHBORS = max(N_NEIGHBORS.values())
OLDEST = (0, 6)
"""The release that the rows are compared with; some before it left labels out of kBET."""


def score(
    cells: CellsToScore,
    *,
    profiles: Sequence[str],
    seed: int,
    metrics: Sequence[str] = METRICS,
    batch_columns: Sequence[str] = BATCH_COLUMNS,
    n_top_genes: int = 3000,
    n_components: int = 50,
) -> Iterator[Score]:
    """Yield the metrics of scIB as scib-metrics returns them, and its weighted mean.

    scib-metrics' defaults decide: neighbors by pynndescent, k-means with as many clusters as labels, both with the library's
    own seed. What needs batches is not applicable where there is one, and a mean where one of its parts is missing.

    Args:
        metrics: which of METRICS to compute.
        batch_columns: where batches stand; the first that is known of every cell, with more than one value, is taken.
        n_top_genes, n_components: of the unintegrated PCA of the same cells, which PCR is compared with (that of the model
            `linear`, whose comparison is therefore 0); `seed` is for its solver.

    Raises:
        CellgaugeError: scib-metrics is not there, or is too old; an unknown metric or column.
        NotScorable: all cells carry the same label.
    """
    check_names("scib", "metric", metrics, METRICS)
    check_names("scib", "batch column", batch_columns, BATCH_COLUMNS)
    labels = cells.obs["label"]
    if len(np.unique(labels)) < 2:
        raise NotScorable(f"all {len(labels)} cells have the label '{labels[0]}', so there is nothing to compare")
    load_library()
    batches, column, lacking = known_batches(cells.obs, batch_columns)
    suite = _Suite(cells, labels, batches, lacking, n_top_genes, n_components, seed)
    note = f"batches are those of column '{column}'" if column and column != batch_columns[0] else ""
    rows = {name: _row(name, suite, note) for name in metrics}
    yield from _means(rows)
    yield from rows.values()
    if "kbet" in rows and rows["kbet"].status == "ok":
        table = suite.kbet[1].dropna()  # labels that have a rate
        for label, rate in zip(table["cluster"], table["kBET"], strict=True):
            yield Score("kbet", float(rate), "corrected", condition=str(label))


def load_library() -> None:
    """Import scib-metrics, with one thread for a job of one thread; say what to do where it cannot be had.

    Raises:
        CellgaugeError: it is not installed, cannot be imported, or is too old.
    """
    for variable, value in {"JAX_PLATFORMS": "cpu", "NPROC": "1", "NUMBA_NUM_THREADS": "1"}.items():
        os.environ.setdefault(variable, value)
    remedy = "run the task with .venv-scib/bin/python, which `make setup-scib` makes"
    try:
        version = metadata.version("scib-metrics")
        import scib_metrics  # noqa: F401
    except ImportError as error:
        raise CellgaugeError(f"task scib needs scib-metrics, which this Python lacks ({error}): {remedy}") from None
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise CellgaugeError(f"task scib needs scib-metrics {oldest} or newer, this Python has {version}: {remedy}")


def known_batches(obs: Mapping[str, np.ndarray], columns: Sequence[str]) -> tuple[np.ndarray | None, str, str]:
    """Return (batch of each cell, its column, "") by the first of `columns` that tells cells apart; else (None, "", why)."""
    faults = []
    for column in columns:
        if column not in obs:
            faults.append(f"there is no column '{column}'")
        elif unknown := int((obs[column] == "").sum()):
            faults.append(f"{unknown} cells have no '{column}'")
        elif len(np.unique(obs[column])) == 1:
            faults.append(f"all cells are of one '{column}'")
        else:
            return obs[column], column, ""
    return None, "", f"several batches must be known: {', '.join(faults)}"


@dataclass(frozen=True)
class _Suite:
    """The metrics of one embedding, each computed when asked for."""

    cells: CellsToScore
    # labels, batches: str, shape (n_cells,); batches None where `lacking` says why
    labels: np.ndarray
    batches: np.ndarray | None
    lacking: str
    # n_top_genes, n_components, seed: of the unintegrated PCA
    n_top_genes: int
    n_components: int
    seed: int

    def why_not(self, metric: str) -> str:
        """Return why a metric cannot be computed of these cells, "" if it can."""
        if self.batches is None and metric in (*BATCH_CORRECTION, "isolated_labels"):
            return self.lacking
        n = len(self.labels)
        if metric in N_NEIGHBORS and n < MOST_NEIGHBORS:
            return f"there are {n} cells, the search is for {MOST_NEIGHBORS} neighbors of each, itself included"
        if metric == "bras" and not self._labels_meet():
            return "no label has cells of two batches, and more than one of some"
        return ""

    def _labels_meet(self) -> bool:
        sizes = [np.unique(self.batches[self.labels == name], return_counts=True)[1] for name in np.unique(self.labels)]
        return any(1 < len(of_label) < of_label.sum() for of_label in sizes)

    @cached_property
    def _nearest(self) -> NeighborsResults:
        from scib_metrics.nearest_neighbors import pynndescent

        return pynndescent(self.cells.matrix, n_neighbors=MOST_NEIGHBORS, random_state=0, n_jobs=1)

    def neighbors(self, metric: str) -> NeighborsResults:
        """Return the neighbors that a metric is given."""
        return self._nearest.subset_neighbors(N_NEIGHBORS[metric])

    @cached_property
    def kmeans(self) -> dict[str, float]:
        """NMI and ARI of k-means, k the number of labels."""
        import scib_metrics

        return scib_metrics.nmi_ari_cluster_labels_kmeans(self.cells.matrix, self.labels)

    @cached_property
    def kbet(self) -> tuple[float, pd.DataFrame]:
        """The mean acceptance rate over labels, and a table of them with columns cluster and kBET (NaN: left out)."""
        import scib_metrics

        return scib_metrics.kbet_per_label(self.neighbors("kbet"), self.batches, self.labels, return_df=True)

    def unintegrated(self) -> np.ndarray:
        """Return principal components of the cells' expression, shape (n_cells, <= n_components).

        Of several splits they are of the genes that all share, and of all cells, also of those that are not embedded. Raise
        CellgaugeError where the splits share no genes, or their orthologs are not known.
        """
        from cellgauge.data.expression import join_species, principal_components
        from cellgauge.data.variable_genes import Counts, variable_expression

        if len(self.cells.splits) > 1:
            parts, names = join_species(self.cells.splits)
            _, expression = variable_expression(parts, self.n_top_genes, names)
            return principal_components(expression, self.n_components, self.seed)[self.cells.has_row]
        counts = self.cells.expression()
        _, expression = variable_expression([Counts(lambda: [counts])], self.n_top_genes)
        return principal_components(expression, self.n_components, self.seed)


def _compute(metric: str, suite: _Suite) -> float:
    import scib_metrics as library

    matrix, labels, batches = suite.cells.matrix, suite.labels, suite.batches
    functions: dict[str, Callable[[], Any]] = {
        "isolated_labels": lambda: library.isolated_labels(matrix, labels, batches),
        "nmi_kmeans": lambda: suite.kmeans["nmi"],
        "ari_kmeans": lambda: suite.kmeans["ari"],
        "silhouette_label": lambda: library.silhouette_label(matrix, labels),
        "clisi": lambda: library.clisi_knn(suite.neighbors(metric), labels),
        "bras": lambda: library.bras(matrix, labels, batches),
        "ilisi": lambda: library.ilisi_knn(suite.neighbors(metric), batches),
        "kbet": lambda: suite.kbet[0],
        "graph_connectivity": lambda: library.graph_connectivity(suite.neighbors(metric), labels),
        "pcr_comparison": lambda: library.pcr_comparison(suite.unintegrated(), matrix, batches, categorical=True),
    }
    return float(functions[metric]())


def _row(metric: str, suite: _Suite, note: str) -> Score:
    """Return the row of a metric: its value, why it does not apply, or how the library failed on it."""
    value, status, reason = np.nan, "not_applicable", suite.why_not(metric)
    if not reason:
        try:
            value = _compute(metric, suite)
            none = "no label has 10 cells of several batches"
            reason = none if metric == "kbet" else "scib-metrics gives no finite value"
        except CellgaugeError as error:
            reason = one_line(error)
        except (ValueError, ArithmeticError, RuntimeError) as error:
            status, reason = "failed", f"scib-metrics: {one_line(error)}"
    if not np.isfinite(value):
        return Score(metric, profile="corrected", status=status, reason=reason)
    if metric == "pcr_comparison" and value == 0:
        note = joined(note, "batches explain no less of the embedding than of the unintegrated PCA")
    of_batches = metric in (*BATCH_CORRECTION, "isolated_labels")
    return Score(metric, value, "corrected", reason=note if of_batches else "")


def _means(rows: Mapping[str, Score]) -> Iterator[Score]:
    """Yield scIB's total and the two means that it is made of, where all their parts were asked for."""
    parts = {"bio_conservation": BIO_CONSERVATION, "batch_correction": BATCH_CORRECTION}
    parts = {name: metrics for name, metrics in parts.items() if set(metrics) <= set(rows)}
    means = {
        name: float(np.mean([rows[metric].value for metric in metrics]))
        for name, metrics in parts.items()
        if all(rows[metric].status == "ok" for metric in metrics)
    }
    if len(parts) == len(WEIGHTS):
        total = sum(weight * means[name] for name, weight in WEIGHTS.items()) if len(means) == len(WEIGHTS) else None
        yield _mean("total", total, METRICS, rows)
    for name, metrics in parts.items():
        yield _mean(name, means.get(name), metrics, rows)


def _mean(name: str, value: float | None, parts: Sequence[str], rows: Mapping[str, Score]) -> Score:
    if value is not None:
        return Score(name, value, "corrected")
    missing = [part for part in parts if rows[part].status != "ok"]
    reason = f"a mean over fewer parts would not compare; without a value: {', '.join(missing)}"
    return Score(name, profile="corrected", status="not_applicable", reason=reason)
