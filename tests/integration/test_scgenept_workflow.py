"""The catalogue's six scGenePT models beside the baselines on the planted screen: from S3 to the tables."""

import anndata
import made_checkpoints
import pytest
import yaml
from project import ROOT, make_project

pytestmark = [
    pytest.mark.xdist_group("workflow"),
    pytest.mark.filterwarnings("ignore::anndata.OldFormatWarning"),  # the Baron file is as old as its data
]

CATALOGUE = yaml.safe_load((ROOT / "config/models.yaml").read_text(encoding="utf-8"))["models"]
TEXTS = {"scgenept_go_all": "gopt_encoder_f", "scgenept_go_c": "gopt_encoder_c", "scgenept_ncbi": "genept_encoder"}
SCGENEPT = [name for name, entry in CATALOGUE.items() if entry["adapter"] == "scgenept"]
LEVEL = 2.8  # of the screen's ten best expressed genes: predictions far from it are told to be on another scale
BASELINES = ["no_change", "training_mean", "matching_mean", "additive", "linear_responses", "ceiling"]


@pytest.fixture(scope="module")
def table(tmp_path_factory, baron, s3_server):
    """The scores of a run whose checkpoints are tiny, and lie where the catalogue says that the real ones do."""
    folder = tmp_path_factory.mktemp("scgenept")
    symbols = anndata.read_h5ad(baron.human, backed="r").var_names.tolist()
    for seed, name in enumerate(SCGENEPT):
        text = next(text for start, text in TEXTS.items() if name.startswith(start))
        made = made_checkpoints.scgenept(folder / name, symbols, text, seed, level=LEVEL)
        for file, url in CATALOGUE[name]["weights"].items():
            bucket, _, key = url.removeprefix("s3://").partition("/")
            (path,) = made.glob("*.pt") if file.endswith(".pt") else [made / file]
            s3_server.put(bucket, key, path.read_bytes())
    tuned = {"splits": ["planted_pancreas"], "params": {"controls": 8, "device": "cpu"}}
    config = {
        "run": {"models": [*SCGENEPT, *BASELINES], "datasets": ["planted_pancreas"], "tasks": ["perturbation"]},
        "models": dict.fromkeys(SCGENEPT, tuned),
        "datasets": {"planted_pancreas": {"splits": {"human": str(baron.human)}}},
    }
    project = make_project(folder / "project", config)
    project.run(AWS_ENDPOINT_URL=s3_server.url)
    return project.table()


def test_there_are_six():
    assert len(SCGENEPT) == 6


def test_all_models_are_scored_in_both_profiles(table):
    scored = table[(table["status"] == "ok") & (table["metric"] == "n_conditions")]
    assert set(scored["model"]) == {*SCGENEPT, *BASELINES}
    for model, rows in table.groupby("model"):
        assert set(rows.loc[rows["status"] == "ok", "profile"]) == {"reference", "corrected"}, model


def test_what_is_not_scored_has_a_reason(table):
    assert table.loc[table["status"] != "ok", "reason"].str.len().gt(0).all()


def test_the_planted_truth_is_recovered_by_adding_up_and_not_by_an_untrained_network(table):
    rows = table[(table["metric"] == "mse") & (table["subset"] == "top20_de/combo_seen2")]
    mse = rows[rows["profile"] == "corrected"].set_index("model")["value"].astype(float)
    assert mse["ceiling"] < mse["additive"] < mse["no_change"]
    assert all(mse["additive"] < mse[model] for model in SCGENEPT)
