"""Sets of splits: what they are called, and that no two different computations share a path."""

import copy
import re
from types import SimpleNamespace

import made_up
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import inputs_of

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.sets import LONGEST, name_of, ordered
from cellgauge.plan import config as configuration
from cellgauge.plan.grid import Cell
from cellgauge.plan.inputs import PATTERNS
from cellgauge.tasks.traits import TaskTraits, task_traits

SLUGS = st.from_regex(r"[a-z][a-z0-9_]{0,11}", fullmatch=True)
SPECIES = ("human", "mouse", "chicken", "gorilla")


@given(st.sets(SLUGS, min_size=1, max_size=40), st.sets(SLUGS, min_size=1, max_size=40))
def test_names_tell_sets_apart_and_fit_a_path(one, other):
    assert (name_of(one) == name_of(other)) == (one == other)
    assert name_of(sorted(one, reverse=True)) == name_of(one)
    assert re.fullmatch(PATTERNS["split"], name_of(one))
    assert len(name_of(one)) <= LONGEST


def test_a_name_made_of_few_splits_is_readable():
    assert name_of(["mouse", "human"]) == "human+mouse"
    assert re.fullmatch(r"s_00\+39_more_[0-9a-f]{12}", name_of([f"s_{n:02}" for n in range(40)]))


# --- the catalogue's spermatogenesis ---------------------------------------------------------------------------------

NINE = ("chicken", "chimpanzee", "gorilla", "human", "marmoset", "mouse", "opossum", "platypus", "rhesus_macaque")


@pytest.fixture(scope="module")
def full():
    return inputs_of(configuration.read([made_up.CONFIG / "full.yaml"]))


def test_what_cz_benchmarks_published_is_scored_on_the_species_that_it_was_published_of(full):
    models = {c.split: set() for c in full.grid.cells if c.task == "cross_species"}
    for cell in full.grid.cells:
        if cell.task == "cross_species":
            assert cell.dataset == "spermatogenesis"
            models[cell.split].add(cell.model)
    assert set(models) == {"common", "all"}
    everywhere = {"tf_exemplar", "tf_metazoa", "tf_sapiens", "random", "oracle"}
    assert models["all"] == everywhere
    assert models["common"] == everywhere | {"uce_4l", "uce_33l", "pca_joint", "harmony_species"}
    path = "results/scores/cross_species/uce_4l/spermatogenesis/common.tsv"
    assert path in full.scores()
    job = SimpleNamespace(task="cross_species", model="uce_4l", dataset="spermatogenesis", split="common")
    assert full.score_splits(job) == [
        f"results/splits/spermatogenesis/{name}.h5ad" for name in ("human", "mouse", "rhesus_macaque")
    ]
    assert full.run.splits_of("spermatogenesis", "all") == list(NINE)


def test_what_a_set_lacks_is_a_reason_of_that_set_alone(full):
    why = {
        (skipped.model, skipped.split): skipped.reason
        for skipped in full.grid.skipped
        if (skipped.task, skipped.dataset) == ("cross_species", "spermatogenesis")
    }
    assert why["uce_4l", "all"].startswith("chicken: the model does not support chicken")
    assert (
        "chicken: the model joins species" in why["pca_joint", "all"] and "column of chicken" in why["pca_joint", "all"]
    )
    assert ("uce_4l", "common") not in why


def test_two_sets_of_one_split_use_its_one_embedding(full):
    embeddings = [path for path in full.embeddings() if "/tf_metazoa/spermatogenesis/" in path]
    assert sorted(embeddings) == [f"results/embeddings/tf_metazoa/spermatogenesis/{name}.h5ad" for name in NINE]


# --- what the run names ----------------------------------------------------------------------------------------------


def chosen(*datasets):
    config = made_up.configuration()
    config["run"]["datasets"] = list(datasets)
    return inputs_of(config).run.sets


@pytest.mark.parametrize(
    ("items", "sets"),
    [
        (["spermatogenesis"], {"common": NINE[3:4] + NINE[5:6] + NINE[8:], "all": NINE}),
        (["spermatogenesis/mouse", "spermatogenesis/human"], {"human+mouse": ("human", "mouse")}),
        (
            [f"spermatogenesis/{s}" for s in ("rhesus_macaque", "human", "mouse")],
            {"common": NINE[3:4] + NINE[5:6] + NINE[8:]},
        ),
        (["spermatogenesis/common"], {"common": NINE[3:4] + NINE[5:6] + NINE[8:]}),
        (["spermatogenesis/common", "spermatogenesis/all"], {"all": NINE}),
        (["spermatogenesis/human", "spermatogenesis"], {"common": NINE[3:4] + NINE[5:6] + NINE[8:], "all": NINE}),
    ],
)
def test_a_choice_of_splits_is_a_set_of_its_own_unless_it_is_a_named_one(items, sets):
    assert chosen(*items)["spermatogenesis"] == sets


def test_a_dataset_that_names_no_sets_has_the_set_of_all_splits():
    assert chosen("baron_pancreas")["baron_pancreas"] == {"all": ("human", "mouse")}
    assert chosen("baron_pancreas/mouse", "baron_pancreas/human")["baron_pancreas"] == {"all": ("human", "mouse")}


def test_what_is_no_set_and_no_split_is_said(full):
    with pytest.raises(
        CellgaugeError, match="dataset 'spermatogenesis' has no split or set 'commn'; it has human, mouse"
    ):
        full.run.splits_of("spermatogenesis", "commn")


# --- random catalogues -----------------------------------------------------------------------------------------------

