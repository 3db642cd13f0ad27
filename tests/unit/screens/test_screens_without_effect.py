"""What scores of responses say of screens in which the right answer is known: no effect, the target alone, true effects.

The unit of these statistics is the screen: within one, all conditions share the noise of the withheld controls.
"""

import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from screen_worlds import World, mean, nothing, single, target_alone, true_effects

from cellgauge.files.prediction import Prediction
from cellgauge.files.truth import Truth
from cellgauge.metrics import perturbation as metrics

N_SCREENS = 5


@pytest.fixture(scope="module", params=[4, 40], ids=["4 conditions", "40 conditions"])
def null_screens(request, tmp_path_factory):
    return [
        World(tmp_path_factory.mktemp("null"), request.param, 20, effect=nothing, n_controls=1200, seed=seed)
        for seed in range(N_SCREENS)
    ]


@pytest.mark.parametrize("model", ["training_mean", "linear_responses", "ceiling", "copied_controls"])
def test_where_nothing_happens_no_predictor_correlates(null_screens, model):
    """With every gene taken as significant: else there is no top 20 to correlate."""
    values = {"pearson_delta": [], "top20_de": [], "pearson_specific": []}
    for world in null_screens:
        predictor = world.copied_controls if model == "copied_controls" else model
        table = world.scores_of(predictor, fdr=1.1)
        values["pearson_delta"].append(mean(table, "pearson_delta"))
        values["top20_de"].append(mean(table, "pearson_delta", "top20_de"))
        values["pearson_specific"].append(mean(table, "pearson_specific"))
        assert mean(table, "r2_delta") < 0, "noise explains nothing"
    n_conditions = len(null_screens[0].screen.test_conditions)
    for name, of_screens in values.items():
        if model == "training_mean" and name == "pearson_specific":
            assert np.isnan(of_screens).all()  # it predicts nothing specific
            continue
        error = np.std(of_screens, ddof=1) / np.sqrt(N_SCREENS)
        assert abs(np.mean(of_screens)) < max(2.8 * error, 0.02), (name, of_screens)  # 95 % of a t of 4
        if n_conditions == 40 and name != "top20_de":
            assert abs(np.mean(of_screens)) < 0.05


def test_where_nothing_happens_conditions_have_no_effect_and_no_change_is_best(null_screens):
    table = null_screens[0].scores_of("no_change")
    n_conditions = len(null_screens[0].screen.test_conditions)
    strata = {subset.partition("/")[2] for subset in table.loc[table["condition"] != "", "subset"]}
    assert "no_effect" in strata and mean(table, "n_de") < 0.2
    without = table[(table["metric"] == "n_de") & (table["condition"] != "") & (table["value"] == 0)]
    assert len(without) >= 0.8 * n_conditions  # the others: false discoveries
    assert set(without["subset"]) == {"all/no_effect"}
    assert (single(table, "r2_delta") == 0).all() and mean(table, "discrimination_l1") == pytest.approx(0.5)
    row = table[(table["metric"] == "r2_scaled") & (table["subset"] == "all")].iloc[0]
    assert row["reason"] == "less than 10% of the measured change exceeds its noise"


@pytest.mark.parametrize(("fdr", "strata"), [(1e-12, {"no_effect"}), (1.1, set())])
def test_a_screen_in_which_nothing_happens_says_so_in_its_means(null_screens, fdr, strata):
    table = null_screens[0].scores_of("training_mean", fdr=fdr)
    table = table[(table["condition"] == "") & (table["profile"] == "corrected")]
    assert {subset.partition("/")[2] for subset in table["subset"]} - {""} == strata


@pytest.fixture(scope="module")
def knocked_down(tmp_path_factory):
    return World(tmp_path_factory.mktemp("targets"), 40, 20, effect=target_alone, n_controls=1200)


