"""The words for the keys of the score rows."""

from __future__ import annotations

from collections.abc import Sequence

from cellgauge.results.entries import Variant
from cellgauge.results.numbers import readable

CLASSIFIERS = {"": "", "mean": "mean of the classifiers", "knn": "k nearest neighbors"}
SUBSETS = {"": "all cells", "donor_folds": "donors held out"}
SUBSETS |= {"all": "all genes", "top20_de": "top 20 genes", "top100_de": "top 100 genes"}
SUBSETS |= {"de": "significant genes", "unmasked": "all genes, targets included"}
STRATA = {
    "": "all conditions",
    "unseen_single": "single genes, unseen",
    "combo_seen0": "pairs, no gene seen",
    "combo_seen1": "pairs, one gene seen",
    "combo_seen2": "pairs, both genes seen",
    "no_effect": "no significant gene except the targets",
}
PROFILES = {"corrected": "recommended", "reference": "cz-benchmarks"}
"""The profiles in words, the one shown first at the front."""
USUAL_CLASSIFIERS = ("mean", "")
USUAL_SUBSETS = ("", "donor_folds", "all")
"""What stands for a metric where it exists, in this order; held-out donors say what to expect of cells to come.

All genes are among them: of some models `unmasked` alone is defined, and the choice must not depend on which comes first.
"""


def profile(name: str) -> str:
    """Return a profile as readers know it."""
    return PROFILES.get(name, readable(name))


def classifier(name: str) -> str:
    """Return a classifier in words, "" for none."""
    return CLASSIFIERS.get(name, readable(name))


def subset(name: str) -> str:
    """Return the cells, folds or genes that a score is over, in words."""
    genes, _, stratum = name.partition("/")
    return SUBSETS.get(genes, readable(genes)) + (f", {STRATA.get(stratum, readable(stratum))}" if stratum else "")


def subset_if_any(name: str) -> str:
    """Return the cells, folds or genes that a score is over, in words; "" where the score names no subset."""
    return subset(name) if name else ""


def place_of_classifier(name: str) -> int:
    """Return where a classifier stands in a choice: the usual ones first."""
    return [*USUAL_CLASSIFIERS, name].index(name)


def place_of_subset(name: str) -> int:
    """Return where a subset stands in a choice: the usual ones first."""
    return [*USUAL_SUBSETS, name].index(name)


def usual(variants: Sequence[Variant]) -> Variant:
    """Return the variant that stands for a metric: mean of the classifiers where there is one, all cells or donors out."""
    return min(variants, key=lambda v: (place_of_classifier(v.classifier), place_of_subset(v.subset)))
