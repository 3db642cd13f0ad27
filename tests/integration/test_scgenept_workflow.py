"""Adamson, Norman and the planted screen, as the catalogue has them: from S3 to tables and report, with all six scGenePT."""

import pytest
import yaml
from made_up import inputs_of
from project import ROOT, make_project
from served_catalogue import SCREENS, serve

from cellgauge.plan import config as settings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::anndata.OldFormatWarning"),  # the Baron file is as old as its data
]

MODELS, DATASETS = (
    yaml.safe_load((ROOT / f"config/{name}.yaml").read_text(encoding="utf-8"))[name] for name in ("models", "datasets")
)
SCGENEPT = [name for name, entry in MODELS.items() if entry["adapter"] == "scgenept"]
BASELINES = ["no_change", "training_mean", "matching_mean", "additive", "linear_responses", "ceiling"]
TUNED_ON = {name: MODELS[name]["splits"][0] for name in SCGENEPT}

STRATA = {
    "adamson": {"unseen_single"},
    "norman": {"unseen_single", "combo_seen0", "combo_seen1", "combo_seen2"},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory, baron):
    """A run whose screens and checkpoints are tiny, and lie where the catalogue says that the real ones do."""
    folder = tmp_path_factory.mktemp("scgenept")
    config = {
        "run": {
            "models": [*SCGENEPT, *BASELINES],
            "datasets": [*SCREENS, "planted_pancreas"],
            "tasks": ["perturbation"],
        },
        "models": {name: {"params": {"controls": 8, "device": "cpu"}} for name in SCGENEPT},
        "datasets": {"planted_pancreas": {"splits": {"human": str(baron.human)}}},
    }
    project = make_project(folder / "project", config)
    inputs = inputs_of(settings.read([project.folder / "tiny.yaml"]))
    with serve(inputs, folder, folder / "packages") as served:
        project.run(**served.environment)
    return project


@pytest.fixture(scope="module")
def table(project):
    return project.table()


def test_there_are_six():
    assert len(SCGENEPT) == 6 and sorted(TUNED_ON.values()) == ["adamson"] * 3 + ["norman"] * 3


def test_all_models_are_scored_in_both_profiles(table):
    scored = table[(table["status"] == "ok") & (table["metric"] == "n_conditions")]
    for dataset in SCREENS:
        rows = scored[scored["dataset"] == dataset]
        tuned = {name for name in SCGENEPT if TUNED_ON[name] == dataset}
        assert set(rows["model"]) == {*tuned, *BASELINES}
        assert {(model, profile) for model, profile in zip(rows["model"], rows["profile"], strict=True)} == {
            (model, profile) for model in {*tuned, *BASELINES} for profile in ("reference", "corrected")
        }
    assert set(scored.loc[scored["dataset"] == "planted_pancreas", "model"]) == set(BASELINES)


def test_what_is_not_scored_has_a_reason(table):
    assert table.loc[table["status"] != "ok", "reason"].str.len().gt(0).all()
    elsewhere = table[table["model"].isin(SCGENEPT) & (table["dataset"] != table["model"].map(TUNED_ON))]
    assert set(elsewhere["reason"]) == {"the model is only for adamson", "the model is only for norman"}


def test_every_condition_of_both_screens_has_its_stratum(project):
    conditions = project.table("conditions")
    assert set(conditions["task"]) == {"perturbation"}
    for dataset, parts in SCREENS.items():
        rows = conditions[(conditions["dataset"] == dataset) & (conditions["profile"] == "reference")]
        assert set(rows["condition"]) == {name for name, part in parts.items() if part == "test"}
        assert set(rows["stratum"]) == STRATA[dataset]
    singles = conditions[(conditions["dataset"] == "adamson") & (conditions["model"] == "additive")]
    singles = singles[singles["metric"] != "n_de"]  # counted whatever a model predicts
    assert set(singles["reason"]) == {"the additive model does not apply to single-gene perturbations"}


def test_models_of_both_screens_are_compared_over_conditions(project):
    ranks, intervals = project.table("ranks"), project.table("intervals")
    for dataset in SCREENS:
        tuned = {name for name in SCGENEPT if TUNED_ON[name] == dataset}
        compared = ranks[(ranks["dataset"] == dataset) & (ranks["metric"] == "mse") & (ranks["subset"] == "all")]
        assert tuned < set(compared["model"]) and set(compared["n_units"]) == {7}
        assert set(intervals.loc[intervals["dataset"] == dataset, "resampled"]) == {"conditions"}


def test_the_report_has_both_screens_and_every_model(project):
    page = (project.folder / "results/report.html").read_text(encoding="utf-8")
    section = page.split('id="task-perturbation"')[1].split("</section>")[0]
    assert all(f">{MODELS[name]['title']}" in section for name in [*SCGENEPT, *BASELINES])
    headings = {}
    for figure in section.split("<figure")[1:]:
        (dataset,) = [name for name in [*SCREENS, "planted_pancreas"] if f'data-dataset="{name}"' in figure]
        headings.setdefault(dataset, set()).update(
            name
            for name in ("all conditions", "single genes, unseen", "pairs, both genes seen")
            if f">{name}" in figure
        )
    assert headings["adamson"] == {"all conditions"}
    assert headings["norman"] == {"single genes, unseen", "pairs, both genes seen"}


@pytest.mark.parametrize("dataset", ["norman", "planted_pancreas"])
def test_the_planted_truth_is_recovered_by_adding_up_and_not_by_an_untrained_network(table, dataset):
    rows = table[(table["metric"] == "mse") & (table["subset"] == "top20_de/combo_seen2")]
    rows = rows[(rows["profile"] == "corrected") & (rows["dataset"] == dataset) & (rows["status"] == "ok")]
    mse = rows.set_index("model")["value"].astype(float)
    assert mse["ceiling"] < mse["additive"] < mse["no_change"]
    assert all(mse["additive"] < mse[model] for model in SCGENEPT if TUNED_ON[model] == dataset)
