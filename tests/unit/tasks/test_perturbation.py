"""Scores of predicted responses: the reference's numbers, the corrected ones, and everything that can be missing."""

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import tiny
from scipy.stats import pearsonr

from cellgauge.core.errors import ContractError
from cellgauge.data.make_split import make_split
from cellgauge.files.prediction import Prediction
from cellgauge.files.truth import Truth
from cellgauge.metrics import perturbation as metrics
from cellgauge.predictors.base import predict_files
from cellgauge.screens.ground_truth import measure_truth
from cellgauge.screens.reduce import Reducer
from cellgauge.screens.screen import CONTROL, Screen, targets
from cellgauge.tasks.run import score_files

N_GENES = 150


def make_screen(folder, data, **changes):
    data.write_h5ad(folder / "published.h5ad")
    make_split(folder / "published.h5ad", folder / "split.h5ad", tiny.screen_options(**changes))
    measure_truth(folder / "split.h5ad", folder / "truth.h5ad")
    return Screen.open(folder / "split.h5ad")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("screen")


@pytest.fixture(scope="module")
def screen(folder):
    return make_screen(folder, tiny.screen(n_cells=600, n_genes=N_GENES))


def test_the_truth_of_a_screen_with_genes_that_never_vary_is_the_same_twice(tmp_path):
    """More components are asked for than vary, so ARPACK draws the others at random."""
    components = []
    for _ in range(2):
        make_screen(tmp_path, tiny.screen())
        components.append(Truth.read(tmp_path / "truth.h5ad").components)
    np.testing.assert_array_equal(*components)


def write(screen, path, response, genes=None, **uns):
    """Write a prediction file: `response(condition)` gives the arguments of `Reducer.add`."""
    reducer = Reducer(screen, screen.genes if genes is None else genes)
    for condition in screen.test_conditions:
        reducer.add(condition, **response(condition))
    reducer.write(path, {"model": "mine", "dataset": "tiny_screen", "split": "k562", **uns})
    return path


def scored(prediction, truth, **options):
    rows = list(score_files("perturbation", [prediction], [truth], **options))
    return pd.DataFrame([vars(row) for row in rows]).astype({"value": "float64"})


def value(table, metric, subset="all", profile="corrected", condition=""):
    chosen = table[
        (table["metric"] == metric) & (table["profile"] == profile) & (table["condition"] == condition)
        & (table["subset"] == subset)
    ]  # fmt: skip
    assert len(chosen) == 1, (metric, subset, profile, condition)
    return chosen.iloc[0]


def predicted_cells(screen, condition, n=80):
    """Return plausible predicted cells: noisy, a little off the truth, some values below zero."""
    generator = np.random.default_rng(sorted(screen.test_conditions).index(condition))
    cells = screen.expression(screen.rows_of(condition)).toarray()
    controls = screen.controls().toarray()
    cells = cells[generator.integers(0, len(cells), n)] * 0.8 + controls[np.arange(n) % len(controls)] * 0.2
    return (cells + generator.normal(0, 0.05, cells.shape)).astype(np.float32)


def as_cz_benchmarks(controls, truth, predicted, genes):
    """Return what cz-benchmarks 0.10.2 computes for one condition, with the libraries that it uses."""
    import scanpy

    def ranking(group):
        data = anndata.AnnData(np.vstack([controls, group]), var=pd.DataFrame(index=genes))
        data.obs["condition"] = ["ctrl"] * len(controls) + ["group"] * len(group)
        scanpy.tl.rank_genes_groups(data, "condition", groups=["group"], reference="ctrl", method="wilcoxon")
        frame = scanpy.get.rank_genes_groups_df(data, "group").sort_values("scores", ascending=False)
        return frame["names"].tolist()

    means = [pd.DataFrame(cells, columns=genes).mean(axis=0) for cells in (controls, truth, predicted)]
    control, measured, made = means
    by_truth, by_prediction = ranking(truth), ranking(predicted)
    found = {}
    for name, chosen in (("all", genes), ("top20_de", by_truth[:20]), ("top100_de", by_truth[:100])):
        found["mse", name] = ((measured - made)[chosen] ** 2).mean()
        found["pearson_delta", name] = pearsonr((measured - control)[chosen], (made - control)[chosen]).statistic
    for n in (20, 100):
        a, b = set(by_truth[:n]), set(by_prediction[:n])
        found["jaccard", f"top{n}_de"] = len(a & b) / len(a | b)
    return found


