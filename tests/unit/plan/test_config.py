"""Mistakes in the configuration are sentences that name the key."""

import copy

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from small_run import CONFIG

from cellgauge.plan import config as settings
from cellgauge.plan.sources import SCRIPTS

ROOT = SCRIPTS.parents[1]


def full():
    merged = {}
    for name in settings.CATALOGUE:
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
        (
            "run/datasets",
            ["pair/humans"],
            "run.datasets: dataset 'pair' has no split or set 'humans', did you mean 'human'?",
        ),
        ("run/also", ["mein"], "run.also: no model, dataset, task or published source 'mein', did you mean 'mine'?"),
        ("run/also", ["pair/humans"], "run.also: dataset 'pair' has no split 'humans', did you mean 'human'?"),
        ("run/also", ["linear/human"], "run.also: no model, dataset, task or published source 'linear'"),
        ("run/also", "mine", "run.also: 'mine' is not of type 'array'"),
        ("models/pair", {"adapter": "random"}, "run.also: 'pair' could be in run.models and run.datasets; add it to"),
        ("datasets/pair/n_cells", 0, "datasets.pair.n_cells: 0 is less than the minimum"),
        ("models/mine/card", "javascript:alert(1)", "models.mine.card: 'javascript:alert(1)' does not match"),
        ("run/profiles", ["czb"], "run.profiles.0: 'czb' is not one of"),
        ("run/score_device", "gpu", "run.score_device: 'gpu' is not one of ['cpu', 'cuda', 'auto']"),
        ("run/seeds", [-1], "run.seeds.0: -1 is less than the minimum"),
        ("run/published", ["other"], "run.published: there is no 'other', did you mean 'others'?"),
        ("published", {"them": {"title": "T"}}, "published.them: give either `url`, a result file, or `values`"),
        ("published", {"them": {"title": "T", "url": "a.json"}}, "published.them: key 'format' is missing"),
        (
            "published",
            {"them": {"title": "T", "url": "a.json", "format": "vcp", "models": {"X": "lineer"}}},
            "published.them: no model 'lineer', did you mean 'linear'?",
        ),
        (
            "published",
            {"them": {"title": "T", "url": "ftp://a", "format": "vcp", "datasets": {"{split}": "pear/{split}"}}},
            "published.them: no dataset 'pear', did you mean 'pair'?",
        ),
        (
            "published",
            {"them": {"title": "T", "url": "ftp://a/b.json", "format": "vcp"}},
            "published.them.url: unknown kind of URL 'ftp://'",
        ),
        (
            "published",
            {"them": {"title": "T", "url": "a", "format": "xml"}},
            "published.them.format: 'xml' is not one of",
        ),
        ("published", {"them": {"title": "T", "left_out": [{"reason": "x"}]}}, "published.them.left_out.0"),
        ("published", {"Them": {"title": "T"}}, "published: 'Them' is not a valid name"),
        ("models/linear/adaptor", "x", "models.linear: unknown key 'adaptor', did you mean 'adapter'?"),
        ("models/linear/adapter", None, "models.linear: key 'adapter' is missing"),
        ("models/linear/adapter", "lineer", "models.linear.adapter: no adapter 'lineer', did you mean 'linear'?"),
        ("models/linear/env", "baseline", "models.linear.env: no environment 'baseline', did you mean 'baselines'?"),
        ("models/mine/path", None, "models.mine: models of the adapter 'precomputed' need a `path`"),
        ("models/mine/splits", ["pair/dog"], "models.mine.splits: no dataset or split 'pair/dog'"),
        ("models/human_only/organisms", ["humann"], "models.human_only.organisms: unknown organism 'humann'"),
        ("models/My Model", {"adapter": "random"}, "'My Model' is not a valid name"),
        ("models/mine/path", "x; rm -rf /", "models.mine.path: a path cannot hold ';': 'x; rm -rf /'"),
        ("models/mine/path", "https://h/$(ls).npy", "models.mine.path: a URL cannot hold '$'"),
        ("datasets/pair/splits/human", {"url": "a\tb.h5ad", "organism": "human"}, "a path cannot hold '\\t'"),
        ("datasets/pair/splits/human", {"url": "https://h/a b.h5ad", "organism": "human"}, "a URL cannot hold ' '"),
        ("datasets/pair/splits/human", {"url": "https://h/..", "organism": "human"}, "the name of a file"),
        ("datasets/pair/splits/human", {"url": "https://h/a/?b=c.h5ad", "organism": "human"}, "the name of a file"),
        ("datasets/pair/splits/human", {"url": "https://h/.x.part", "organism": "human"}, "begin with a dot"),
        ("datasets/pair/orthologues/url", "https://h/..", "datasets.pair.orthologues.url: "),
        ("datasets/pair/columns/label", None, "datasets.pair.columns: key 'label' is missing"),
        ("datasets/pair/splits/all", "x.h5ad", "'all' is not a valid name"),
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
        (
            "datasets/pair/sets",
            {"both": ["human", "mous"]},
            "datasets.pair.sets.both: no split 'mous', did you mean 'mouse'?",
        ),
        ("datasets/pair/sets", {"Both": ["human"]}, "datasets.pair.sets: 'Both' is not a valid name"),
        ("datasets/pair/sets", {"human": ["mouse"]}, "datasets.pair.sets: 'human' is the name of a split"),
        ("datasets/pair/sets", {"all": ["mouse"]}, "datasets.pair.sets.all: the set lacks human"),
        (
            "datasets/pair/sets",
            {"both": ["human", "mouse"], "pair": ["mouse", "human"]},
            "datasets.pair.sets: 'both' and 'pair' are the same splits; keep one",
        ),
        ("datasets/pair/set", {"both": ["human"]}, "datasets.pair: unknown key 'set', did you mean 'sets'?"),
        (
            "datasets/pair/orthologues",
            [
                {"url": "a.csv", "columns": {"human": "h", "mouse": "m"}},
                {"url": "b.csv", "columns": {"gorilla": 0, "pig": 1}},
            ],
            "datasets.pair.orthologues: no organism has a column in every orthologue table",
        ),
        (
            "datasets/pair/orthologues",
            [
                {"url": "a.csv", "columns": {"human": "h", "mouse": "m"}},
                {"url": "b.csv", "columns": {"human": 0, "mouse": 1}},
            ],
            "datasets.pair.orthologues: two tables have a column of mouse; keep one",
        ),
        (
            "datasets/pair/orthologues",
            [
                {"url": "a.csv", "columns": {"human": "h", "mouse": "m"}},
                {"url": "b.csv", "key": "ensembl", "columns": {"human": 0, "pig": 1}},
            ],
            "tables are joined by one `key`",
        ),
        (
            "datasets/pair/orthologues/columns",
            {"human": "h", "mouse": 1},
            "datasets.pair.orthologues.columns: give names of columns, or positions",
        ),
        ("datasets/pair/control", "ctrl", "datasets.pair.control: only for datasets of modality perturbation"),
        ("datasets/screen/controls", "ctrl", "datasets.screen: unknown key 'controls', did you mean 'control'?"),
        (
            "datasets/screen/planted",
            {"n_gene": 5},
            "datasets.screen.planted: unknown key 'n_gene', did you mean 'n_genes'?",
        ),
        (
            "datasets/screen",
            {**CONFIG["datasets"]["screen"], "partition_seed": 1, "test_conditions": ["A"]},
            "datasets.screen: test conditions are given twice, by `partition_seed` and `test_conditions`",
        ),
        (
            "models/mine",
            {"adapter": "precomputed_responses"},
            "models.mine: models of the adapter 'precomputed_responses' need a `path`",
        ),
        ("models/mine/adapter", "additve", "models.mine.adapter: no adapter 'additve', did you mean 'additive'?"),
        ("tasks/clustering/parms", {}, "tasks.clustering: unknown key 'parms', did you mean 'params'?"),
        (
            "tasks/clustering/params/resolutoin",
            2,
            "tasks.clustering.params: unknown parameter 'resolutoin', did you mean 'resolution'?",
        ),
        ("tasks/clusterin", {}, "tasks.clusterin: unknown task 'clusterin', did you mean 'clustering'?"),
        ("tasks/clustering/env", "scor", "tasks.clustering.env: no environment 'scor', did you mean 'score'?"),
    ],
)
def test_mistakes(path, value, words):
    config = changed(path, value)
    if path == "models/pair":
        config["run"]["also"] = ["pair"]
    with pytest.raises(settings.ConfigError) as error:
        settings.check(config)
    assert words in str(error.value)


