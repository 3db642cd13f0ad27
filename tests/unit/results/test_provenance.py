"""Where the numbers come from: what is recorded, what is not said to everyone, and what is the same when a run is repeated."""

import json
import subprocess
import tomllib

import made_up
import pyarrow.parquet
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cellgauge.core.version import VERSION
from cellgauge.plan import config as settings
from cellgauge.plan.provenance import planned
from cellgauge.results import provenance
from cellgauge.results.provenance import PACKAGES, ROOT, differences, public

RUN = {"models": ["hvg", "random", "mine"], "datasets": ["baron_pancreas"], "tasks": ["clustering"]}
MINE = {"adapter": "precomputed", "path": "/home/somebody/secret/{split}.csv"}


def inputs(**override):
    return made_up.inputs_of(made_up.configuration({"run": RUN, "models": {"mine": MINE}, **override}))


def test_the_version_is_that_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == VERSION
    needed = " ".join([*project["dependencies"], *project["optional-dependencies"]["models"]])
    assert all(name in needed for name in PACKAGES)


def test_the_same_run_twice_is_the_same_but_for_when_and_where(tmp_path):
    config = made_up.few("linear", "pca_joint", "random", "additive")
    folders = [made_up.write_tables(tmp_path / name, config) for name in ("one", "two")]
    files = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert files[0] == files[1]
    about = [provenance.read(folder.parent / "provenance.json") for folder in folders]
    assert provenance.repeatable(about[0]) == provenance.repeatable(about[1])
    inside = json.loads(pyarrow.parquet.read_schema(folders[0] / "scores.parquet").metadata[b"cellgauge"])
    assert inside == provenance.repeatable(about[0]) and "made" not in inside


def test_what_is_recorded():
    about = provenance.record(planned(inputs(results="runs/first")))
    assert list(provenance.faults(about)) == []
    assert about["name"] == "first" and about["seeds"] == [42]
    assert about["differences"]["run.models"] == ["hvg", "random", "mine"]
    assert set(about["code"]) >= {
        "split",
        "tables",
        "embed hvg",
        "embed precomputed",
        "score clustering",
        "neighbors clustering",
    }
    assert about["models"]["random"]["draws"] and not about["models"]["hvg"]["draws"]
    assert about["tasks"]["clustering"]["params"] and about["packages"]["numpy"]
    fetched = {each["url"]: each["sha256"] for each in about["files"]}
    assert any(url.startswith("pypi://came") and len(sum_) == 64 for url, sum_ in fetched.items())
    assert "somebody" not in json.dumps(about) and ".../{split}.csv" in json.dumps(about)
    for text in ("first", VERSION, "run.models", about["config_digest"][:6]):
        assert text in provenance.headline(about)


def test_what_does_not_count_leaves_the_digest_alone():
    one, other = (provenance.record(planned(inputs(results=name)))["config_digest"] for name in ("runs/a", "runs/b"))
    assert one == other
    changed = provenance.record(planned(inputs(models={"mine": MINE, "hvg": {"params": {"n_top_genes": 7}}})))
    assert changed["config_digest"] != one and changed["differences"]["models.hvg.params.n_top_genes"] == 7


def test_the_catalogue_does_not_differ_from_itself():
    config = settings.read()
    assert differences(config, settings.catalogue()) == {}


@given(st.text(alphabet="abcxyz/._-", min_size=1))
def test_no_folder_of_the_machine_is_told(tail):
    for start in ("/home/somebody/", "~/somebody/", "file:///srv/somebody/"):
        assert "somebody" not in public({"path": [start + tail + "/x"]})["path"][0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://me:word@host.org/a.h5ad?X-Signature=1#x", "https://host.org/a.h5ad"),
        ("s3://bucket/key/a.h5ad", "s3://bucket/key/a.h5ad"),
        ("my_data/a.h5ad", "my_data/a.h5ad"),
        ("/data/a.h5ad", ".../a.h5ad"),
        ("one / two", "one / two"),
    ],
)
def test_what_is_said_of_addresses(text, said):
    assert public(text) == said


def git(folder, *words):
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_and_whether_code_was_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path.resolve())
    assert provenance.commit() == {"commit": "unknown", "dirty": None}
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow/a.py").write_text("1")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "mine.yaml").write_text("run: {}")
    (tmp_path / "config").mkdir()
    (tmp_path / "config/mine.yaml").write_text("run: {}")
    assert provenance.commit() == {"commit": head[:9], "dirty": False}
    (tmp_path / "workflow/new_adapter.py").write_text("2")
    assert provenance.commit()["dirty"] is True
    monkeypatch.setattr(
        provenance, "ROOT", (tmp_path / "workflow").resolve()
    )  # a copy in a repository of something else
    assert provenance.commit() == {"commit": "unknown", "dirty": None}


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("../elsewhere", "is not a folder inside the working folder"),
        ("/tmp/x", "is not a folder inside the working folder"),
        ("runs/../..", "is not a folder inside the working folder"),
        ("runs/a b", "is not a folder inside the working folder"),
        ("", "is not a folder inside the working folder"),
        ("results/scores", "is used by all runs"),
        ("resources/x", "is used by all runs"),
    ],
)
def test_a_run_cannot_write_anywhere(folder, words):
    with pytest.raises(settings.ConfigError, match=words):
        settings.check(made_up.configuration({"results": folder}))


def test_a_run_has_a_folder_and_a_name():
    run = inputs(results="runs/2026-11-27", name="Before the move").run
    assert (run.name, run.outputs.report) == ("Before the move", "runs/2026-11-27/report.html")
    assert (inputs().run.name, inputs().run.outputs.tables) == ("results", "results/tables")