def test_profile_reference_is_cz_benchmarks(screen, folder):
    """Columns of the prediction in another order: cz-benchmarks would mix them up, aligned by name they mean the same."""
    order = np.random.default_rng(0).permutation(N_GENES)
    path = write(
        screen,
        folder / "cells.h5ad",
        lambda condition: {"cells": predicted_cells(screen, condition)[:, order]},
        genes=screen.genes[order],
    )
    table = scored(path, folder / "truth.h5ad", profiles=["reference"])
    for condition in screen.test_conditions:
        theirs = as_cz_benchmarks(
            screen.controls().toarray(),
            screen.expression(screen.rows_of(condition)).toarray(),
            predicted_cells(screen, condition),
            screen.genes.astype(str),
        )
        for (metric, genes), expected in theirs.items():
            found = value(table, metric, f"{genes}/{screen.strata[condition]}", "reference", condition)
            assert found["value"] == pytest.approx(expected, abs=2e-5), (condition, metric, genes)
    mean = table[(table["metric"] == "mse") & (table["condition"] != "") & table["subset"].str.startswith("all/")]
    assert value(table, "mse", "all", "reference")["value"] == pytest.approx(mean["value"].mean())


def test_the_median_baseline_is_cz_benchmarks(screen, folder):
    predict_files("no_change", folder / "split.h5ad", folder / "median.h5ad", options={"statistic": "median"})
    table = scored(folder / "median.h5ad", folder / "truth.h5ad", profiles=["reference"])
    controls = screen.controls().toarray()
    condition = screen.test_conditions[0]
    theirs = as_cz_benchmarks(
        controls,
        screen.expression(screen.rows_of(condition)).toarray(),
        np.tile(np.median(controls, axis=0), (len(controls), 1)),
        screen.genes.astype(str),
    )
    for (metric, genes), expected in theirs.items():
        if (
            metric != "jaccard"
        ):  # medians lie in the middle of the control: most scores are tied, a sort picks among them
            found = value(table, metric, f"{genes}/{screen.strata[condition]}", "reference", condition)["value"]
            assert found == pytest.approx(expected, abs=2e-5), (metric, genes)


# --- what a prediction is worth --------------------------------------------------------------------------------------


def test_a_perfect_prediction(screen, folder):
    """Of the changes, in profile corrected, but for the noise of the two halves of the controls that they are taken from."""
    path = write(screen, folder / "perfect.h5ad", lambda c: {"cells": screen.expression(screen.rows_of(c))})
    table = scored(path, folder / "truth.h5ad")
    for genes in ("all", "top20_de", "top100_de"):
        assert value(table, "mse", genes, "reference")["value"] < 1e-12 and value(table, "mse", genes)["value"] < 1e-12
        assert value(table, "pearson_delta", genes, "reference")["value"] == pytest.approx(1)
        assert value(table, "pearson_delta", genes)["value"] > 0.97
    for genes in ("top20_de", "top100_de"):
        assert value(table, "jaccard", genes, "reference")["value"] == 1
    assert value(table, "pearson_specific")["value"] == pytest.approx(1)
    assert value(table, "r2_delta")["value"] > 0.95 and 0.95 < value(table, "r2_scaled")["value"] <= 1.02
    assert value(table, "de_auprc")["value"] > 0.9 and value(table, "de_direction", "de")["value"] > 0.98
    for kind in ("l1", "l2", "cosine"):
        assert value(table, f"discrimination_{kind}")["value"] == 1
    assert value(table, "centroid_accuracy")["value"] == 1
    assert value(table, "e_distance")["value"] < 0.05  # below 0: these are the very cells that it is compared with
    assert value(table, "n_conditions")["value"] == 4 and value(table, "n_unpredicted")["value"] == 0