def test_also_adds_to_the_lists_and_repeats_nothing():
    config = changed("run/also", ["mine", "pair/human", "linear", "cross_species"])
    config["run"] |= {"models": ["linear"], "datasets": ["screen"], "tasks": ["clustering"]}
    for _ in range(2):
        settings.check(config)
        assert config["run"]["models"] == ["linear", "mine"]
        assert config["run"]["datasets"] == ["screen", "pair/human"]
        assert config["run"]["tasks"] == ["clustering", "cross_species"]


@given(st.lists(st.sampled_from([f"{kind}/{name}" for kind in settings.KINDS for name in CONFIG[kind]]), unique=True))
def test_also_is_the_same_as_longer_lists(names):
    """Whatever is named: each list of the run begins as it did, and ends with what was added, in the order given."""
    names = [tuple(name.split("/")) for name in names]
    config = changed("run/also", [name for _, name in names])
    settings.check(config)
    for kind in settings.KINDS:
        before = CONFIG["run"].get(kind, [])
        added = [name for of, name in names if of == kind and name not in before]
        assert config["run"][kind] == [*before, *added]


def test_a_later_files_lists_replace_and_also_adds(tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("run: {models: [linear, hvg], datasets: [baron_pancreas]}")
    second.write_text(
        "run: {also: [mine, transcriptformer_tests/human_heart]}\nmodels: {mine: {adapter: precomputed, path: mine.csv}}"
    )
    run = settings.read([first, second])["run"]
    assert run["models"] == ["linear", "hvg", "mine"]
    assert run["datasets"] == ["baron_pancreas", "transcriptformer_tests/human_heart"]
    assert settings.read([second, first])["run"] == run


@pytest.mark.parametrize("url", ["https://zenodo.org/records/1/files/h.h5ad?download=1&a=b", "my cells/h.h5ad"])
def test_ampersands_of_urls_and_blanks_of_paths_are_taken(url):
    settings.check(changed("datasets/pair/splits/human", {"url": url, "organism": "human"}))


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
            settings.ConfigError, match=f"datasets.pair.{key}: only for datasets of modality perturbation"
        ):
            settings.check(changed(f"datasets/pair/{key}", value))
