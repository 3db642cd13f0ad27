"""Conditions, what is held out of a screen, and the splits of screens."""

import json
from pathlib import Path
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
import tiny
import yaml
from made_up import inputs_of
from scipy.sparse import csr_matrix

from cellgauge.core.errors import CellgaugeError, ContractError
from cellgauge.data.make_split import make_split
from cellgauge.files.prediction import Prediction
from cellgauge.files.split import log_normalized
from cellgauge.predictors.base import predict_files
from cellgauge.screens.screen import CONTROL, Screen, simulation_split, strata, targets
from cellgauge.tasks.run import score_files

GEARS = Path(__file__).parents[2] / "golden/gears_splits"
CONFIG = Path(__file__).parents[3] / "config"
ADAMSON_TEST = """CREB1 BHLHE40 IER3IP1 DAD1 AMIGO3 DARS SYVN1 GMPPB CAD GNPNAT1 DERL2 FARSB TARS TTI1 TIMM44 PTDSS1 DDOST
CHERP COPZ1 DNAJC19 XRN1 SPCS2"""


def conditions(name):
    return (GEARS / f"{name}_conditions.txt").read_text().split()


def test_the_simulation_split_is_that_of_the_published_runs():
    partition, held_out = simulation_split(conditions("adamson"))
    assert set(held_out) == {f"{gene}+ctrl" for gene in ADAMSON_TEST.split()}
    assert set(held_out.values()) == {"unseen_single"} and len(partition) == 86
    _, held_out = simulation_split(conditions("norman"))
    counts = pd.Series(held_out).value_counts().to_dict()
    assert counts == {"unseen_single": 37, "combo_seen1": 52, "combo_seen2": 18, "combo_seen0": 9}


def test_the_simulation_split_depends_on_the_set_of_conditions_alone():
    names = conditions("norman")
    assert simulation_split(names[::-1])[0] == simulation_split(names)[0]
    assert simulation_split(names, seed=2)[0] != simulation_split(names)[0]


def test_strata_can_be_told_from_what_is_held_out():
    partition, held_out = simulation_split(conditions("norman"))
    assert strata(partition) == held_out


def test_real_cells_of_the_benchmarks_file_are_partitioned_as_we_partition(shared_data):
    obs = anndata.read_h5ad(shared_data("czb_norman_schema_50x50/norman_subset.h5ad")).obs.astype(str)
    ours, _ = simulation_split(conditions("norman"))
    theirs = obs[obs["condition"] != "ctrl"]
    assert {ours[condition] for condition in theirs["condition"]} == {"train", "val", "test"}
    assert all(ours[row.condition] == row.split for row in theirs.itertuples())


def test_conditions_are_sets_of_genes():
    assert targets("A+B") == targets("B+A") and targets("ctrl+A") == targets("A+ctrl") == {"A"}
    assert targets(CONTROL) == frozenset()


# --- splits of screens -----------------------------------------------------------------------------------------------


@pytest.fixture
def screen(tmp_path):
    def make(data=None, **changes):
        (tiny.screen() if data is None else data).write_h5ad(tmp_path / "published.h5ad")
        make_split(tmp_path / "published.h5ad", tmp_path / "split.h5ad", tiny.screen_options(**changes))
        return Screen.open(tmp_path / "split.h5ad")

    return make


def test_contract(screen):
    data = tiny.screen()
    made = screen(data)
    assert made.partition == {
        c: p for c, p in zip(data.obs["condition"], data.obs["split"], strict=True) if c != "ctrl"
    }
    assert made.strata["GENE4+ctrl"] == "unseen_single" and made.strata["GENE2+GENE0"] == "combo_seen2"
    assert (made.expression() != data.X).nnz == 0
    assert (made.split.counts() != data.layers["counts"]).nnz == 0
    assert (made.controls() != data.X[(data.obs["condition"] == "ctrl").to_numpy()]).nnz == 0
    assert made.test_conditions == sorted(made.strata) and "ctrl" not in made.training_conditions
    means = made.means(["ctrl", "GENE1+ctrl", "not there"])
    rows = (data.obs["condition"] == "GENE1+ctrl").to_numpy()
    assert np.allclose(means[1], data.X[rows].toarray().mean(axis=0)) and np.isnan(means[2]).all()
    rows = np.flatnonzero(rows)
    assert (made.expression(rows) != data.X[rows]).nnz == 0


