"""Intervals and comparisons: what they are drawn from, what they equal, and when there are none."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap, false_discovery_control, wilcoxon

from cellgauge.metrics.agreement import adjusted_rand_index, contingency, normalized_mutual_info
from cellgauge.metrics.bootstrap import agreement_intervals, draw_counts, mean_interval, percentile_interval
from cellgauge.results.tables import headline, summarise, with_set
from cellgauge.results.uncertainty import SCORE_KEY, compare, holm, intervals, mean_intervals, summary_intervals

AGREEMENT = {"ari": adjusted_rand_index, "nmi": normalized_mutual_info}


def table(*rows):
    """Score rows as collect holds them; keys that a row does not name are empty."""
    empty = dict.fromkeys([*SCORE_KEY, "reason"], "") | {"seed": None, "fold": None, "status": "ok"}
    own = {"task": "clustering", "model": "m", "dataset": "d", "split": "s", "metric": "ari", "profile": "corrected"}
    found = pd.DataFrame([empty | own | row for row in rows])
    return found.astype({"value": "float64", "seed": "Int64", "fold": "Int64"})


def found(*rows, screens=()):
    all_rows = table(*rows)
    return intervals(all_rows, headline(all_rows), screens)


# --- donors ----------------------------------------------------------------------------------------------------------


def test_agreement_over_donors_equals_writing_each_draw_out():
    generator = np.random.default_rng(1)
    labels, donors = generator.integers(0, 4, 300), generator.integers(0, 5, 300)
    partitions = [np.where(generator.random(300) < 0.6, labels, generator.integers(0, 6, 300)) for _ in range(2)]
    expected = {name: [] for name in AGREEMENT}
    for counts in draw_counts(5, 400, 42):
        rows = np.concatenate([np.flatnonzero(donors == donor) for donor in range(5) for _ in range(counts[donor])])
        for name, agreement in AGREEMENT.items():
            values = [agreement(contingency(labels[rows], groups[rows])) for groups in partitions]
            expected[name].append(np.mean(values))
    made = agreement_intervals(labels, partitions, donors, AGREEMENT, 42)
    for name, draws in expected.items():
        whole = np.mean([AGREEMENT[name](contingency(labels, groups)) for groups in partitions])
        assert made[name] == pytest.approx(percentile_interval(np.array(draws), whole), abs=1e-12)


def test_percentiles_follow_the_bias_of_the_draws():
    draws = np.random.default_rng(6).normal(0.5, 0.1, 4000)
    assert percentile_interval(draws, 0.5) == pytest.approx((0.304, 0.696), abs=0.02)
    low, high = percentile_interval(draws + 0.1, 0.5)  # every draw too high by as much
    assert low < 0.4 and 0.55 < high < 0.65
    assert percentile_interval(np.full(9, 0.3), 0.3) == (0.3, 0.3)
    assert percentile_interval(draws, 2.0)[1] == 2.0


def test_how_draws_are_rounded_moves_no_end():
    """Of few donors many draws are the estimate itself, summed in another order."""
    generator = np.random.default_rng(3)
    draws = np.concatenate([generator.normal(0.4, 0.1, 300), np.full(100, 0.4)])
    rounded = draws - generator.choice([0, 1e-16], 400)
    assert (rounded != draws).any()
    assert percentile_interval(rounded, 0.4) == pytest.approx(percentile_interval(draws, 0.4), abs=1e-12)


def test_the_mean_over_donors_is_wider_than_one_over_cells():
    generator = np.random.default_rng(2)
    donors = np.repeat(np.arange(6), 200)
    values = generator.normal(size=6)[donors] + generator.normal(0, 0.1, 1200)
    low, high = mean_interval(values, donors, 42)
    of_cells = bootstrap((values,), np.mean, n_resamples=400, method="percentile", rng=1).confidence_interval
    assert low < values.mean() < high
    assert high - low > 3 * (of_cells.high - of_cells.low)


def test_strata_keep_their_donors():
    donors = np.array(["a", "b", "c", "d"])
    species = np.array(["human", "human", "mouse", "mouse"])
    assert mean_interval(np.array([0.0, 0.0, 1.0, 1.0]), donors, 42, species) == (0.5, 0.5)
    low, high = mean_interval(np.array([0.0, 0.0, 1.0, 1.0]), donors, 42)
    assert low < 0.2 and high > 0.8


# --- single scores ---------------------------------------------------------------------------------------------------


def test_ends_that_the_score_file_gives_are_taken():
    rows = [{"value": 0.5}, {"value": 0.4, "seed": 1}, {"value": 0.5, "seed": 2}, {"value": 0.6, "seed": 3}]
    rows += [
        {"metric": "ari_low", "value": 0.2},
        {"metric": "ari_high", "value": 0.7},
        {"metric": "n_donors", "value": 9},
    ]
    (row,) = found(*rows)[["metric", "value", "low", "high", "resampled", "n_resampled"]].to_numpy().tolist()
    assert row == ["ari", 0.5, 0.2, 0.7, "donors", 9]


def test_ends_of_some_donors_are_told_with_their_number():
    rows = [{"metric": "f1", "subset": "donor_folds", "value": 0.5}, {"metric": "f1", "value": 0.6}]
    rows += [{**row, "metric": f"f1_{end}", "value": v} for row in rows for end, v in (("low", 0.2), ("high", 0.7))]
    rows += [
        {"metric": "n_donors", "value": 9},
        {"metric": "n_donors", "subset": "donor_folds", "value": 7},
    ]
    assert found(*rows).set_index("subset")["n_resampled"].to_dict() == {"donor_folds": 7, "": 9}


def test_seeds_folds_conditions_and_labels_are_drawn():
    seeds = [{"value": v, "seed": n} for n, v in enumerate((0.1, 0.5, 0.9))] + [{"value": 0.5}]
    folds = [
        {"metric": "f1", "classifier": "knn", "subset": "donor_folds", "value": v, "fold": n}
        for n, v in enumerate((0.2, 0.4, 0.6))
    ]
    folds += [{**folds[0], "fold": None, "value": 0.4}]
    single = [*zip("abcd", (1, 2, 3, 4), strict=True), ("", 2.5)]
    conditions = [{"task": "my_screens", "metric": "mse", "condition": c, "value": v} for c, v in single]
    labels = [{"task": "cross_species", "metric": "batch_silhouette", "condition": c, "value": v} for c, v in single]
    result = found(*seeds, *folds, *conditions, *labels, screens={"my_screens"}).set_index("metric")
    assert result["resampled"].to_dict() == {
        "ari": "seeds",
        "f1": "folds",
        "mse": "conditions",
        "batch_silhouette": "labels",
    }
    assert result["n_resampled"].to_dict() == {"ari": 3, "f1": 3, "mse": 4, "batch_silhouette": 4}
    assert (result["low"] < result["value"]).all() and (result["value"] < result["high"]).all()


def test_a_fold_is_drawn_with_all_its_classifiers():
    rows = [
        {"metric": "f1", "classifier": name, "value": value, "fold": fold}
        for name, values in {"knn": (0.0, 0.5, 1.0), "random_forest": (1.0, 0.5, 0.0)}.items()
        for fold, value in enumerate(values)
    ]
    rows += [{"metric": "f1", "classifier": name, "value": 0.5} for name in ("knn", "random_forest", "mean")]
    result = found(*rows).set_index("classifier")
    assert result.loc["mean", ["low", "high"]].tolist() == [0.5, 0.5]
    assert result.loc["knn", "high"] > 0.8


def test_what_rests_on_less_than_three_has_no_interval():
    rows = [{"value": v, "seed": n} for n, v in enumerate((0.1, 0.9))] + [{"value": 0.5}]
    assert found(*rows).empty


def test_a_value_that_is_no_mean_of_its_conditions_has_no_interval_of_them():
    rows = [{"condition": c, "value": v} for c, v in zip("abc", (0.1, 0.2, 0.3), strict=True)] + [{"value": 0.9}]
    assert found(*rows).empty


def test_draws_equal_scipys_bootstrap():
    values = np.random.default_rng(3).normal(size=(4, 9))
    low, high = mean_intervals(values)
    for row, a, b in zip(values, low, high, strict=True):
        theirs = bootstrap((row,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
        assert [a, b] == pytest.approx([theirs.low, theirs.high], abs=0.06)


def test_equal_values_have_an_interval_of_no_width():
    low, high = mean_intervals(np.full((1, 5), 0.1))
    assert (low, high) == (0.1, 0.1)


# --- means over splits -----------------------------------------------------------------------------------------------


def summary_of(*rows):
    all_rows = table(*rows)
    best = headline(all_rows)
    of_splits = (with_set(rows, ()) for rows in (best, intervals(all_rows, best)))
    return summary_intervals(summarise(all_rows), *of_splits)


def test_many_splits_are_drawn():
    rows = [{"split": str(n), "value": n / 10} for n in range(8)]
    (row,) = summary_of(*rows).to_dict("records")
    assert (row["resampled"], row["n_resampled"]) == ("splits", 8)
    assert 0.1 < row["low"] < row["mean"] == pytest.approx(0.35) and row["mean"] < row["high"] < 0.6


def test_few_splits_join_their_own_intervals():
    rows = []
    for split, value, half in (("a", 0.4, 0.3), ("b", 0.6, 0.4)):
        own = {"split": split}
        rows += [{**own, "value": value}, {**own, "metric": "ari_low", "value": value - half}]
        rows += [{**own, "metric": "ari_high", "value": value + half}, {**own, "metric": "n_donors", "value": 3}]
    row = summary_of(*rows).set_index("metric").loc["ari"]
    assert [row["low"], row["high"]] == pytest.approx([0.5 - 0.25, 0.5 + 0.25])
    assert (row["resampled"], row["n_resampled"]) == ("donors", 6)


def test_one_split_without_an_interval_leaves_the_mean_without():
    rows = [{"split": "a", "value": 0.4}, {"split": "a", "metric": "ari_low", "value": 0.1}]
    rows += [{"split": "a", "metric": "ari_high", "value": 0.9}, {"split": "b", "value": 0.6}]
    row = summary_of(*rows).set_index("metric").loc["ari"]
    assert np.isnan(row["low"]) and row["resampled"] == ""


# --- comparisons -----------------------------------------------------------------------------------------------------


def scores(rising=True, n_splits=20):
    """Three models, good > middling > poor by far more than the noise, and a twin of the first."""
    generator = np.random.default_rng(4)
    skill = {"good": 0.8, "twin": 0.8, "middling": 0.5, "poor": 0.2}
    values = {m: s + generator.normal(0, 0.02, n_splits) for m, s in skill.items()}
    rows = [
        {"model": m, "split": str(n), "value": v if rising else 1 - v}
        for m, own in values.items()
        for n, v in enumerate(own)
    ]
    return headline(table(*rows)), values


@pytest.mark.parametrize("rising", [True, False])
def test_models_that_differ_are_told_apart_and_twins_are_not(rising):
    best, values = scores(rising)
    pairs, ranked = compare(best, {("clustering", "ari"): rising})
    better = {(row.first, row.second): row.better for row in pairs.itertuples(index=False)}
    assert better["good", "twin"] == ""
    assert better["good", "middling"] == "good" and better["middling", "poor"] == "middling"
    p = pairs.set_index(["first", "second"]).loc[("good", "twin"), "p"]
    assert p == pytest.approx(wilcoxon(values["good"], values["twin"]).pvalue)
    assert (pairs["p_holm"] >= pairs["p"]).all()
    ranks = ranked.set_index("model")["mean_rank"]
    assert ranks["poor"] == 4 and ranks["middling"] == 3 and ranks["good"] + ranks["twin"] == pytest.approx(3)
    # Demsar (2006), table 5: q of Nemenyi's test for four models at 5 % is 2.569
    assert ranked["critical_difference"][0] == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 20)), abs=1e-3)
    assert ranked["p_friedman"][0] < 1e-8


@pytest.mark.parametrize("rising", [True, False])
def test_the_better_one_is_ahead_by_signed_ranks_whatever_the_mean_says(rising):
    generator = np.random.default_rng(7)
    steady = np.concatenate([0.1 + generator.normal(0, 0.01, 27), -5 + generator.normal(0, 0.01, 3)])
    sign = 1 if rising else -1
    rows = [{"model": "often", "split": str(n), "value": sign * v} for n, v in enumerate(steady)]
    rows += [{"model": "zero", "split": str(n), "value": 0.0} for n in range(30)]
    (row,) = compare(headline(table(*rows)), {("clustering", "ari"): rising})[0].to_dict("records")
    assert sign * row["difference"] < -0.4 and row["p"] == pytest.approx(wilcoxon(steady).pvalue) and row["p"] < 0.05
    assert row["better"] == "often"


def test_ties_of_one_pair_leave_the_other_pairs_exact():
    generator = np.random.default_rng(8)
    own = {m: generator.integers(0, 64, 20) / 64 for m in ("a", "b")} | {"c": generator.normal(0.3, 0.1, 20)}
    assert len(np.unique(np.abs(own["a"] - own["b"]))) < 20  # the differences of one pair are tied
    rows = [{"model": m, "split": str(n), "value": v} for m, values in own.items() for n, v in enumerate(values)]
    pairs = compare(headline(table(*rows)), {("clustering", "ari"): True})[0].set_index(["first", "second"])["p"]
    for first, second in (("a", "b"), ("a", "c"), ("b", "c")):
        assert pairs[first, second] == wilcoxon(own[first], own[second]).pvalue
    assert pairs["b", "c"] == wilcoxon(own["b"], own["c"], method="exact").pvalue


def test_few_splits_counts_and_controls_are_not_compared():
    assert compare(scores(n_splits=5)[0], {("clustering", "ari"): True})[0].empty
    assert compare(scores()[0], {})[0].empty
    pairs, ranked = compare(scores()[0], {("clustering", "ari"): True}, left_out=["poor"])
    assert "poor" not in {*pairs["first"], *pairs["second"], *ranked["model"]}


def test_a_model_that_lacks_a_split_is_not_compared():
    best, _ = scores()
    pairs, _ = compare(best[~((best["model"] == "twin") & (best["split"] == "3"))], {("clustering", "ari"): True})
    assert "twin" not in {*pairs["first"], *pairs["second"]} and len(pairs) == 3


def test_holm_steps_down():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])).tolist() == [1, 1]
    p = np.random.default_rng(5).random(30) / 20
    assert (holm(p) >= false_discovery_control(p) - 1e-12).all()
