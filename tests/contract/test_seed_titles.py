"""Everything that cz-benchmarks' page of assets lists is found under the name that it has there."""

import json
import re

import made_up
import pandas as pd
import pytest
import yaml
from made_up import inputs_of
from seed_titles import TITLES

from cellgauge.plan import config as settings
from cellgauge.plan.catalogue_page import assets
from cellgauge.plan.manifest import catalogue
from cellgauge.plan.sources import SCRIPTS
from cellgauge.report import render
from cellgauge.results.tables import collect

CONFIG = SCRIPTS.parents[1] / "config"
CATALOGUE = settings.catalogue()
CARDED = {"model": CATALOGUE["models"], "dataset": CATALOGUE["datasets"]}


def plain(text):
    """As the report's search has it: words alone, in lower case."""
    words = re.findall(r"[^\W_]+", text.lower())
    return f" {' '.join(words)} "


def entry_of(kind, key):
    if kind == "metric":
        task, metric = key.split("/")
        return CATALOGUE["tasks"][task]["metrics"][metric]
    return CATALOGUE[f"{kind}s"][key]


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """The tables' folder of a run of the whole catalogue that has no scores yet."""
    names = {kind: list(CATALOGUE[kind]) for kind in ("models", "datasets", "tasks")}
    folder = tmp_path_factory.mktemp("everything") / "tables"
    collect([], folder, catalogue=catalogue(inputs_of(made_up.configuration({"run": names})).grid))
    return folder


@pytest.mark.parametrize(("title", "kind", "key"), TITLES, ids=[title for title, _, _ in TITLES])
def test_the_entry_has_the_title(title, kind, key):
    entry = entry_of(kind, key)
    named = [entry["title"], *entry.get("also_known_as", [])]
    assert any(plain(title) in plain(name) for name in named), named


def test_no_name_elsewhere_means_two_entries_of_a_kind():
    """But for the models that repeat what cz-benchmarks ran, which share the names of the others."""
    for kind in ("models", "datasets", "tasks"):
        names = [
            plain(name)
            for key, entry in CATALOGUE[kind].items()
            if not key.endswith("_reference")
            for name in entry.get("also_known_as", [])
        ]
        assert len(set(names)) == len(names)


def test_tables_and_page_carry_names_cards_and_sizes(everything, tmp_path):
    render(everything, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    text = assets()
    for kind, entries in CARDED.items():
        table = pd.read_csv(everything / f"{kind}s.csv", keep_default_na=False, dtype=str).set_index(kind)
        for key, entry in entries.items():
            assert json.loads(table.loc[key, "also_known_as"] or "[]") == entry.get("also_known_as", [])
            assert table.loc[key, "card"] == entry.get("card", "")
            if "card" in entry:
                assert f'href="{entry["card"]}"' in page and entry["card"] in text
    datasets = pd.read_csv(everything / "datasets.csv", dtype=str).set_index("dataset")
    assert datasets.loc["tabula_sapiens_v2", ["n_cells", "n_donors"]].tolist() == ["548977", "9"]
    assert datasets.loc["baron_pancreas", "n_cells"] == "4028"
    assert "548,977 cells, 9 donors" in page and "548,977 cells, 9 donors" in text
    tasks = pd.read_csv(everything / "tasks.csv", keep_default_na=False)
    assert {name for names in tasks["task_also_known_as"] for name in json.loads(names)} == {
        name for task in CATALOGUE["tasks"].values() for name in task.get("also_known_as", [])
    }


def test_what_the_page_links_to_are_cards_that_its_page_has():
    """Every model and dataset of that page has a card, or its repository as the page links it."""
    for _, kind, key in TITLES:
        if kind in CARDED and entry_of(kind, key).get("kind") != "baseline":
            assert entry_of(kind, key).get("card") or entry_of(kind, key)["url"].endswith("/UCE")


def test_a_part_of_a_dataset_has_the_size_of_the_part():
    run = {
        "models": ["linear"],
        "datasets": ["tabula_sapiens_v2/lung", "baron_pancreas/mouse"],
        "tasks": ["clustering"],
    }
    inputs = inputs_of(made_up.configuration({"run": run}))
    assert inputs.run.size("tabula_sapiens_v2") == {} and inputs.run.size("baron_pancreas") == {"n_cells": 1886}


def test_the_cells_of_the_catalogue_are_those_of_the_data(baron):
    import h5py

    splits = yaml.safe_load((CONFIG / "datasets.yaml").read_text())["datasets"]["baron_pancreas"]["splits"]
    for species, path in baron._asdict().items():
        with h5py.File(path) as file:
            assert file["X"].attrs["shape"][0] == splits[species]["n_cells"]
