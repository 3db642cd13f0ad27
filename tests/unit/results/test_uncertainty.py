"""Intervals and comparisons from score rows: what they are over, whom they compare, and when there are none."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from effort import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from cellgauge.metrics.intervals import interval
from cellgauge.results.tables import conclude
from cellgauge.results.uncertainty import SCORE_KEY, Sheet, Units, estimated

METRICS = {
    "ari": {"title": "ARI", "higher_is_better": True, "range": [-0.5, 1]},
    "f1": {"title": "F1", "higher_is_better": True},
    "mse": {"title": "MSE", "higher_is_better": False},
    "batch_silhouette": {"title": "Silhouette", "higher_is_better": True},
}
TASKS = {
    "clustering": {"metrics": METRICS},
    "label_prediction": {"metrics": {"f1": METRICS["f1"] | {"counts_missing": "cells"}, "kappa": METRICS["f1"]}},
    "my_screens": {"modality": "perturbation", "metrics": METRICS},
    "cross_species": {
        "scope": "dataset",
        "metrics": METRICS | {"transfer_f1": METRICS["f1"] | {"of_pairs": "species"}, "bras": METRICS["f1"]},
    },
}


def table(*rows):
    """Score rows as collect holds them; keys that a row does not name are empty."""
    empty = dict.fromkeys([*SCORE_KEY, "reason"], "") | {"seed": None, "fold": None, "status": "ok", "value": np.nan}
    common = {"task": "clustering", "model": "m", "dataset": "d", "split": "s", "metric": "ari", "profile": "corrected"}
    return pd.DataFrame([empty | common | row for row in rows]).astype(
        {"value": "float64", "seed": "Int64", "fold": "Int64"}
    )


def concluded(*rows, controls=()):
    models = {name: {"kind": "control"} for name in controls}
    return conclude(table(*rows), {"tasks": TASKS, "models": models})


def of_units(values, column, **where):
    """The rows of single units and of their mean."""
    rows = [{**where, column: name, "value": value} for name, value in values.items()]
    return [*rows, {**where, "value": float(np.mean(list(values.values())))}]


# --- single scores ---------------------------------------------------------------------------------------------------


def test_donors_folds_conditions_labels_and_seeds_are_named():
    values = dict(enumerate((0.1, 0.2, 0.25, 0.3, 0.6)))
    named = {f"c{n}": value for n, value in values.items()}
    without = {f"d{n}": 0.3 + value / 10 for n, value in values.items()}
    rows = [
        *of_units(values, "seed"),
        *of_units(values, "fold", task="label_prediction", metric="f1", classifier="knn"),
        *of_units(named, "condition", task="my_screens", metric="mse"),
        *of_units(named, "condition", task="cross_species", metric="batch_silhouette"),
        {"metric": "mse", "value": 0.34},
        *({"metric": "mse_without", "condition": donor, "value": value} for donor, value in without.items()),
    ]
    found = concluded(*rows)["intervals"].set_index(["task", "metric"])
    assert found["resampled"].to_dict() == {
        ("clustering", "ari"): "seeds",
        ("label_prediction", "f1"): "folds",
        ("my_screens", "mse"): "conditions",
        ("cross_species", "batch_silhouette"): "labels",
        ("clustering", "mse"): "donors",
    }
    assert set(found["n_resampled"]) == {5}
    assert (found["low"] < found["value"]).all() and (found["value"] < found["high"]).all()


def test_a_fold_counts_with_all_its_classifiers():
    rows = [
        {"metric": "f1", "classifier": name, "value": value, "fold": fold}
        for name, values in {"knn": (0, 0.25, 0.5, 0.75, 1), "random_forest": (1, 0.75, 0.5, 0.25, 0)}.items()
        for fold, value in enumerate(values)
    ]
    rows += [{"metric": "f1", "classifier": name, "value": 0.5} for name in ("knn", "random_forest", "mean")]
    found = concluded(*rows)["intervals"].set_index("classifier")
    assert found.loc["mean", ["low", "high"]].tolist() == [0.5, 0.5]
    assert found.loc["knn", "high"] > 0.8


def test_a_perfect_score_has_the_units_of_the_others():
    scores = {"perfect": [1.0] * 5, "good": [0.9, 0.8, 0.85, 0.9, 0.95]}
    rows = []
    for model, values in scores.items():
        rows += of_units(dict(enumerate(values)), "fold", model=model, task="label_prediction", metric="f1")
        labels = {f"c{n}": 1.0 if model == "perfect" else 0.5 for n in range(8)}
        rows += of_units(labels, "condition", model=model, task="label_prediction", metric="f1")[:-1]
    assert set(concluded(*rows)["intervals"]["resampled"]) == {"folds"}


def test_ends_stay_within_the_range_of_the_metric():
    (row,) = concluded(*of_units(dict(enumerate((1.0, 1.0, 1.0, 1.0, 0.2))), "seed"))["intervals"].to_dict("records")
    assert row["high"] == 1 and row["low"] < 0.6


@pytest.mark.parametrize("n", [2, 3, 4])
def test_what_rests_on_less_than_five_units_has_no_interval(n):
    rows = of_units({place: place / 10 for place in range(n)}, "seed")
    assert concluded(*rows)["intervals"].empty


def test_a_value_that_is_no_mean_of_its_conditions_has_no_interval_of_them():
    rows = [{"condition": c, "value": n / 10} for n, c in enumerate("abcdef")] + [{"value": 0.9}]
    assert concluded(*rows)["intervals"].empty


# --- means over splits -----------------------------------------------------------------------------------------------


def summary_of(*rows):
    return concluded(*rows)["summary"].set_index("metric").loc["ari"]


def test_many_splits_are_the_units():
    row = summary_of(*({"split": str(n), "value": n / 10} for n in range(8)))
    assert (row["resampled"], row["n_resampled"]) == ("splits", 8)
    assert 0.1 < row["low"] < row["mean"] == pytest.approx(0.35) and row["mean"] < row["high"] < 0.6


def donors_of(split, value, effects, **where):
    """A score that is the mean of donors of equal size, and without each of them."""
    whole = value + np.mean(list(effects.values()))
    n = len(effects)
    yield {"split": split, "value": whole, **where}
    for donor, effect in effects.items():
        yield {
            "split": split,
            "metric": "ari_without",
            "condition": donor,
            "value": (n * whole - value - effect) / (n - 1),
            **where,
        }


def test_few_splits_rest_on_the_units_of_all_and_a_donor_of_two_is_one():
    rng = np.random.default_rng(0)
    effects = dict(zip("abcdef", rng.normal(0, 0.1, 6), strict=True))
    others = {f"{name}2": value for name, value in effects.items()}
    apart = summary_of(*donors_of("x", 0.3, effects), *donors_of("y", 0.5, others))
    shared = summary_of(*donors_of("x", 0.3, effects), *donors_of("y", 0.5, effects))
    assert (apart["resampled"], apart["n_resampled"], shared["n_resampled"]) == ("donors", 12, 6)
    assert shared["high"] - shared["low"] > 1.3 * (apart["high"] - apart["low"])


def test_one_split_without_units_leaves_the_mean_without():
    rows = [*of_units(dict(enumerate((0.1, 0.2, 0.3, 0.4, 0.6))), "seed", split="a"), {"split": "b", "value": 0.6}]
    row = summary_of(*rows)
    assert np.isnan(row["low"]) and row["resampled"] == ""


def test_intervals_over_tissues_cover_where_they_share_donors():
    """Eight tissues of six donors: what is a donor's own is in all of them, and no difference between tissues shows it."""
    rng = np.random.default_rng(2)
    hits = {"both": [], "tissues alone": []}
    for _ in range(400):
        people, tissues = rng.normal(0, 0.1, 6), rng.normal(0, 0.1, 8)
        values = 0.3 + tissues[:, None] + people + rng.normal(0, 0.05, (8, 6))
        pseudo = {f"t{n}": {"donors": Units([f"d{d}" for d in range(6)], row[None])} for n, row in enumerate(values)}
        sheet = Sheet(("",) * 7, ["m"], list(pseudo), values.mean(axis=1)[None], pseudo)
        for name, one in (("both", sheet), ("tissues alone", replace(sheet, units={}))):
            found, (named,) = estimated(one)
            (low,), (high,) = interval(found)
            hits[name].append(low <= 0.3 <= high)
        assert named == "splits"
    assert 0.93 <= np.mean(hits["both"]) <= 0.985 and np.mean(hits["tissues alone"]) < 0.9, {
        name: np.mean(found) for name, found in hits.items()
    }