def test_controls_bracket_and_additive_recovers_what_was_planted(screen, folder):
    tables = {}
    for adapter in ("no_change", "training_mean", "matching_mean", "additive", "ceiling"):
        predict_files(adapter, folder / "split.h5ad", folder / f"{adapter}.h5ad")
        tables[adapter] = scored(folder / f"{adapter}.h5ad", folder / "truth.h5ad")
    pairs = {name: value(t, "mse", "top20_de/combo_seen2")["value"] for name, t in tables.items()}
    assert pairs["ceiling"] < pairs["additive"] < pairs["matching_mean"] < pairs["no_change"]
    assert value(tables["additive"], "pearson_delta", "all/combo_seen2")["value"] > 0.8
    assert (
        value(tables["additive"], "e_distance", "all/combo_seen2")["value"]
        < (value(tables["no_change"], "e_distance", "all/combo_seen2")["value"])
    )
    # the same prediction for all conditions cannot tell them apart
    for subset in ("all", "all/combo_seen2"):
        for metric in ("discrimination_l1", "discrimination_l2"):
            assert value(tables["training_mean"], metric, subset)["value"] == 0.5
    row = value(tables["training_mean"], "discrimination_l1", "all/unseen_single", condition="GENE4+ctrl")
    assert row["reason"] == "there is no other condition in its stratum to compare with"


def test_no_change_has_no_correlation_and_no_differential_expression(screen, folder):
    predict_files("no_change", folder / "split.h5ad", folder / "unchanged.h5ad")
    table = scored(folder / "unchanged.h5ad", folder / "truth.h5ad")
    for profile in ("reference", "corrected"):
        row = value(table, "pearson_delta", "all", profile)
        assert row["status"] == "not_applicable" and "the predicted change is the same for all" in row["reason"]
    row = value(table, "jaccard", "top20_de")
    assert row["status"] == "not_applicable" and row["reason"] == "the prediction changes no gene"
    assert value(table, "discrimination_cosine")["status"] == "not_applicable"
    assert value(table, "mse")["value"] > 0


def test_rounding_is_no_correlation(screen, folder):
    """A file of float32 control means, written by hand: what is left of the change is noise of the last digit."""
    mean = screen.without_withheld().controls().toarray().mean(axis=0)
    path = write(screen, folder / "rounded.h5ad", lambda c: {"mean": mean})
    table = scored(path, folder / "truth.h5ad")
    assert value(table, "pearson_delta", profile="corrected")["status"] == "not_applicable"


def test_strata_conditions_and_counts(screen, folder):
    predict_files("additive", folder / "split.h5ad", folder / "sums.h5ad")
    table = scored(folder / "sums.h5ad", folder / "truth.h5ad")
    assert value(table, "n_conditions")["value"] == 2 and value(table, "n_unpredicted")["value"] == 2
    assert value(table, "n_conditions", "all/combo_seen1")["value"] == 0
    row = value(table, "mse", "all/combo_seen1")
    assert row["status"] == "not_applicable" and "no training condition perturbs GENE4 alone" in row["reason"]
    row = value(table, "mse", "all/unseen_single", condition="GENE4+ctrl")
    assert row["reason"] == "the additive model does not apply to single-gene perturbations"
    row = value(table, "mse")
    assert row["status"] == "ok" and row["reason"].startswith("mean over 2 of 4 conditions")
    keys = ["profile", "metric", "subset", "condition"]
    assert not table.duplicated(keys).any()
    assert set(table["task"]) == {"perturbation"} and set(table["model"]) == {"additive"}


def test_models_have_the_same_rows_whatever_they_predict(screen, folder):
    tables = {}
    for adapter in ("no_change", "training_mean", "matching_mean", "additive", "linear_responses", "ceiling"):
        predict_files(adapter, folder / "split.h5ad", folder / f"{adapter}.h5ad")
        tables[adapter] = scored(folder / f"{adapter}.h5ad", folder / "truth.h5ad")
    keys = ["profile", "metric", "subset", "condition"]
    rows = {adapter: set(table[keys].itertuples(index=False, name=None)) for adapter, table in tables.items()}
    assert all(own == rows["no_change"] for own in rows.values())
    measured = {
        adapter: table.loc[table["metric"] == "n_de", [*keys, "value", "status", "reason"]].to_dict("records")
        for adapter, table in tables.items()
        if adapter != "ceiling"  # is scored against half of the cells
    }
    assert measured["no_change"] and all(own == measured["no_change"] for own in measured.values())


