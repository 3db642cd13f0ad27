"""A run whose split is embedded in shards: its tables are those of a run with one job, and an edit makes all shards again."""

from __future__ import annotations

import shutil
from copy import deepcopy

import made_checkpoints
import pandas as pd
import pytest
import tiny
from held import held
from project import CONFIG, TABLES, Project, make_project

pytestmark = pytest.mark.xdist_group("workflow")

N_CELLS = 2500
EMBEDDING = "results/embeddings/scgpt_tiny/many/cells.h5ad"
TIMED = ("runtime.csv", "runtime.parquet")
RUN = {"models": ["scgpt_tiny", "random"], "datasets": ["many"], "tasks": ["clustering"], "published": []}


@pytest.fixture(scope="module")
def projects(tmp_path_factory):
    """A project whose run embedded 2,500 cells in one job, and one with `shard_cells: 2048`; both have run."""
    whole = make_project(tmp_path_factory.mktemp("shards") / "whole")
    config = deepcopy(CONFIG)
    config["run"] = {**RUN, "profiles": ["corrected"]}
    made_checkpoints.scgpt(whole.folder / "weights", made_checkpoints.HUMAN)
    config["models"]["scgpt_tiny"] = {
        "adapter": "scgpt",
        "env": "scgpt",
        "organisms": ["human"],
        "params": {"max_length": 20, "device": "cpu"},
        "weights": "weights",
    }
    tiny.published(n_cells=N_CELLS).write_h5ad(whole.folder / "published/many.h5ad")
    split = {"organism": "human", "url": "published/many.h5ad", "n_cells": N_CELLS}
    config["datasets"]["many"] = {
        "modality": "expression",
        "columns": config["datasets"]["tiny"]["columns"],
        "splits": {"cells": split},
    }
    config["tasks"] = {"clustering": {"params": {"n_seeds": 2, "resolutions": [0.5, 1.0]}}}
    whole.configure(config)
    divided = Project(whole.folder.with_name("divided"))
    shutil.copytree(whole.folder, divided.folder)
    config["run"]["shard_cells"] = 2048
    divided.configure(config)
    whole.run(*TABLES)
    said = divided.run("--", EMBEDDING, real=True).stdout  # as users run it, and the rest faster
    divided.run(*TABLES)
    return whole, divided, said


def test_tables_and_embedding_are_those_of_one_job(projects):
    whole, divided, said = projects
    assert "Join 2 shards of many/cells with scgpt_tiny" in said
    assert held(divided.folder / EMBEDDING) == held(whole.folder / EMBEDDING)
    tables = sorted(path.name for path in (whole.folder / "results/tables").iterdir())
    assert {"scores.csv", "summary.csv"} <= {*tables}
    for name in tables:
        if name not in TIMED:
            both = [project.folder / "results/tables" / name for project in (whole, divided)]
            if name == "scores.parquet":  # its metadata hold the configuration, in which shard_cells differs
                pd.testing.assert_frame_equal(*map(pd.read_parquet, both))
            else:
                assert both[0].read_bytes() == both[1].read_bytes(), name


def test_costs_of_shards_are_those_of_their_embedding(projects):
    whole, divided, _ = projects
    both = [project.table("runtime") for project in (whole, divided)]
    keys = ["stage", "model", "dataset", "split"]
    assert both[0][keys].equals(both[1][keys])
    (row,) = both[1][(both[1]["stage"] == "embed") & (both[1]["model"] == "scgpt_tiny")].to_dict("records")
    assert float(row["cpu_seconds"]) > 0 and float(row["max_rss_mb"]) > 0 and float(row["seconds"]) > 0


def test_shards_are_removed_and_missed_by_nobody(projects):
    _, divided, _ = projects
    assert not list((divided.folder / "results/shards").rglob("*.h5ad"))
    logs = sorted(path.name for path in (divided.folder / "logs/embed_shard/scgpt_tiny/many/cells").iterdir())
    assert logs == ["1of2.log", "2of2.log"]
    assert not divided.planned(*TABLES)


def test_an_edit_of_the_models_options_makes_all_shards_again(projects):
    _, divided, _ = projects
    config = divided.config
    config["models"]["scgpt_tiny"]["params"]["max_length"] = 19
    divided.configure(config)
    planned = divided.planned(*TABLES)
    config["models"]["scgpt_tiny"]["params"]["max_length"] = 20
    divided.configure(config)
    embedded = [path for path in planned if path.startswith(("results/embeddings/", "results/shards/"))]
    shards = [f"results/shards/scgpt_tiny/many/cells/{number}of2.h5ad" for number in (1, 2)]
    assert sorted(embedded) == [EMBEDDING, *shards]