def test_donors_keep_their_order_so_that_sums_are_the_same_in_every_process():
    names = [f"d{n}" for n in range(20)]
    units = {split: {"donors": Units(names, np.zeros((1, 20)))} for split in "st"}
    sheet = Sheet(("",) * 7, ["m"], list("st"), np.zeros((1, 2)), units)
    assert {split: list(donors) for split, donors in sheet.donors_by_split.items()} == {"s": names, "t": names}


# --- comparisons -----------------------------------------------------------------------------------------------------


def scores(rising=True, n_splits=20, **where):
    """Three models, good > middling > poor by far more than the noise, and a twin of the first."""
    generator = np.random.default_rng(4)
    skill = {"good": 0.8, "twin": 0.8, "middling": 0.5, "poor": 0.2}
    values = {m: s + generator.normal(0, 0.02, n_splits) for m, s in skill.items()}
    metric = "ari" if rising else "mse"
    rows = [
        {"model": m, "split": str(n), "metric": metric, "value": v if rising else 1 - v, **where}
        for m, of_model in values.items()
        for n, v in enumerate(of_model)
    ]
    return rows, values


def better_of(pairs):
    return {frozenset((row.first, row.second)): row.better for row in pairs.itertuples()}


@pytest.mark.parametrize("rising", [True, False])
def test_models_that_differ_are_told_apart_and_twins_are_not(rising):
    rows, values = scores(rising)
    found = concluded(*rows)
    better = better_of(found["comparisons"])
    assert better[frozenset(("good", "twin"))] == ""
    assert better[frozenset(("good", "middling"))] == "good" and better[frozenset(("middling", "poor"))] == "middling"
    row = found["comparisons"].set_index(["first", "second"]).loc[("good", "twin")]
    assert row["p"] == pytest.approx(ttest_1samp(values["good"] - values["twin"], 0).pvalue)
    assert row["low"] < row["difference"] < row["high"] and (row["units"], row["n_units"]) == ("splits", 20)
    assert (found["comparisons"]["p_holm"] >= found["comparisons"]["p"]).all()
    ranks = found["ranks"].set_index("model")
    assert ranks["rank"].to_dict() == {"good": 1, "twin": 1, "middling": 3, "poor": 4}
    mean_ranks = ranks["mean_rank"]
    assert mean_ranks["poor"] == 4 and mean_ranks["good"] + mean_ranks["twin"] == pytest.approx(3)