# --- invariance ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", ["matching_mean", "linear_responses", "ceiling"])
def test_the_order_of_cells_and_genes_changes_nothing(screen, folder, tmp_path, adapter):
    data = tiny.screen(n_cells=600, n_genes=N_GENES)
    generator = np.random.default_rng(3)
    data = data[generator.permutation(data.n_obs)][:, generator.permutation(data.n_vars)].copy()
    make_screen(tmp_path, data)
    tables = []
    for place in (folder, tmp_path):
        predict_files(adapter, place / "split.h5ad", place / "p.h5ad")
        tables.append(scored(place / "p.h5ad", place / "truth.h5ad"))
    first, second = (t.set_index(["profile", "metric", "subset", "condition"]) for t in tables)
    assert (first["status"] == second["status"]).all()
    # a component turned within its rounding moves the energy distance a little
    assert (first["value"] - second["value"]).abs().max() < 1e-5


def test_the_order_of_predicted_cells_changes_nothing(screen, folder, tmp_path):
    """There are more of them than are kept for the energy distance."""
    tables = []
    for name, order in (("given", np.arange(150)), ("turned", np.random.default_rng(5).permutation(150))):
        path = write(
            screen, tmp_path / f"{name}.h5ad", lambda c, o=order: {"cells": predicted_cells(screen, c, 150)[o]}
        )
        tables.append(scored(path, folder / "truth.h5ad"))
    assert tables[0]["status"].equals(tables[1]["status"])
    np.testing.assert_allclose(tables[0]["value"], tables[1]["value"], rtol=0, atol=1e-5)


def test_the_split_may_stand_for_the_truth(folder, screen):
    path = folder / "standing.h5ad"
    predict_files("matching_mean", folder / "split.h5ad", path)
    pd.testing.assert_frame_equal(scored(path, folder / "truth.h5ad"), scored(path, folder / "split.h5ad"))


def test_a_file_that_names_no_dataset_and_no_split_is_of_the_truths(folder, screen, tmp_path):
    path = write(screen, tmp_path / "p.h5ad", lambda c: {"mean": np.zeros(N_GENES)})
    with h5py.File(path, "a") as file:
        del file["uns/dataset"], file["uns/split"]
    table = scored(path, folder / "truth.h5ad")
    assert (table[["model", "dataset", "split"]] == ["mine", "tiny_screen", "k562"]).all(axis=None)


# --- conditions in two orders ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    """A screen in which half of the cells of GENE4+ctrl are written ctrl+GENE4."""
    folder = tmp_path_factory.mktemp("twice")
    data = tiny.screen(n_cells=600, n_genes=N_GENES)
    names = data.obs["condition"].astype(str)
    names.iloc[np.flatnonzero(names == "GENE4+ctrl")[::2]] = "ctrl+GENE4"
    data.obs["condition"] = names
    return folder, make_screen(folder, data)


def test_reference_scores_each_name_and_corrected_the_perturbation(twice, screen):
    folder, made = twice
    assert len(made.test_conditions) == 5
    path = write(made, folder / "p.h5ad", lambda c: {"mean": np.asarray(made.controls().mean(axis=0)).ravel() + 0.01})
    table = scored(path, folder / "truth.h5ad")
    assert value(table, "n_conditions", profile="reference")["value"] == 5
    assert value(table, "n_conditions", profile="corrected")["value"] == 4
    names = set(table.loc[(table["profile"] == "corrected") & (table["condition"] != ""), "condition"])
    assert "GENE4+ctrl" in names and "ctrl+GENE4" not in names
    truth = Truth.read(folder / "truth.h5ad")
    (pooled,) = np.flatnonzero(truth.role == "pooled")
    rows = [r for r in range(len(made.conditions)) if targets(made.conditions[r]) == {"GENE4"}]
    assert truth.n_cells[pooled] == len(rows)
    assert np.allclose(truth.means[pooled], made.expression(np.asarray(rows)).toarray().mean(axis=0), atol=1e-6)


