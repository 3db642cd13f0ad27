"""One search in common axes that serves several classifiers of nearest neighbours, each in axes of its own.

Every fold of cross-validation scales the axes on its own training cells, so its neighbours are not another fold's. But with
r_j = (common scale / scale in the fold)^2 of axis j, a squared distance in the fold lies between min(r) and max(r) times the
common one. So one search proposes the cells nearest to each cell in common axes, and what it did not propose is in no fold
nearer than sqrt(min(r)) times the last that it did. Where the k nearest training cells among those proposed are nearer than
that, they are proven; other cells are searched for among all training cells. What is found is the same set either way.

All bounds hold for the rows as they are rounded to float32, in common axes and in the fold's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cellgauge.metrics.candidates import Candidates, places
from cellgauge.metrics.distances import (
    CentredRows,
    DistanceTiles,
    pair_distances,
    slices,
    squared_norms,
)
from cellgauge.metrics.neighbours import ErrorBound, nearest_neighbours, neighbourhoods

PROPOSED = 64
"""Cells proposed for each: of five random folds four fifths train, and of these five are wanted."""
SAMPLE = 256
"""Cells on which is estimated what a search in common would prove."""
FEWEST_CELLS = 5000
"""With fewer, a search in common saves nothing that can be measured."""
SEARCH_COST = 0.75
"""What a search in common costs, in products of all cells with all: half as many, each dearer than in the search of a fold,
and a margin. The fewer the dimensions, the more of it is not products."""
PAIR_COST = 100
"""What the distance of a single pair by differences costs, in those by matrix products."""
ROUNDING = 4 * (np.finfo(np.float32).eps / 2)
"""Bound on the relative error of a row's length: a subtraction, a division and a rounded scale, three units and some."""
STEP = 1024
"""Cells looked at together."""
TIE = 1e-12
"""Relative difference of distances up to which these count as equal: more than their rounding in float64."""
EPSILON = np.finfo(np.float64).eps
SCALES = 1e-30, 1e30
"""Beyond these float32 may overflow or lose small values, and nothing is proven."""


@dataclass(frozen=True)
class Proposals:
    """For each cell those that look nearest in common axes.

    Attributes:
        indices: of the cells proposed, nearest first, without the cell itself, int32, shape (n_cells, n_proposed).
        squared: distances to them as float32 products give them, shape (n_cells, n_proposed).
        norms: squared lengths of the cells in common axes, float64, shape (n_cells,).
        scale: what the axes were divided by, float32, shape (n_dims,).
    """

    indices: np.ndarray
    squared: np.ndarray
    norms: np.ndarray
    scale: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the attributes by name, for a file; `Proposals(**arrays)` is the way back."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def match(self, n_cells: int, n_dims: int) -> bool:
        """Return whether these can be of so many cells, of so many dimensions."""
        lengths = {len(self.indices), len(self.squared), len(self.norms)}
        return lengths == {n_cells} and self.indices.shape == self.squared.shape and self.scale.shape == (n_dims,)


class ProposedInFold(NamedTuple):
    """What was proposed, and what a fold makes of the cells.

    Attributes:
        proposals: of all cells.
        train, test: which of the cells are the fold's, ascending, shapes (n_train,) and (n_test,).
        scale: what the fold divides the axes by, shape (n_dims,).
    """

    proposals: Proposals
    train: np.ndarray
    test: np.ndarray
    scale: np.ndarray