MODELS = {
    "random": {"adapter": "random"},
    "human_only": {"adapter": "random", "organisms": ["human"]},
    "linear": {"adapter": "linear"},
    "joint": {"adapter": "pca_joint"},
    "harmony": {"adapter": "harmony"},
    "mine": {"adapter": "precomputed", "path": "mine/{dataset}/{split}.npy"},
}
TASKS = {"clustering": {}, "cross_species": {}, "mine_too": {}}


@pytest.fixture(autouse=True, scope="module")
def a_users_task():
    """Let the inputs know a task `mine_too` that spans splits."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("config", "grid", "inputs", "run"):
            patch.setattr(f"cellgauge.plan.{module}.task_traits", traits_with_mine)
        yield


def traits_with_mine(task):
    return TaskTraits(scope="dataset") if task == "mine_too" else task_traits(task)


@st.composite
def catalogues(draw):
    """Return a catalogue of one dataset with sets, and two runs of it: two configurations that differ in `run.datasets`."""
    names_of_splits = SLUGS.filter(lambda name: name != "all")
    splits = draw(st.dictionaries(names_of_splits, st.sampled_from(SPECIES), min_size=1, max_size=5))
    subsets = st.sets(st.sampled_from(sorted(splits)), min_size=1)
    names = SLUGS.filter(lambda name: name not in splits)
    sets = {
        name: sorted(own) for name, own in draw(st.dictionaries(names, subsets, max_size=3)).items() if name != "all"
    }
    if draw(st.booleans()):
        sets["all"] = sorted(splits)
    sets = {name: own for n, (name, own) in enumerate(sets.items()) if own not in list(sets.values())[:n]}
    data = {
        "modality": "expression",
        "columns": {"label": "ct"},
        "splits": {name: {"organism": species, "url": f"{name}.h5ad"} for name, species in splits.items()},
        "orthologues": {"url": "o.csv", "columns": dict.fromkeys(draw(st.sampled_from((SPECIES, SPECIES[:2]))), "c")},
        **({"sets": sets} if sets else {}),
    }
    runs = []
    for _ in range(2):
        choice = draw(st.one_of(st.just(["d"]), subsets.map(lambda own: [f"d/{name}" for name in own])))
        run = {
            "models": list(MODELS),
            "datasets": choice,
            "tasks": list(TASKS),
            "seeds": [42],
            "profiles": ["corrected"],
        }
        runs.append({"models": MODELS, "datasets": {"d": data}, "tasks": TASKS, "run": run})
    return runs


def computations(inputs):
    """Return what each file of a run is computed of: path -> the inputs of its job."""
    files = {}
    for path in inputs.embeddings():
        model, dataset, part = path.removesuffix(".h5ad").split("/")[2:]
        files[path] = (
            "embed",
            model,
            tuple(inputs.splits(SimpleNamespace(model=model, dataset=dataset, split=part))),
        )
    for path in inputs.layouts():
        embedding = path.replace("layouts", "embeddings").replace(".tsv", ".h5ad")
        files[path] = ("layout", embedding, files[embedding])
    for cell in inputs.grid.cells:
        embeddings = inputs.results(cell)
        compared = (tuple(inputs.score_splits(cell)), tuple(embeddings), tuple(files[path] for path in embeddings))
        assert cell.path not in files
        files[cell.path] = ("score", cell.task, cell.model, compared)
    return files


@settings(max_examples=examples(25), deadline=None)
@given(catalogues())
def test_two_different_computations_never_share_a_path(runs):
    first, second = (computations(inputs_of(run)) for run in runs)
    assert {path: first[path] for path in first.keys() & second.keys()} == {
        path: second[path] for path in first.keys() & second.keys()
    }
    for files in (first, second):
        scored = [made[1:] for made in files.values() if made[0] == "score"]
        assert len(set(scored)) == len(scored)  # nor one computation two paths


@settings(max_examples=examples(25), deadline=None)
@given(catalogues())
def test_every_path_is_reachable_and_every_part_of_a_run_is_scored_or_has_a_reason(runs):
    configuration.check(copy.deepcopy(runs[0]))
    inputs = inputs_of(runs[0])
    files = {
        r"results/embeddings/(?P<model>{model})/(?P<dataset>{dataset})/(?P<split>{split})\.h5ad": inputs.embeddings(),
        r"results/layouts/(?P<model>{model})/(?P<dataset>{dataset})/(?P<split>{split})\.tsv": inputs.layouts(),
        r"results/scores/(?P<task>{task})/(?P<model>{model})/(?P<dataset>{dataset})/(?P<split>{split})\.tsv": inputs.scores(),
    }
    patterns = inputs.patterns()
    for rule, paths in files.items():
        expression = re.sub(r"\{(\w+)\}", lambda kind: patterns[kind[1]], rule)
        for path in paths:
            found = re.fullmatch(expression, path)
            wildcards = SimpleNamespace(**found.groupdict())
            assert inputs.splits(wildcards)
            assert not hasattr(wildcards, "task") or inputs.results(wildcards)
    parts = [(c.task, c.model, c.dataset, c.split) for c in (*inputs.grid.cells, *inputs.grid.skipped)]
    expected = [
        (task, model, "d", part)
        for task in TASKS
        for model in MODELS
        for part in (inputs.run.sets["d"] if traits_with_mine(task).scope == "dataset" else inputs.run.datasets["d"])
    ]
    assert sorted(parts) == sorted(expected)
    for cell in inputs.grid.cells:
        assert isinstance(cell, Cell) and inputs.run.splits_of("d", cell.split) == list(
            ordered(inputs.run.splits_of("d", cell.split))
        )