def test_a_prediction_serves_both_orders(twice, tmp_path):
    folder, made = twice
    frame = pd.DataFrame(
        [np.asarray(made.controls().mean(axis=0)).ravel() + 0.01], index=["GENE4"], columns=list(made.symbols)
    )
    frame.to_csv(tmp_path / "mine.csv")
    predict_files("precomputed_responses", folder / "split.h5ad", tmp_path / "p.h5ad", weights=tmp_path / "mine.csv")
    prediction = Prediction.read(tmp_path / "p.h5ad")
    there = set(prediction.conditions[prediction.reasons == ""])
    assert there == {"GENE4+ctrl", "ctrl+GENE4"}
    table = scored(tmp_path / "p.h5ad", folder / "truth.h5ad")
    assert "perhaps from controls that are withheld" in value(table, "mse")["reason"]
    assert "withheld" not in value(table, "mse", profile="reference")["reason"]
    options = {"without_withheld": True}
    files = {"weights": tmp_path / "mine.csv", "options": options}
    predict_files("precomputed_responses", folder / "split.h5ad", tmp_path / "p.h5ad", **files)
    assert "withheld" not in value(scored(tmp_path / "p.h5ad", folder / "truth.h5ad"), "mse")["reason"]


def test_a_name_that_is_not_predicted_takes_the_same_perturbations_prediction(twice, tmp_path):
    folder, made = twice
    mean = np.asarray(made.controls().mean(axis=0)).ravel() + 0.01

    def response(condition):
        return {"reason": "not this way round"} if condition == "GENE4+ctrl" else {"mean": mean}

    table = scored(write(made, tmp_path / "p.h5ad", response), folder / "truth.h5ad")
    assert value(table, "n_unpredicted", profile="reference")["value"] == 0
    assert value(table, "n_unpredicted", profile="corrected")["value"] == 0
    path = write(made, tmp_path / "none.h5ad", lambda c: {"reason": f"not {c}"} if "GENE4" in c else {"mean": mean})
    table = scored(path, folder / "truth.h5ad", profiles=["reference"])
    for condition in ("GENE4+ctrl", "ctrl+GENE4"):
        assert value(table, "mse", "all/unseen_single", "reference", condition)["reason"] == f"not {condition}"


def test_the_ceilings_halves_do_not_overlap_where_names_are_pooled(twice):
    _, made = twice
    both = np.sort(np.concatenate([made.rows_of("GENE4+ctrl"), made.rows_of("ctrl+GENE4")]))
    assert not set(made.halves(made.rows_of("GENE4+ctrl"))[0]) & set(made.halves(both)[1])


# --- what can be missing ---------------------------------------------------------------------------------------------


def test_a_gene_that_the_panel_lacks(tmp_path):
    data = tiny.screen(n_cells=600, n_genes=N_GENES)
    data = data[:, [gene != "GENE4" for gene in data.var["feature_name"]]].copy()
    made = make_screen(tmp_path, data)
    predict_files("linear_responses", tmp_path / "split.h5ad", tmp_path / "p.h5ad")
    table = scored(tmp_path / "p.h5ad", tmp_path / "truth.h5ad")
    row = value(table, "mse", "all/unseen_single", condition="GENE4+ctrl")
    assert row["status"] == "not_applicable" and row["reason"] == "the screen does not measure GENE4"
    assert value(table, "n_unpredicted")["value"] == 2 and len(made.test_conditions) == 4


def test_a_model_that_can_predict_nothing_is_not_applicable(tmp_path):
    data = tiny.screen(n_cells=600, n_genes=N_GENES)
    data = data[:, [gene not in ("GENE0", "GENE1", "GENE2") for gene in data.var["feature_name"]]].copy()
    make_screen(tmp_path, data)
    predict_files("linear_responses", tmp_path / "split.h5ad", tmp_path / "p.h5ad")
    table = scored(tmp_path / "p.h5ad", tmp_path / "truth.h5ad")
    row = value(table, "mse", "all", "reference")
    assert row["status"] == "not_applicable" and row["reason"].startswith("1 of the training conditions perturb genes")
    assert value(table, "n_conditions")["value"] == 0