def test_one_test_cell_makes_a_test_condition_in_whichever_order_it_is_written(screen):
    data = tiny.screen()
    first = np.flatnonzero(data.obs["condition"] == "GENE1+ctrl")
    data.obs["condition"] = data.obs["condition"].astype(str)
    data.obs["split"] = data.obs["split"].astype(str)
    data.obs.iloc[first[:5], data.obs.columns.get_loc("condition")] = "ctrl+GENE1"
    data.obs.iloc[first[:1], data.obs.columns.get_loc("split")] = "test"
    made = screen(data)
    assert made.partition["GENE1+ctrl"] == made.partition["ctrl+GENE1"] == "test"


def test_without_a_column_conditions_are_held_out_as_gears_does(screen):
    made = screen(partition="")
    assert made.partition == simulation_split(list(made.partition))[0]
    assert screen(partition="", partition_seed=5).partition == simulation_split(list(made.partition), seed=5)[0]


def test_listed_test_conditions_match_as_sets_and_need_no_cells(screen):
    made = screen(partition="", test_conditions=["GENE1+GENE0", "GENE9", "GENE8+GENE0"])
    assert made.test_conditions == ["GENE0+GENE1", "GENE8+GENE0", "GENE9+ctrl"]
    assert made.strata == {"GENE0+GENE1": "combo_seen2", "GENE9+ctrl": "unseen_single", "GENE8+GENE0": "combo_seen1"}
    assert not len(made.rows_of("GENE9+ctrl"))


def test_expression_is_computed_where_the_data_have_none(screen):
    made = screen(expression="")
    counts = made.split.counts().toarray().astype(float)
    totals = counts.sum(axis=1, keepdims=True)
    assert np.allclose(made.expression().toarray(), np.log1p(counts / totals * np.median(totals)), atol=1e-6)


def test_log_normalized_equals_scanpy():
    import scanpy

    counts = csr_matrix(np.random.default_rng(0).poisson(0.7, (30, 20)).astype(np.float32))
    data = anndata.AnnData(counts.copy())
    scanpy.pp.normalize_total(data)
    scanpy.pp.log1p(data)
    assert np.abs(log_normalized(counts) - data.X).max() < 1e-6


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"control": "DMSO"}, "no cell has the control condition 'DMSO' (found: GENE0+GENE1, "),
        ({"partition": "spilt"}, "no column 'spilt' for partition"),
        ({"partition": "batch_of"}, "column 'batch_of' must hold train, val, test, not 0, 1"),
        ({"expression": "layers/counts"}, "holds whole numbers only, so it is not log-normalized"),
        ({"expression": "layers/lognorm"}, "no matrix 'layers/lognorm' for expression"),
    ],
)
def test_faults(screen, changes, words):
    with pytest.raises(CellgaugeError) as error:
        screen(**changes)
    assert words in str(error.value)


def test_a_split_of_cell_types_is_no_screen(tmp_path):
    with pytest.raises(ContractError, match="not a perturbation screen"):
        Screen.open(tiny.split_file(tmp_path))


def test_halves_do_not_depend_on_the_order_or_on_the_other_cells(screen):
    made = screen()
    rows = made.rows_of(CONTROL)
    first, second = made.halves(rows)
    assert sorted([*first, *second]) == rows.tolist() and min(len(first), len(second)) > len(rows) / 4
    backwards = screen(tiny.screen()[::-1].copy())
    ids = set(made.split.cells[first])
    assert {backwards.split.cells[row] for row in backwards.halves(backwards.rows_of(CONTROL))[0]} == ids
    assert set(made.halves(rows[:20])[0]) == set(first) & set(rows[:20])


def test_a_sample_of_the_benchmarks_file_goes_through_with_the_catalogues_options(shared_data, tmp_path):
    source = shared_data("czb_norman_schema_50x50/norman_subset.h5ad")
    config = {name: yaml.safe_load((CONFIG / f"{name}.yaml").read_text()) for name in ("models", "datasets", "tasks")}
    config = {**config["models"], **config["datasets"], **config["tasks"], "run": {"datasets": ["norman"], "tasks": []}}
    options = json.loads(inputs_of(config).split_options(SimpleNamespace(dataset="norman", split="k562")))
    make_split(source, tmp_path / "split.h5ad", options)
    made, data = Screen.open(tmp_path / "split.h5ad"), anndata.read_h5ad(source)
    assert (made.split.counts().toarray() == data.layers["counts"]).all() and made.genes[0].startswith("ENSG")
    assert np.allclose(made.expression().toarray(), data.X.toarray())
    tested = set(data.obs.loc[data.obs["split"] == "test", "condition"].astype(str))
    assert set(made.test_conditions) == tested
    predict_files("no_change", tmp_path / "split.h5ad", tmp_path / "p.h5ad")
    rows = list(score_files("perturbation", [tmp_path / "p.h5ad"], [tmp_path / "split.h5ad"]))
    assert {row.condition for row in rows if row.status == "ok" and row.profile == "reference"} == {"", *tested}


