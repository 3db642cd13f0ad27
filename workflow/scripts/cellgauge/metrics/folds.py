"""Folds of cross-validation: which cells train and which test."""

from __future__ import annotations

import warnings

import numpy as np

from cellgauge.core.optional_imports import without_optional

Folds = list[tuple[np.ndarray, np.ndarray]]
"""Rows of the training and of the test cells, ascending, one pair per fold."""


def random_folds(codes: np.ndarray, n_folds: int, seed: int) -> Folds:
    """Deal the cells of every class at random over the folds (scikit-learn's `StratifiedKFold`, shuffled); raise ValueError
    where no class has as many cells as there are folds.
    """
    with without_optional("pandas"):
        from sklearn.model_selection import StratifiedKFold

    return list(StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(np.zeros(len(codes)), codes))


def held_out_folds(codes: np.ndarray, groups: np.ndarray, n_folds: int, seed: int) -> Folds:
    """Hold out whole groups (donors), each in one fold, with the classes as even as can be.

    scikit-learn's `StratifiedGroupKFold`, shuffled, with as many folds as there are groups where these are fewer. Raise
    ValueError where no class has as many cells as there are folds.
    """
    with without_optional("pandas"):
        from sklearn.model_selection import StratifiedGroupKFold

    n_folds = min(n_folds, len(np.unique(groups)))
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        return list(splitter.split(np.zeros(len(codes)), codes, groups))