def test_a_condition_without_cells(tmp_path):
    listed = ["GENE2+GENE0", "GENE7"]
    make_screen(tmp_path, tiny.screen(n_cells=600, n_genes=N_GENES), partition="", test_conditions=listed)
    predict_files("no_change", tmp_path / "split.h5ad", tmp_path / "p.h5ad")
    table = scored(tmp_path / "p.h5ad", tmp_path / "truth.h5ad")
    row = value(table, "mse", "all/unseen_single", condition="GENE7+ctrl")
    assert row["status"] == "not_applicable" and row["reason"] == "no cell of the screen has this condition"
    assert value(table, "n_unpredicted", "all/unseen_single")["value"] == 1
    row = value(table, "discrimination_l2")
    assert row["status"] == "not_applicable" and "no other condition in its stratum" in row["reason"]


def test_a_condition_of_one_cell_has_no_ceiling_whoever_says_so(tmp_path):
    """Its one cell may fall into either half: without the model's word the reason would be that there is no cell."""
    data = tiny.screen(n_cells=600, n_genes=N_GENES)
    rows = np.flatnonzero(data.obs["condition"] == "GENE4+ctrl")
    for kept in rows[:4]:
        part = data[np.setdiff1d(np.arange(data.n_obs), np.setdiff1d(rows, kept))].copy()
        make_screen(tmp_path, part)
        predict_files("ceiling", tmp_path / "split.h5ad", tmp_path / "p.h5ad")
        table = scored(tmp_path / "p.h5ad", tmp_path / "truth.h5ad")
        row = value(table, "mse", "all/unseen_single", "reference", condition="GENE4+ctrl")
        assert row["status"] == "not_applicable" and row["reason"] == "1 cells cannot be halved"


def test_what_is_not_predicted_does_not_change(screen, folder):
    """A model may predict few genes: profile reference scores these alone, corrected takes the others as unchanged."""
    assert (screen.controls()[:, 10:13].nnz) == 0
    few = screen.genes[:30]
    path = write(screen, folder / "few.h5ad", lambda c: {"cells": predicted_cells(screen, c)[:, :30]}, genes=few)
    table = scored(path, folder / "truth.h5ad")
    row = value(table, "n_genes")
    assert row["value"] == 150 and row["reason"] == "120 genes of the screen are not predicted"
    assert value(table, "n_genes_unpredicted")["value"] == 120
    assert (table.loc[table["metric"] == "mse", "status"] == "ok").all()
    # fewer genes than 100: all of them are the top 100
    of_few = [value(table, "mse", genes, "reference")["value"] for genes in ("top100_de", "all")]
    assert of_few[0] == pytest.approx(of_few[1])
    unchanged = np.asarray(screen.without_withheld().controls().mean(axis=0, dtype=np.float64)).ravel()

    def whole(condition):
        mean = unchanged.copy()
        mean[:30] = predicted_cells(screen, condition)[:, :30].mean(axis=0, dtype=np.float64)
        return {"mean": mean}

    filled = scored(write(screen, folder / "filled.h5ad", whole), folder / "truth.h5ad")
    for metric in ("mse", "r2_delta", "pearson_delta", "pearson_specific", "discrimination_l2", "de_direction"):
        subset = "de" if metric == "de_direction" else "all"
        assert value(table, metric, subset)["value"] == pytest.approx(value(filled, metric, subset)["value"], abs=1e-9)
    cells = scored(
        write(screen, folder / "cells.h5ad", lambda c: {"cells": predicted_cells(screen, c)}), folder / "truth.h5ad"
    )
    for metric in ("r2_delta", "pearson_delta", "jaccard", "de_auprc", "de_recall"):
        subset = "top20_de" if metric == "jaccard" else "all"
        assert value(table, metric, subset)["value"] < value(cells, metric, subset)["value"], metric


def test_where_only_silent_genes_are_predicted_nothing_is_told_apart(screen, folder, tmp_path):
    silent = screen.genes[10:13]
    path = write(screen, tmp_path / "p.h5ad", lambda c: {"mean": np.array([0.1, 0.2, 0.3])}, genes=silent)
    table = scored(path, folder / "truth.h5ad")
    assert value(table, "discrimination_l2")["value"] == 0.5