def test_what_is_hard_for_both_does_not_hide_who_is_ahead():
    """The intervals of both overlap by far, the differences are all of one sign."""
    hard = np.linspace(0.1, 0.9, 8)
    rows = [
        {"model": model, "split": str(n), "value": value + ahead + 0.002 * (n % 3)}
        for model, ahead in (("a", 0.02), ("b", 0.0))
        for n, value in enumerate(hard)
    ]
    rows = [{**row, "value": row["value"] - 0.003 * (row["model"] == "b") * (int(row["split"]) % 2)} for row in rows]
    found = concluded(*rows)
    ends = found["summary"].set_index("model")
    assert ends.loc["a", "low"] < ends.loc["b", "high"]
    assert list(better_of(found["comparisons"]).values()) == ["a"]


def test_folds_are_compared_in_pairs_where_there_are_few_splits():
    rows = []
    for model, skill in (("a", 0.8), ("b", 0.6)):
        folds = {n: skill + 0.1 * (n % 2) + 0.001 * n for n in range(5)}
        rows += of_units(folds, "fold", model=model, metric="f1", task="label_prediction", classifier="knn")
    (pair,) = concluded(*rows)["comparisons"].query("classifier == 'knn'").to_dict("records")
    assert (pair["units"], pair["n_units"], pair["better"]) == ("folds", 5, "a")


