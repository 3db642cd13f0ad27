"""Mistakes in the configuration are sentences that name the key."""

import copy

import pytest
import yaml
from test_grid import CONFIG

from cellgauge import config as settings
from cellgauge.sources import SCRIPTS

ROOT = SCRIPTS.parents[1]


def full():
    merged = {}
    for name in ("models", "datasets", "tasks", "config"):
        merged |= yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())
    return merged


def changed(path, value):
    config = copy.deepcopy(CONFIG)
    *parents, last = path.split("/")
    place = config
    for key in parents:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return config


def test_the_catalogue_is_right():
    settings.check(full())


def test_defaults_are_filled_in():
    config = changed("run/seeds", None)
    del config["run"]["profiles"]
    settings.check(config)
    assert config["run"]["seeds"] == [42] and config["run"]["profiles"] == ["reference", "corrected"]
    assert config["run"]["score_device"] == "cpu"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("runs", {}, "the top level: unknown key 'runs', did you mean 'run'?"),
        ("run/model", ["x"], "run: unknown key 'model', did you mean 'models'?"),
        ("run/models", ["lineer"], "run.models: no model 'lineer', did you mean 'linear'?"),
        ("run/models", [], "run.models"),
        ("run/tasks", ["clusterin"], "run.tasks: no task 'clusterin', did you mean 'clustering'?"),
        ("run/datasets", ["pear"], "run.datasets: no dataset 'pear', did you mean 'pair'?"),
        ("run/datasets", ["pair/humans"], "run.datasets: dataset 'pair' has no split 'humans', did you mean 'human'?"),
        ("run/profiles", ["czb"], "run.profiles.0: 'czb' is not one of"),
        ("run/score_device", "gpu", "run.score_device: 'gpu' is not one of ['cpu', 'cuda', 'auto']"),
        ("run/seeds", [-1], "run.seeds.0: -1 is less than the minimum"),
        ("models/linear/adaptor", "x", "models.linear: unknown key 'adaptor', did you mean 'adapter'?"),
        ("models/linear/adapter", None, "models.linear: key 'adapter' is missing"),
        ("models/linear/adapter", "lineer", "models.linear.adapter: no adapter 'lineer', did you mean 'linear'?"),
        ("models/linear/env", "baseline", "models.linear.env: no environment 'baseline', did you mean 'baselines'?"),
        ("models/mine/path", None, "models.mine: precomputed embeddings need a `path`"),
        ("models/mine/splits", ["pair/dog"], "models.mine.splits: no dataset or split 'pair/dog'"),
        ("models/human_only/organisms", ["humann"], "models.human_only.organisms: unknown organism 'humann'"),
        ("models/My Model", {"adapter": "random"}, "'My Model' cannot be a name"),
        ("models/mine/path", "x; rm -rf /", "models.mine.path"),
        ("datasets/pair/columns/label", None, "datasets.pair.columns: key 'label' is missing"),
        ("datasets/pair/splits/all", "x.h5ad", "'all' cannot be a name"),
        ("datasets/pair/splits/human", "ftp://x/y", "unknown kind of URL 'ftp://'"),
        ("datasets/pair/splits/dog", "s3://b/d.h5ad", "datasets.pair.splits.dog: no `organism`"),
        ("datasets/pair/splits/dog", {"organism": "dog"}, "datasets.pair.splits.dog: no `url`"),
        (
            "datasets/pair/splits/dog",
            {"organism": "dog", "url": "s3://c/h.h5ad"},
            "two objects of the dataset are called 'h.h5ad'",
        ),
        ("datasets/pair/splits/human/organism", "martian", "datasets.pair.splits.human: unknown organism 'martian'"),
        ("datasets/pair/tasks", ["cluster"], "datasets.pair.tasks: no task 'cluster', did you mean 'clustering'?"),
        (
            "datasets/pair/orthologues/columns",
            {"humann": "h", "mouse": "m"},
            "datasets.pair.orthologues.columns: unknown organism",
        ),
        ("datasets/pair/control", "ctrl", "datasets.pair.control: only data of modality perturbation have it"),
        ("datasets/screen/controls", "ctrl", "datasets.screen: unknown key 'controls', did you mean 'control'?"),
        (
            "datasets/screen/planted",
            {"n_gene": 5},
            "datasets.screen.planted: unknown key 'n_gene', did you mean 'n_genes'?",
        ),
        (
            "datasets/screen",
            {**CONFIG["datasets"]["screen"], "partition_seed": 1, "test_conditions": ["A"]},
            "datasets.screen: test conditions are given in two ways, `partition_seed` and `test_conditions`",
        ),
        ("models/mine", {"adapter": "precomputed_responses"}, "models.mine: precomputed predictions need a `path`"),
        ("models/mine/adapter", "additve", "models.mine.adapter: no adapter 'additve', did you mean 'additive'?"),
        ("tasks/clustering/scope", "cell", "tasks.clustering.scope: 'cell' is not one of"),
        ("tasks/clustering/env", "scor", "tasks.clustering.env: no environment 'scor', did you mean 'score'?"),
    ],
)
def test_mistakes(path, value, words):
    with pytest.raises(settings.ConfigError) as error:
        settings.check(changed(path, value))
    assert words in str(error.value)


def test_all_mistakes_are_told_at_once():
    config = changed("run/models", ["lineer"])
    config["run"]["tasks"] = ["clusterin"]
    with pytest.raises(settings.ConfigError) as error:
        settings.check(config)
    assert "lineer" in str(error.value) and "clusterin" in str(error.value)


def test_a_model_has_a_kind_by_default():
    config = copy.deepcopy(CONFIG)
    config["models"] |= {
        "file": {"adapter": "precomputed", "path": "x.csv"},
        "responses": {"adapter": "precomputed_responses", "path": "x.csv"},
        "trained": {"adapter": "uce", "weights": "my/folder"},
        "said": {"adapter": "random", "kind": "control"},
        "plain": {"adapter": "hvg"},
    }
    settings.check(config)
    kinds = {name: config["models"][name]["kind"] for name in ("file", "responses", "trained", "said", "plain")}
    assert list(kinds.values()) == ["precomputed", "precomputed", "foundation", "control", "baseline"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("control", ["NT", "ctrl"]),
        ("control", "NT*"),
        ("separator", "_"),
        ("pool_guides", True),
        ("cells", {"a": ["b", 1]}),
    ],
)
def test_keys_of_screens_and_cells(key, value):
    settings.check(changed(f"datasets/screen/{key}", value))
    if key != "cells":
        with pytest.raises(
            settings.ConfigError, match=f"datasets.pair.{key}: only data of modality perturbation have it"
        ):
            settings.check(changed(f"datasets/pair/{key}", value))