@pytest.mark.parametrize("scale", [np.expm1, lambda x: x / np.log(2), lambda x: x - x.mean(), lambda x: x * 0])
def test_predictions_on_another_scale_are_told_and_not_scored(screen, folder, tmp_path, scale):
    control = np.asarray(screen.controls().mean(axis=0)).ravel()
    path = write(screen, tmp_path / "p.h5ad", lambda c: {"mean": scale(control)})
    table = scored(path, folder / "truth.h5ad")
    assert table["status"].tolist() == ["not_applicable"] * 2 and set(table["profile"]) == {"reference", "corrected"}
    assert table["reason"].str.contains("the predictions are on another scale").all()


def test_files_that_do_not_belong_together(screen, folder, tmp_path):
    path = write(screen, tmp_path / "p.h5ad", lambda c: {"mean": np.zeros(N_GENES)}, split="other")
    with pytest.raises(
        ContractError, match="predictions of tiny_screen/other cannot be scored against tiny_screen/k562"
    ):
        scored(path, folder / "truth.h5ad")
    with pytest.raises(ContractError, match="not a prediction of cellgauge"):
        scored(folder / "split.h5ad", folder / "truth.h5ad")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mean": np.zeros(3)}, r"has shape \(3,\), not \(150,\)"),
        ({"cells": np.zeros((0, N_GENES))}, "has shape"),
        ({"mean": np.full(N_GENES, np.nan)}, "not finite"),
    ],
)
def test_what_a_response_must_be(screen, tmp_path, given, words):
    with pytest.raises(ContractError, match=words):
        write(screen, tmp_path / "p.h5ad", lambda c: given)


def test_what_columns_and_conditions_must_be(screen, tmp_path):
    with pytest.raises(ContractError, match="1 of 2 genes"):
        Reducer(screen, ["ENSG00000000001", "nobody"])
    with pytest.raises(ContractError, match="more than one column"):
        Reducer(screen, [screen.genes[0]] * 2)
    reducer = Reducer(screen, screen.genes)
    with pytest.raises(ContractError, match="no test condition"):
        reducer.add(CONTROL, mean=np.zeros(N_GENES))
    reducer.write(tmp_path / "p.h5ad", {})
    assert set(Prediction.read(tmp_path / "p.h5ad").reasons) == {"the model gave no prediction for this condition"}


# --- plain functions -------------------------------------------------------------------------------------------------


def test_energy_distance_is_the_mean_of_pairwise_distances():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(12, 3)), generator.normal(1, 1, size=(9, 3))

    def mean(a, b):
        pairs = [np.linalg.norm(u - v) for i, u in enumerate(a) for j, v in enumerate(b) if a is not b or i != j]
        return np.mean(pairs)

    assert metrics.energy_distance(x, y) == pytest.approx(2 * mean(x, y) - mean(x, x) - mean(y, y))
    draws = [metrics.energy_distance(*generator.normal(size=(2, 20, 3))) for _ in range(200)]
    assert abs(np.mean(draws)) < 0.01 and np.isnan(metrics.energy_distance(x[:1], y))


def test_share_farther_counts_ties_as_halves():
    assert metrics.share_farther(1.0, np.array([0.5, 1.0, 2.0, 3.0])) == 0.625


def test_leading_breaks_ties_by_name():
    scores, names = np.array([1.0, 2.0, 2.0, 0.0]), np.array([0, 3, 1, 2])
    assert metrics.leading(scores, 2, names).tolist() == [2, 1]
    assert metrics.leading(scores, 9, names).tolist() == [2, 1, 0, 3]


def test_distances():
    others = np.array([[3.0, 4.0], [0.0, 0.0]])
    assert metrics.distances(np.zeros(2), others, "l1").tolist() == [7, 0]
    assert metrics.distances(np.zeros(2), others, "l2").tolist() == [5, 0]
    assert metrics.distances(np.array([3.0, 4.0]), others, "cosine")[0] == pytest.approx(0)
    assert np.isnan(metrics.distances(np.zeros(2), others, "cosine")).all()