def test_where_only_the_target_changes_a_lowered_target_is_worth_nothing(knocked_down):
    table = knocked_down.scores_of(knocked_down.lowered_target)
    for kind in ("l1", "l2"):
        assert abs(mean(table, f"discrimination_{kind}") - 0.5) < 0.05
        assert mean(table, f"discrimination_{kind}", "unmasked") > 0.7
    assert mean(table, "r2_delta") == 0 < 0.1 < mean(table, "r2_delta", "unmasked")
    # of what is left no gene is predicted to change: there is nothing to correlate
    assert np.isnan([mean(table, "pearson_delta"), mean(table, "pearson_delta", "top20_de")]).all()
    assert mean(table, "pearson_delta", "unmasked") > 0.3
    assert len(single(table, "n_de")) == 40 and (single(table, "n_de") == 0).sum() > 32


def test_where_only_the_target_changes_noise_is_worth_nothing(knocked_down):
    """Half of the cells know the target's level, and the level of no other gene."""
    table = knocked_down.scores_of("ceiling", fdr=1.1)
    assert abs(mean(table, "discrimination_l1") - 0.5) < 0.05 and abs(mean(table, "discrimination_l2") - 0.5) < 0.05
    assert abs(mean(table, "pearson_delta")) < 0.05 and abs(mean(table, "pearson_delta", "top20_de")) < 0.1
    assert mean(table, "discrimination_l2", "unmasked") > 0.6


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    return World(tmp_path_factory.mktemp("changed"), 12, 20, effect=true_effects, n_controls=1200)


def predictions(world):
    """Return predicted means by world of the planted truth: each a function from a condition to `Reducer.add`'s arguments."""
    control = np.asarray(world.seen_controls.mean(axis=0), dtype=np.float64).ravel()
    conditions = world.screen.test_conditions
    changes = world.screen.means(conditions) - world.screen.means(["ctrl"])
    noise = np.random.default_rng(0).normal(0, 0.15, changes.shape)

    def of(rows):
        return lambda condition: {"mean": np.maximum(control + rows[conditions.index(condition)], 0)}

    half = np.where(np.arange(changes.shape[1]) % 2, changes, 0)
    constant = np.repeat(changes.mean(axis=0, keepdims=True), len(changes), axis=0)
    return {
        "right": of(changes),
        "noisy": of(changes + noise),
        "half of the genes": of(half),
        "constant": of(constant),
        "wrong order": of(np.roll(changes, 1, axis=0)),
        "unchanged": of(0 * changes),
        "tenfold": of(10 * changes),
    }


@pytest.fixture(scope="module")
def planted(changed):
    return {name: changed.scores_of(model) for name, model in predictions(changed).items()}


@pytest.mark.parametrize("worse", ["noisy", "half of the genes", "constant", "wrong order", "unchanged", "tenfold"])
def test_the_better_predictor_wins_the_headline(planted, worse):
    """Profile corrected's first score. Correlation alone does not see a change that is ten times too large."""
    assert mean(planted["right"], "r2_delta") > mean(planted[worse], "r2_delta") + 0.02
    assert mean(planted["right"], "r2_scaled") > mean(planted[worse], "r2_scaled") + 0.02
    first = planted[worse]
    first = first[(first["condition"] == "") & ~first["metric"].str.startswith("n_")].iloc[0]
    assert (first["metric"], first["subset"]) == ("r2_delta", "all")


def test_what_other_scores_see(planted):
    def of(metric, subset="all"):
        return {name: mean(table, metric, subset) for name, table in planted.items()}

    specific, auprc, direction = of("pearson_specific"), of("de_auprc"), of("de_direction", "de")
    assert specific["right"] > 0.99 > specific["noisy"] > 0.4 > 0.1 > specific["wrong order"]
    assert np.isnan([specific["constant"], specific["unchanged"]]).all()
    assert [of("discrimination_l2")[name] for name in ("constant", "unchanged")] == pytest.approx([0.5, 0.5])
    assert of("discrimination_l2")["right"] == 1 > of("discrimination_l2")["wrong order"]
    assert auprc["right"] > max(auprc["noisy"], auprc["half of the genes"], auprc["constant"]) > auprc["unchanged"]
    assert direction["unchanged"] == 0.5 and direction["right"] > 0.97
    assert abs(of("pearson_delta")["right"] - of("pearson_delta")["tenfold"]) < 0.1
    assert of("r2_delta")["unchanged"] == 0 > of("r2_delta")["wrong order"]


