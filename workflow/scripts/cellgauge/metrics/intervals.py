"""95 % intervals of means and of differences of means, from few units: folds, donors, conditions, labels, tissues.

Every estimate is a sum of what its units contribute (`Estimates`); a statistic that is no mean contributes the jackknife's
pseudo-values. An interval is Student's, widened where one of two others reaches further: the one that corrects for skewness,
and, for values with two bounds, Student's interval of their logit. Student's alone covers too little where units are skewed,
the second alone where they have heavy tails, and both near a bound, where few units show the length of the tail away from it.

Sources: Tukey (1958), Annals of Mathematical Statistics 29, 614 (jackknife); Hall (1992), Journal of the Royal Statistical
Society B 54, 221-228 (skewness); Satterthwaite (1946), Biometrics Bulletin 2, 110-114 (degrees of freedom); Nadeau & Bengio
(2003), Machine Learning 52, 239-281 (folds).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
SKEWNESS_SHARE = 0.7
"""How much of the skewness that few units show is believed: with all of it, intervals of uniform units cover over 97 %."""
FEWEST = 5
"""With fewer units than this there is no interval and no test."""


@dataclass(frozen=True)
class Estimates:
    """Estimates with the moments of their error; each field is of float64, shape (n_rows,)."""

    value: np.ndarray
    # variance, third: the second and third central moment of the error
    variance: np.ndarray
    third: np.ndarray
    df: np.ndarray  # the degrees of freedom of the variance, by Satterthwaite where strata differ in it
    # n_units, n_free: how many units there are, and how many without one of each stratum
    n_units: np.ndarray
    n_free: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """Whether there are enough units for an interval, shape (n_rows,)."""
        return self.n_free >= FEWEST - 1


def estimates(values: np.ndarray, units: np.ndarray, strata: np.ndarray) -> Estimates:
    """Return the estimates whose errors are the sums of what independent units contribute.

    Args:
        values: the estimates, shape (n_rows,).
        units: what each unit adds to the error, NaN where it is absent; shape (n_rows, n_units).
            Its squares add up to the variance.
        strata: the stratum of each unit, whose mean is known from as many units as the stratum has; shape (n_units,).
    """
    present = ~np.isnan(units)
    added = np.where(present, units, 0.0)
    spread, free = np.zeros((2, len(values), int(strata.max(initial=0)) + 1))
    for stratum in range(spread.shape[1]):
        chosen = strata == stratum
        spread[:, stratum] = (added[:, chosen] ** 2).sum(axis=1)
        free[:, stratum] = np.maximum(present[:, chosen].sum(axis=1) - 1, 0)
    variance, shares = spread.sum(axis=1), np.divide(spread**2, free, out=np.zeros_like(spread), where=free > 0)
    shares = shares.sum(axis=1)
    n_free = free.sum(axis=1)
    df = np.divide(variance**2, shares, out=n_free.copy(), where=shares > 0)
    return Estimates(values, variance, (added**3).sum(axis=1), df, present.sum(axis=1), n_free)


def contributions(values: np.ndarray) -> np.ndarray:
    """Return what each unit contributes to the error of its row's mean, NaN where a unit is absent.

    Args:
        values: one value per unit, or a jackknife's pseudo-values; shape (n_rows, n_units).
    """
    n = (~np.isnan(values)).sum(axis=1, keepdims=True).astype(float)
    n[n < 2] = np.nan
    mean = np.nansum(values, axis=1, keepdims=True) / n
    return (values - mean) / np.sqrt(n * (n - 1))


def pseudo_values(whole: np.ndarray, without: np.ndarray) -> np.ndarray:
    """Return the jackknife's pseudo-values of a statistic.

    Args:
        whole: the statistic of all units, shape (n_rows,).
        without: the statistic without each unit, NaN where a unit is absent; shape (n_rows, n_units).
    """
    n = (~np.isnan(without)).sum(axis=1, keepdims=True)
    return n * whole[:, None] - (n - 1) * without


def of_folds(values: np.ndarray, n_dealt: int) -> np.ndarray:
    """Return what folds contribute to the error of their mean, larger than of independent units as they share training cells.

    The variance of the mean is that of single folds times 1 / n_folds + n_test / n_train (Nadeau & Bengio 2003).

    Args:
        values: one value per fold, NaN where a fold failed; shape (n_rows, n_folds).
        n_dealt: the folds over which the cells were dealt, so that n_test / n_train is 1 / (n_dealt - 1).
    """
    n_folds = (~np.isnan(values)).sum(axis=1, keepdims=True)
    return contributions(values) * np.sqrt(1 + n_folds / (n_dealt - 1))


def interval(of: Estimates, floor: float | None = None, ceiling: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper ends of the 95 % intervals, NaN where there are too few units; shape (n_rows,).

    Args:
        floor, ceiling: the bounds of the values, None where there is none; ends beyond them are cut.
    """
    from scipy.special import stdtrit  # scipy.stats takes seconds to import

    error = np.sqrt(of.variance)
    reach = stdtrit(np.where(of.known, of.df, np.nan), (1 + LEVEL) / 2)
    spread = error > 0
    ratio = np.divide(of.third, of.variance, out=np.zeros_like(error), where=spread)
    # in two steps: the cube of a small error is 0
    skewness = SKEWNESS_SHARE * np.divide(ratio, error, out=np.zeros_like(error), where=spread)
    below, above = (np.maximum(reach, side * _without_skewness(side * reach, skewness)) * error for side in (1, -1))
    low, high = of.value - below, of.value + above
    if floor is not None and ceiling is not None:
        logit_low, logit_high = _logit_interval(of.value, reach * error, floor, ceiling)
        low, high = np.fmin(low, logit_low), np.fmax(high, logit_high)
    if floor is None and ceiling is None:
        return low, high
    return np.clip(low, floor, ceiling), np.clip(high, floor, ceiling)


def _logit_interval(
    value: np.ndarray, reach: np.ndarray, floor: float, ceiling: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of an interval that reaches as far on either side of the value's logit, NaN at the bounds themselves."""
    from scipy.special import expit, logit

    share = (value - floor) / (ceiling - floor)
    slope = share * (1 - share) * (ceiling - floor)
    steps = np.divide(reach, slope, out=np.full_like(reach, np.nan), where=slope > 0)
    return tuple(floor + (ceiling - floor) * expit(logit(share) + side * steps) for side in (-1, 1))


def _without_skewness(quantile: np.ndarray, skewness: np.ndarray) -> np.ndarray:
    """Return where Hall's cubic transformation of a studentized mean takes a value, inverted: the skewed quantile."""
    flat = np.abs(skewness) < 1e-6
    g = np.where(flat, 1.0, skewness)
    return np.where(flat, quantile, 3 / g * (np.cbrt(1 + g * (quantile - g / 6)) - 1))


def p_values(of: Estimates) -> np.ndarray:
    """Return the two-sided p values of Student's test that the estimates are 0, NaN where there are too few units."""
    from scipy.special import stdtr

    error = np.sqrt(of.variance)
    size = np.divide(np.abs(of.value), error, out=np.where(of.value == 0, 0.0, np.inf), where=error > 0)
    return np.where(of.known, 2 * stdtr(of.df, -size), np.nan)


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return p values corrected for their number by Holm's step-down procedure (1979), shape (n,)."""
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1)
    return corrected