@given(st.lists(st.integers(-20, 20).map(lambda n: n / 10), min_size=5, max_size=10))
@example([1.9, 1.8, 1.9, 1.5, 2.0, 0.0])
@settings(deadline=None, max_examples=examples(25))
def test_no_model_is_ahead_where_the_interval_of_the_difference_holds_0(differences):
    folds = {"a": dict(enumerate(differences)), "b": dict.fromkeys(range(len(differences)), 0.0)}
    rows = [row for model, values in folds.items() for row in of_units(values, "fold", model=model)]
    (pair,) = concluded(*rows)["comparisons"].to_dict("records")
    assert not (pair["better"] and pair["low"] <= 0 <= pair["high"])


def test_a_model_that_no_test_compares_has_no_rank():
    folds = {
        "good": (0.8, 0.82, 0.81, 0.83, 0.8),
        "poor": (0.5, 0.53, 0.5, 0.52, 0.51),
        "two folds alone": (0.99, 0.98),
    }
    rows = [row for model, values in folds.items() for row in of_units(dict(enumerate(values)), "fold", model=model)]
    assert concluded(*rows)["ranks"].set_index("model")["rank"].to_dict() == {"good": 1, "poor": 2}


def test_tasks_that_span_splits_are_compared_by_labels_and_sets_are_kept_apart():
    rows = []
    for split_set in ("all", "common"):
        for model, skill in (("a", 0.8), ("b", 0.6)):
            labels = {f"label {n}": skill + 0.1 * (n % 2) + 0.001 * n for n in range(6)}
            where = {"task": "cross_species", "metric": "batch_silhouette", "split": split_set}
            rows += of_units(labels, "condition", model=model, **where)
    found = concluded(*rows)
    assert found["comparisons"]["set"].tolist() == ["all", "common"]
    assert set(found["comparisons"]["better"]) == {"a"} and set(found["comparisons"]["units"]) == {"labels"}
    assert found["ranks"]["set"].tolist() == ["all", "all", "common", "common"]


def test_seeds_are_shared_by_no_two_models():
    rows = [row for m in "ab" for row in of_units({n: 0.1 * n + (m == "a") for n in range(10)}, "seed", model=m)]
    assert concluded(*rows)["comparisons"].empty


def test_few_splits_and_what_is_no_score_are_not_compared():
    assert concluded(*scores(n_splits=4)[0])["comparisons"].empty
    assert concluded(*scores(task="unknown")[0])["comparisons"].empty


def test_controls_are_compared_and_not_ranked():
    found = concluded(*scores()[0], controls=["poor"])
    assert "poor" not in set(found["ranks"]["model"])
    assert better_of(found["comparisons"])[frozenset(("good", "poor"))] == "good"


# --- like with like --------------------------------------------------------------------------------------------------


def test_a_missing_split_costs_a_model_its_rank_and_nobody_a_test():
    rows, _ = scores()
    found = concluded(*(row for row in rows if (row["model"], row["split"]) != ("twin", "3")))
    assert set(found["ranks"]["model"]) == {"good", "middling", "poor"}
    assert len(found["comparisons"]) == 6
    units = found["comparisons"].set_index(["first", "second"])["n_units"]
    assert units["good", "twin"] == 19 and units["good", "poor"] == 20
    assert found["summary"].set_index("model")["coverage"].to_dict() == {
        "good": "", "twin": "19 of 20 splits", "middling": "", "poor": "",
    }  # fmt: skip


def counts(model, scored, left_out, splits, task="clustering"):
    for split in splits:
        where = {"task": task, "model": model, "split": split}
        yield {**where, "metric": "n_cells", "value": float(scored)}
        yield {**where, "metric": "n_unembedded", "value": float(left_out)}