@settings(max_examples=examples(25), deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(1, 6))
def test_one_prediction_for_all_conditions_of_a_stratum_discriminates_by_chance(seed, n_conditions, n_genes):
    generator = np.random.default_rng(seed)
    measured = generator.integers(-2, 3, (n_conditions, n_genes)).astype(float)  # ties among them
    prediction = generator.normal(size=n_genes)
    for kind in ("l1", "l2"):
        far = metrics.distances(prediction, measured, kind)
        scores = [metrics.share_farther(far[n], np.delete(far, n)) for n in range(n_conditions)]
        assert np.mean(scores) == pytest.approx(0.5)


@settings(max_examples=examples(25), deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.5, 1.0, 2.0])), min_size=1, max_size=30))
def test_average_precision_is_scikit_learns(pairs):
    from sklearn.metrics import average_precision_score

    labels, scores = (np.array(values) for values in zip(*pairs, strict=True))
    if labels.any():
        assert metrics.average_precision(labels, scores) == pytest.approx(average_precision_score(labels, scores))


@settings(max_examples=examples(25), deadline=None)
@given(st.lists(st.floats(0, 4), min_size=2, max_size=12), st.integers(0, 99))
def test_fold_changes_of_counts_and_their_ranks(means, seed):
    from scipy.stats import spearmanr

    means = np.round(np.array(means), 2)
    control = np.round(np.random.default_rng(seed).random(len(means)) * 2, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.nan_to_num(np.log2(np.expm1(means) / np.expm1(control)), nan=0, posinf=np.inf, neginf=-np.inf)
    changes = metrics.log_fold_changes(means, control)
    np.testing.assert_allclose(changes, expected, atol=1e-9)
    if len(set(changes)) > 1 and len(set(means)) > 1:
        assert metrics.spearman(changes, means) == pytest.approx(spearmanr(changes, means).statistic)


@given(st.lists(st.floats(-40, 40), min_size=1, max_size=30))
def test_adjusted_p_values_are_scipys(scores):
    from scipy.stats import false_discovery_control, norm

    p = 2 * norm.sf(np.abs(scores))
    np.testing.assert_allclose(metrics.adjusted_p(np.array(scores)), false_discovery_control(p), rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("model", ["copied_controls", "ceiling"])
def test_a_mean_of_training_conditions_in_both_changes_would_correlate_by_itself(tmp_path, model):
    """Why specific changes are taken from the other test conditions and not, as in Systema, from the training conditions."""
    shared, ours = [], []
    for seed in range(3):
        (tmp_path / str(seed)).mkdir()
        world = World(tmp_path / str(seed), 12, 10, effect=nothing, seed=seed)
        conditions = world.screen.test_conditions
        table = world.scores_of(world.copied_controls if model == "copied_controls" else model)
        ours.append(mean(table, "pearson_specific"))
        predicted = Prediction.read(world.folder / "prediction.h5ad").means
        centroid = world.screen.means(world.screen.training_conditions).mean(axis=0)
        half = model == "ceiling"
        truth = Truth.read(world.folder / "truth.h5ad", second_half=half)
        rows = [int(np.flatnonzero((truth.condition == c) & (truth.role == "test"))[0]) for c in conditions]
        pairs = zip(predicted, truth.means[rows], strict=True)
        shared.append(np.mean([np.corrcoef(p - centroid, m - centroid)[0, 1] for p, m in pairs]))
    assert np.mean(shared) > 0.03 > abs(np.mean(ours))