def common_axes(matrix: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return some rows of a matrix with every column scaled to mean 0 and variance 1, and what columns were divided by.

    Constant columns are not scaled.

    Args:
        matrix: float32, finite, shape (n, n_dims).

    Returns:
        the rows, float32, shape (len(rows), n_dims), and the scale, float32, shape (n_dims,).
    """
    with np.errstate(over="ignore", invalid="ignore"):  # such a scale is of no use, see SCALES
        return _scaled(matrix, rows)


def _scaled(matrix: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = sum(matrix[rows[part]].sum(axis=0, dtype=np.float64) for part in slices(len(rows), STEP)) / len(rows)
    centre = mean.astype(np.float32)
    scaled = np.empty((len(rows), matrix.shape[1]), dtype=np.float32)
    for part in slices(len(rows), STEP):
        np.subtract(matrix[rows[part]], centre, out=scaled[part])
    variance = _variances(scaled)
    constant = variance <= len(rows) * EPSILON * variance + (len(rows) * mean * EPSILON) ** 2
    scale = np.where(constant, 1, np.sqrt(variance)).astype(np.float32)
    if _usable(scale):
        scaled /= scale
    return scaled, scale


def propose(
    common: np.ndarray, scale: np.ndarray, n_proposed: int = PROPOSED, order: np.ndarray | None = None
) -> Proposals:
    """Search once among all cells for those that look nearest to each: half the products of all with all.

    Args:
        common, scale: as `common_axes` returns them, at least two cells.
        n_proposed: how many; all others where there are no more.
        order: see `neighbours.nearest_neighbours`.
    """
    n_cells = len(common)
    wanted = min(n_proposed, n_cells - 1)
    tiles = DistanceTiles(CentredRows(common, None, 1.0), np.arange(n_cells) if order is None else order)
    candidates = Candidates(n_cells, wanted, tiles.edge)
    for part, other in tiles.pairs():
        squared = tiles.squared(part, other)
        if part == other:
            np.fill_diagonal(squared, np.inf)
        candidates.take(part, other, squared)
    indices = np.empty((n_cells, wanted), dtype=np.int32)
    found, norms = np.empty((n_cells, wanted), dtype=np.float32), np.empty(n_cells)
    norms[tiles.order] = tiles.norms
    for part in slices(n_cells, tiles.edge):
        columns, squared = candidates.smallest(part)
        indices[tiles.order[part]], found[tiles.order[part]] = tiles.order[columns], squared
    return Proposals(indices, found, norms, scale)


def propose_where_worthwhile(
    matrix: np.ndarray, rows: np.ndarray, schemes: Sequence[np.ndarray], k: int, order: np.ndarray | None = None
) -> Proposals | None:
    """Search in common among some rows of a matrix, or return None where searches for every fold are cheaper.

    Args:
        matrix, rows: as for `common_axes`.
        schemes, k: as for `worthwhile`, of the rows.
        order: as for `propose`.
    """
    if len(rows) < FEWEST_CELLS or _most_spared(schemes, k) < _cost(len(rows), matrix.shape[1]):
        return None
    common, scale = common_axes(matrix, rows)
    return propose(common, scale, order=order) if _usable(scale) and worthwhile(common, schemes, k) else None


def worthwhile(common: np.ndarray, schemes: Sequence[np.ndarray], k: int, n_proposed: int = PROPOSED) -> bool:
    """Estimate on a sample of cells whether one search in common saves more than it costs.

    Args:
        common: as `common_axes` returns it.
        schemes: ways to deal the cells over folds: the fold of each cell, -1 for none, int, shape (n_cells,). That they are
            dealt much as they will be is enough.
        k: neighbours wanted of each cell among those of other folds.
    """
    n_cells, n_dims = common.shape
    if len(np.unique(squared_norms(common))) < n_cells:
        return False  # equal cells: where they tie, a fold is searched in whole
    sample = np.sort(np.random.default_rng(0).choice(n_cells, min(SAMPLE, n_cells), replace=False))
    wanted = min(n_proposed + 1, n_cells)  # the first is the cell itself
    indices, distances = nearest_neighbours(common, wanted, common[sample], centred=True, itself=sample)
    spared = sum(_spared(common, folds, sample, indices[:, 1:], distances[:, 1:], k) for folds in schemes)
    return spared > _cost(n_cells, n_dims)


def _cost(n_cells: int, n_dims: int) -> float:
    """Return what a search in common costs, in products of two cells."""
    return SEARCH_COST * (1 + 10 / n_dims) * n_cells**2


def _most_spared(schemes: Sequence[np.ndarray], k: int) -> float:
    """Return how many products of two cells can be spared, if all cells are proven by k distances each."""
    sizes = [np.bincount(folds[folds >= 0]).astype(float) for folds in schemes]
    return sum(of_folds @ (of_folds.sum() - of_folds - PAIR_COST * k) for of_folds in sizes)


def neighbourhoods_in_fold(train: np.ndarray, k: int, test: np.ndarray, proposed: ProposedInFold) -> np.ndarray:
    """Find the set of the k nearest training cells of every test cell, as `neighbours.neighbourhoods(train, k, test)` does.

    The same sets: where several cells at one distance make them a matter of choice, the whole fold is searched as there.

    Args:
        train, test: the fold's features, scaled, around 0, float32, shape (n_cells, n_dims).

    Raises:
        ValueError: there are fewer training cells than neighbours.
    """
    if not 1 <= k <= len(train):
        raise ValueError(f"{k} nearest neighbours asked for among {len(train)} rows")
    search = _InFold(train, k, test, proposed)
    parts = [search.nearest(part) for part in slices(len(test), STEP)]
    found, proven = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    if proven.any() and not search.tied:
        unproven = np.flatnonzero(~proven)
        others, tied = _nearest_and_ties(train, k, test[unproven])
        found[unproven] = others
        if not tied:
            return found
    return neighbourhoods(train, k, test, centred=True)


def _nearest_and_ties(train: np.ndarray, k: int, test: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the k nearest training cells, and whether for some test cell the next one is at the distance of the k-th."""
    if not len(test):
        return np.empty((0, k), dtype=np.int32), False
    indices, distances = nearest_neighbours(train, min(k + 1, len(train)), test, centred=True)
    return indices[:, :k], bool(_equal(distances[:, k - 1 : k], distances[:, k:]).any())


class _InFold:
    """Decides which of the cells proposed are the nearest in a fold.

    Attributes:
        tied: whether for some cell the k-th and the next were seen at one distance.
    """

    def __init__(self, train: np.ndarray, k: int, test: np.ndarray, proposed: ProposedInFold) -> None:
        self.tied = False
        self._train, self._k, self._test, self._proposed = train, k, test, proposed
        self._position = np.full(len(proposed.proposals.indices), -1, dtype=np.int32)  # of each cell in `train`
        self._position[proposed.train] = np.arange(len(train))
        self._ratios = _ratios(proposed.proposals.scale, proposed.scale)

    def nearest(self, part: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return positions of the k nearest, int32, shape (n, k), and for which of the test cells they are proven."""
        k, cells = self._k, self._proposed.test[part]
        found, proven = np.zeros((len(cells), k), dtype=np.int32), np.zeros(len(cells), dtype=bool)
        if self._ratios is None:
            return found, proven
        position = self._position[self._proposed.proposals.indices[cells]]
        least, most, beyond = self._bounds(part)
        trains = position >= 0
        rank = np.cumsum(trains, axis=1, dtype=np.int32)
        rim = np.argmax(rank >= k, axis=1)[:, None]  # the k-th training cell in common axes
        nearest, farthest = (np.take_along_axis(bound, rim, axis=1) for bound in (least, most))
        certain = trains & (most < nearest)
        in_question = trains & ~certain & (least <= farthest)
        hopeful = (rank[:, -1] >= k) & _worth_looking(nearest, farthest, beyond, in_question, len(self._train))

        hopeful = np.flatnonzero(hopeful)
        position, certain, in_question = position[hopeful], certain[hopeful], in_question[hopeful]
        farthest, beyond = farthest[hopeful, 0], beyond[hopeful]
        wanted = k - certain.sum(axis=1)
        settled = (in_question.sum(axis=1) == wanted) & (farthest < beyond)
        chosen = certain | in_question
        row, column = np.nonzero(in_question & ~settled[:, None])
        distance = np.sqrt(pair_distances(self._test, part.start + hopeful[row], self._train, position[row, column]))
        order = np.lexsort((distance, row))
        row, column, distance = row[order], column[order], distance[order]
        place = places(row, len(hopeful))
        chosen[row, column] = place < wanted[row]
        last = np.flatnonzero(place == wanted[row] - 1)
        farthest[row[last]] = distance[last]
        after = np.flatnonzero(place == wanted[row])
        self.tied |= bool(_equal(distance[after - 1], distance[after]).any())
        found[hopeful] = position[chosen].reshape(-1, k)
        proven[hopeful] = farthest * (1 + TIE) < beyond
        return found, proven

    def _bounds(self, part: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the least and most distances in the fold of the cells proposed, and the least of all others.

        With |a' - a| <= e |a| for a row and its rounded one, distances of rows and of rounded rows differ by at most
        e (|a| + |b|) <= e (2 |a| + |a - b|).
        """
        proposals, cells = self._proposed.proposals, self._proposed.test[part]
        smallest, largest = self._ratios
        squared = proposals.squared[cells].astype(np.float64)
        norms = proposals.norms[cells][:, None]
        error = ErrorBound(norms, len(proposals.scale), np.float32)
        own = 2 * ROUNDING * np.sqrt(norms)
        own_in_fold = 2 * ROUNDING * np.sqrt(squared_norms(self._test[part]))[:, None]
        least = (np.sqrt(np.maximum(error.least(squared), 0)) - own) / (1 + ROUNDING)
        least = np.maximum((smallest * least - own_in_fold) / (1 + ROUNDING), 0)
        most = (np.sqrt(np.maximum(error.most(squared), 0)) + own) / (1 - ROUNDING)
        most = (largest * most + own_in_fold) / (1 - ROUNDING)
        all_proposed = proposals.indices.shape[1] >= len(proposals.indices) - 1
        return least, most, np.full(len(cells), np.inf) if all_proposed else least[:, -1]


def _worth_looking(
    nearest: np.ndarray, farthest: np.ndarray, beyond: np.ndarray, in_question: np.ndarray, n_train: int
) -> np.ndarray:
    """Guess for which cells true distances to those in question will prove what is cheaper to prove than to search for.

    Args:
        nearest, farthest: bounds on the distance to the k-th training cell in common axes, shape (n, 1).
        beyond: the least distance of what was not proposed, shape (n,).
        in_question: bool, shape (n, n_proposed).
    """
    likely = np.sqrt(nearest * farthest)[:, 0] < beyond
    return likely & (PAIR_COST * np.count_nonzero(in_question, axis=1) < n_train)


def _ratios(common: np.ndarray, fold: np.ndarray) -> tuple[float, float] | None:
    """Return how many times a distance in common axes that in a fold is at least and at most, None where that is unsure."""
    if not (_usable(common) and _usable(fold)):
        return None
    ratios = common.astype(np.float64) / fold.astype(np.float32)
    return float(ratios.min()), float(ratios.max())


def _usable(scale: np.ndarray) -> bool:
    return bool(SCALES[0] < scale.min() and scale.max() < SCALES[1])


def _equal(nearer: np.ndarray, farther: np.ndarray) -> np.ndarray:
    return farther <= nearer * (1 + TIE)


def _variances(rows: np.ndarray) -> np.ndarray:
    """Return the variance of each column, float64, for rows that lie around 0."""
    sums, squares = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    for part in slices(len(rows), STEP):
        block = rows[part].astype(np.float64)
        sums += block.sum(axis=0)
        squares += np.einsum("ij,ij->j", block, block)
    return np.maximum(squares / len(rows) - (sums / len(rows)) ** 2, 0)


def _spared(
    common: np.ndarray, folds: np.ndarray, sample: np.ndarray, indices: np.ndarray, distances: np.ndarray, k: int
) -> float:
    """Return how many products of two cells a scheme would be spared, less what it costs to look at those proposed."""
    spared = 0.0
    for fold, variances in enumerate(_variances_of_training(common, folds)):
        of_fold = folds[sample] == fold
        if not of_fold.any() or (variances <= 0).any():  # constant in the fold alone: its scale is another
            continue
        train = (folds >= 0) & (folds != fold)
        scales = np.sqrt(variances)
        least, most = distances[of_fold] / scales.max(), distances[of_fold] / scales.min()
        trains = train[indices[of_fold]]
        rank = np.cumsum(trains, axis=1)
        rim = np.argmax(rank >= k, axis=1)[:, None]
        nearest, farthest = (np.take_along_axis(bound, rim, axis=1) for bound in (least, most))
        in_question = trains & (least <= farthest)
        proven = (rank[:, -1] >= k) & _worth_looking(nearest, farthest, least[:, -1], in_question, train.sum())
        of_cells = proven * (np.count_nonzero(train) - PAIR_COST * in_question.sum(axis=1))
        spared += np.count_nonzero(folds == fold) * float(of_cells.mean())
    return spared


def _variances_of_training(common: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return the variances of the training cells of every fold, 1 where all cells are equal, shape (n_folds, n_dims)."""
    of_fold = (folds == np.arange(folds.max() + 1)[:, None]).astype(np.float32)
    sums, squares = np.zeros((2, len(of_fold), common.shape[1]))
    for part in slices(len(common), STEP):
        block = common[part]
        sums += of_fold[:, part] @ block
        squares += of_fold[:, part] @ (block * block)
    sizes, sums, squares = (array.sum(axis=0) - array for array in (of_fold.sum(axis=1)[:, None], sums, squares))
    n_train = np.maximum(sizes, 1)
    variances = np.maximum(squares / n_train - (sums / n_train) ** 2, 0)
    return np.where(common.any(axis=0), variances, 1)