def test_cells_that_are_left_out_cost_rank_and_test():
    rows, _ = scores(n_splits=8)
    splits = [str(n) for n in range(8)]
    rows += [row for m in ("good", "middling", "poor") for row in counts(m, 2142, 0, splits)]
    rows += counts("twin", 1490, 652, splits)
    found = concluded(*rows)
    assert set(found["ranks"]["model"]) == {"good", "middling", "poor"}
    assert "twin" not in {*found["comparisons"]["first"], *found["comparisons"]["second"]}
    summary = found["summary"].query("metric == 'ari'").set_index("model")
    assert summary.loc["twin", "coverage"] == "11,920 of 17,136 cells"
    assert (summary.loc["twin", "n_scored"], summary.loc["twin", "n_total"]) == (11920, 17136)


def test_a_metric_that_counts_what_is_missing_as_wrong_is_compared():
    rows = []
    for metric in ("f1", "kappa"):
        for model, skill in (("a", 0.9), ("b", 0.5)):
            folds = {n: skill + 0.01 * n for n in range(5)}
            for profile in ("corrected", "reference"):
                where = {"model": model, "metric": metric, "task": "label_prediction", "classifier": "knn"}
                rows += of_units(folds, "fold", profile=profile, **where)
                rows += [
                    {**row, "profile": profile}
                    for row in counts(
                        model, 90 if model == "a" else 100, 10 * (model == "a"), ["s"], "label_prediction"
                    )
                ]
    ranked = concluded(*rows)["ranks"].query("classifier == 'knn'")
    assert set(zip(ranked["metric"], ranked["profile"], strict=True)) == {("f1", "corrected")}


def test_a_screen_is_compared_over_all_conditions_or_not_at_all():
    rows = []
    for model, n in (("whole", 8), ("other", 8), ("part", 6)):
        values = {f"c{place}": 0.1 * place + (model == "other") for place in range(n)}
        rows += of_units(values, "condition", model=model, task="my_screens", metric="mse", subset="all")
    found = concluded(*rows)
    assert set(found["ranks"]["model"]) == {"whole", "other"} and len(found["comparisons"]) == 1
    assert found["summary"].set_index("model")["coverage"].to_dict()["part"] == "6 of 8 conditions"


def test_genes_that_are_not_predicted_are_said():
    rows = []
    for model, missing in (("whole", 0), ("part", 259)):
        values = {f"c{place}": 0.1 * place for place in range(8)}
        rows += of_units(values, "condition", model=model, task="my_screens", metric="mse", subset="all")
        for name, n in (("n_genes", 299 - missing), ("n_genes_unpredicted", missing)):
            rows.append({"task": "my_screens", "model": model, "metric": name, "subset": "all", "value": float(n)})
    found = concluded(*rows)["summary"].query("metric == 'mse'").set_index("model")["coverage"]
    assert found.to_dict() == {"whole": "", "part": "40 of 299 genes"}


MODELS_AND_UNITS = st.integers(2, 6).flatmap(
    lambda n: st.fixed_dictionaries({m: st.sets(st.integers(0, n - 1), min_size=1) for m in ("a", "b", "c")})
)


def marks(rows):
    """The coverage of each model, and whether one that lacks anything is ranked or tested."""
    tables = concluded(*rows)
    marked = tables["summary"].set_index(["model", "classifier"])["coverage"].to_dict()
    lacking = {(model, classifier) for (model, classifier), text in marked.items() if text}
    ranked = set(tables["ranks"][["model", "classifier"]].itertuples(index=False, name=None))
    sides = (
        tables["comparisons"][[side, "classifier"]].itertuples(index=False, name=None) for side in ("first", "second")
    )
    tested = {pair for side in sides for pair in side}
    assert not lacking & (ranked | tested)
    return marked