# --- planting --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(baron, tmp_path_factory):
    path = tmp_path_factory.mktemp("planted") / "split.h5ad"
    entry = yaml.safe_load((CONFIG / "datasets.yaml").read_text())["datasets"]["planted_pancreas"]
    options = {"organism": "human", "label": "cell_ontology_class", "symbol": "index", "modality": "perturbation"}
    make_split(baron.human, path, {**options, "planted": entry["planted"], "dataset": "planted", "split": "human"})
    return Screen.open(path)


def test_planted_effects_are_those_that_are_told(planted):
    data = planted.split.to_anndata()
    names = json.loads(data.uns["planted_conditions"])
    assert planted.semi_synthetic and set(names) == set(planted.partition)
    told = dict(zip(names, data.varm["log2_fold_change"].T, strict=True))
    changes = planted.means(names) - planted.means([CONTROL])
    agree = [np.corrcoef(change, told[name])[0, 1] for name, change in zip(names, changes, strict=True)]
    others = [np.corrcoef(change, told[name])[0, 1] for name, change in zip(names[1:], changes, strict=False)]
    assert np.median(agree) > 0.5 > 0.25 > np.median(others)  # 72 cells of many types each: the noise is real too
    a, b = sorted(targets(next(name for name in names if "ctrl" not in name)))
    pair = next(name for name in names if targets(name) == {a, b})
    assert np.allclose(told[pair], told[f"{a}+ctrl"] + told[f"{b}+ctrl"], atol=1e-5)


def test_planting_takes_counts_away_and_deals_cell_types_evenly(planted, baron):
    data = planted.split.to_anndata()
    before = anndata.read_h5ad(baron.human)[data.obs_names, data.var["feature_name"].astype(str).to_numpy()].X
    assert ((before - data.X).data >= 0).all() and data.X.sum() < before.sum()
    shares = pd.crosstab(data.obs["label"], data.obs["cell_type"], normalize="index")["type B pancreatic cell"]
    assert shares.max() - shares.min() < 0.06
    assert set(planted.strata.values()) == {"unseen_single", "combo_seen0", "combo_seen1", "combo_seen2"}


def test_additive_recovers_what_was_planted_in_pairs_better_than_no_change(planted, tmp_path):
    data = planted.split.to_anndata()
    told = dict(zip(json.loads(data.uns["planted_conditions"]), data.varm["log2_fold_change"].T, strict=True))
    tables = {}
    for adapter in ("no_change", "additive"):
        predict_files(adapter, planted.split.path, tmp_path / f"{adapter}.h5ad")
        rows = score_files("perturbation", [tmp_path / f"{adapter}.h5ad"], [planted.split.path])
        tables[adapter] = pd.DataFrame([vars(row) for row in rows])
    prediction = Prediction.read(tmp_path / "additive.h5ad")
    control = planted.means([CONTROL])[0]
    pairs = [condition for condition, stratum in planted.strata.items() if stratum == "combo_seen2"]
    for condition in pairs:
        change = prediction.means[list(prediction.conditions).index(condition)] - control
        assert np.corrcoef(change, told[condition])[0, 1] > 0.6
    for profile in ("reference", "corrected"):
        mse = {}
        for adapter, table in tables.items():
            chosen = table[(table["metric"] == "mse") & (table["profile"] == profile) & (table["condition"] == "")]
            mse[adapter] = chosen.set_index("subset")["value"].astype(float)
        for genes in ("all", "top20_de", "top100_de"):
            assert mse["additive"][f"{genes}/combo_seen2"] < 0.5 * mse["no_change"][f"{genes}/combo_seen2"]


def test_planting_needs_genes(tmp_path):
    tiny.published().write_h5ad(tmp_path / "p.h5ad")
    with pytest.raises(CellgaugeError, match="1000 genes are to be kept, 60 are expressed"):
        make_split(tmp_path / "p.h5ad", tmp_path / "s.h5ad", tiny.options(modality="perturbation", planted={}))