@settings(max_examples=30, deadline=None)
@given(MODELS_AND_UNITS, MODELS_AND_UNITS)
def test_a_mean_over_fewer_folds_never_stands_unmarked_beside_one_over_more(of_knn, of_forest):
    rows = []
    for model in "abc":
        folds = {("knn", n): 0.1 * n for n in of_knn[model]} | {("forest", n): 0.1 * n for n in of_forest[model]}
        where = {"task": "label_prediction", "metric": "kappa", "model": model, "subset": "random_folds"}
        rows += [{**where, "classifier": name, "fold": n, "value": value} for (name, n), value in folds.items()]
        rows += [{**where, "classifier": name, "value": 0.5} for name in ("knn", "forest", "mean")]
    marked = marks(rows)
    for classifier, of_models in (("knn", of_knn), ("forest", of_forest)):
        n = len(set().union(*of_models.values()))
        for model, folds in of_models.items():
            assert marked[model, classifier] == ("" if len(folds) == n else f"{len(folds)} of {n} folds")
    n = sum(len(set().union(*of_models.values())) for of_models in (of_knn, of_forest))
    for model in "abc":
        n_folds = len(of_knn[model]) + len(of_forest[model])
        assert marked[model, "mean"] == ("" if n_folds == n else f"{n_folds} of {n} folds")


@settings(max_examples=20, deadline=None)
@given(MODELS_AND_UNITS, st.sampled_from([("transfer_f1", "pairs of species"), ("bras", "labels")]))
def test_nor_does_one_over_fewer_pairs_or_labels(of_models, metric):
    name, kind = metric
    rows = []
    for model, units in of_models.items():
        where = {"task": "cross_species", "metric": name, "model": model, "split": "all"}
        rows += of_units({f"u{n}": 0.1 * n for n in units}, "condition", **where)
    n = len(set().union(*of_models.values()))
    assert marks(rows) == {
        (model, ""): "" if len(units) == n else f"{len(units)} of {n} {kind}" for model, units in of_models.items()
    }


# --- properties ------------------------------------------------------------------------------------------------------

GRIDS = st.integers(3, 5).flatmap(
    lambda n_models: st.lists(
        st.lists(st.integers(0, 40), min_size=7, max_size=7), min_size=n_models, max_size=n_models
    )
)


def ranks_of(values):
    rows = [
        {"model": model, "split": f"s{n}", "value": value}
        for model, of_model in values.items()
        for n, value in enumerate(of_model)
        if value is not None
    ]
    ranks = concluded(*rows)["ranks"]
    return dict(zip(ranks["model"], ranks["rank"], strict=True))


@settings(max_examples=examples(15), deadline=None)
@given(GRIDS, st.randoms(use_true_random=False))
def test_other_names_and_another_order_change_no_rank(grid, random):
    values = {f"m{n}": [value / 40 for value in row] for n, row in enumerate(grid)}
    names = list(values)
    random.shuffle(names)
    renamed = dict(zip(values, names, strict=True))
    order = list(values)
    random.shuffle(order)
    ranks = ranks_of(values)
    assert ranks_of({renamed[name]: values[name] for name in order}) == {renamed[n]: r for n, r in ranks.items()}


@settings(max_examples=examples(15), deadline=None)
@given(GRIDS, st.data())
def test_leaving_out_splits_never_improves_a_rank(grid, data):
    values = {f"m{n}": [value / 40 for value in row] for n, row in enumerate(grid)}
    left_out = data.draw(st.sets(st.integers(0, 6), min_size=1, max_size=6))
    fewer = {**values, "m0": [None if n in left_out else value for n, value in enumerate(values["m0"])]}
    assert "m0" not in ranks_of(fewer)
    assert {m: r for m, r in ranks_of(fewer).items() if m != "m0"}.keys() == ranks_of(values).keys() - {"m0"}


@pytest.mark.parametrize(("n_donors", "tested"), [((5, 5), True), ((4, 6), False), ((12, 2), False)])
def test_species_of_few_donors_leave_no_interval_and_no_test(n_donors, tested):
    generator = np.random.default_rng(0)
    rows = []
    for model, value in (("good", 0.9), ("poor", 0.2)):
        where = {"task": "cross_species", "model": model, "metric": "ari", "split": "all"}
        rows.append({**where, "value": value})
        rows += [
            {
                **where,
                "metric": "ari_without",
                "condition": f"{species}/d{n}",
                "value": value + generator.normal(0, 0.01),
            }
            for species, count in zip(("human", "mouse"), n_donors, strict=True)
            for n in range(count)
        ]
    found = concluded(*rows)
    assert (len(found["comparisons"]) == 1) == tested
    assert found["intervals"]["low"].notna().any() == tested
