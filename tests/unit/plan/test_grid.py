"""Which cells exist, and what each needs."""

import copy
import json
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from made_up import inputs_of
from small_run import CONFIG, inputs, w

from cellgauge.plan.grid import Cell
from cellgauge.plan.interpreter import python_of
from cellgauge.plan.manifest import catalogue
from cellgauge.plan.paths import file_name
from cellgauge.plan.sources import SCRIPTS
from cellgauge.tasks.traits import task_traits


def test_cells_of_the_run():
    cells = inputs().grid.cells
    assert Cell("clustering", "linear", "pair", "mouse") in cells
    assert Cell("clustering", "mine", "pair", "human") in cells
    assert Cell("cross_species", "random", "pair", "all") in cells
    assert Cell("clustering", "linear", "tissues", "lung") in cells
    assert not [cell for cell in cells if cell.split == "liver"]
    assert len(cells) == len(set(cells))
    assert cells[0].path == "results/scores/clustering/linear/pair/human.tsv"


@pytest.mark.parametrize(
    ("task", "model", "dataset", "split", "words"),
    [
        ("cross_species", "linear", "pair", "all", "each split separately"),
        ("cross_species", "random", "tissues", "lung", "the selected splits have only human"),
        ("clustering", "harmony", "tissues", "lung", "only tasks across splits score it"),
        ("clustering", "mine", "pair", "mouse", "no embedding of this split"),
        ("clustering", "human_only", "pair", "mouse", "does not support mouse (supported: human)"),
        ("cross_species", "human_only", "pair", "all", "mouse: the model does not support mouse"),
    ],
)
def test_what_does_not_apply_has_a_reason_and_no_cell(task, model, dataset, split, words):
    chosen = inputs()
    reasons = [
        s.reason for s in chosen.grid.skipped if (s.task, s.model, s.dataset, s.split) == (task, model, dataset, split)
    ]
    assert len(reasons) == 1 and words in reasons[0]
    assert Cell(task, model, dataset, split) not in chosen.grid.cells


def test_a_task_that_compares_no_species_spans_tissues_of_one(monkeypatch):
    traits = task_traits("cross_species")
    tissues = Cell("cross_species", "random", "tissues", "lung")
    assert tissues not in inputs().grid.cells
    other = replace(traits, compares="")
    monkeypatch.setattr(
        "cellgauge.plan.grid.task_traits", lambda task: other if task == "cross_species" else task_traits(task)
    )
    assert tissues in inputs().grid.cells


def test_every_part_of_the_run_is_scored_or_has_a_reason():
    chosen = inputs()
    for task in chosen.run.tasks:
        for model in chosen.run.models:
            for dataset in chosen.run.datasets:
                found = [
                    x.split
                    for x in (*chosen.grid.cells, *chosen.grid.skipped)
                    if (x.task, x.model, x.dataset) == (task, model, dataset)
                ]
                spans = task == "cross_species"
                assert sorted(found) == sorted(chosen.run.sets[dataset] if spans else chosen.run.datasets[dataset])


def screens(**run):
    config = copy.deepcopy(CONFIG)
    config["models"] |= {
        "additive": {"adapter": "additive"},
        "tuned": {"adapter": "no_change", "splits": ["screen"], "params": {"statistic": "median"}},
        "mine_too": {"adapter": "precomputed_responses", "path": "mine/{dataset}.csv"},
    }
    config["datasets"]["other"] = {
        "modality": "perturbation",
        "organism": "human",
        "columns": {"label": "c", "partition": "split"},
        "control": "NT",
        "splits": {"thp1": "s3://b/t.h5ad"},
    }
    config["tasks"]["perturbation"] = {}
    config["run"] |= {
        "models": ["linear", "additive", "tuned", "mine_too"],
        "datasets": ["pair/human", "screen", "other"],
        "tasks": ["clustering", "perturbation"],
    }
    config["run"] |= run
    return inputs_of(config)


def test_models_tasks_and_datasets_of_one_modality_meet():
    chosen = screens()
    assert {(cell.task, cell.model, cell.dataset) for cell in chosen.grid.cells} == {
        ("clustering", "linear", "pair"),
        *(("perturbation", model, "screen") for model in ("additive", "tuned", "mine_too")),
        *(("perturbation", model, "other") for model in ("additive", "mine_too")),
    }
    (left_out,) = chosen.grid.skipped  # what is for other data is no news; what was tuned elsewhere is
    assert (left_out.model, left_out.dataset, left_out.reason) == ("tuned", "other", "the model is only for screen")


def test_a_model_without_data_of_its_kind_is_told_why():
    chosen = screens(models=["linear"], datasets=["screen"])
    assert {skipped.reason for skipped in chosen.grid.skipped} == {
        "the model needs expression data, the dataset has perturbation data"
    }


def test_what_predicting_and_scoring_a_screen_needs():
    chosen = screens()
    job = w(task="perturbation", model="tuned", dataset="screen", split="k562")
    assert chosen.results(job) == ["results/predictions/tuned/screen/k562.h5ad"]
    assert chosen.score_splits(job) == ["results/truths/screen/k562.h5ad"]
    assert chosen.score_splits(w(task="clustering", model="linear", dataset="pair", split="human")) == [
        "results/splits/pair/human.h5ad"
    ]
    code = chosen.model_code(job)
    assert any(path.endswith("predictors/no_change.py") for path in code)
    assert not any(path.endswith(("predictors/additive.py", "embed_cells.py")) for path in code)
    assert json.loads(chosen.model_options(job)) == {"seed": 42, "statistic": "median"}
    assert chosen.weights(w(model="mine_too", dataset="other", split="thp1")) == ["mine/other.csv"]
    options = json.loads(chosen.split_options(w(dataset="other", split="thp1")))
    assert (options["modality"], options["control"], options["partition"]) == ("perturbation", "NT", "split")
    assert "modality" not in json.loads(chosen.split_options(w(dataset="pair", split="human")))
    rules = [rule for rule, _, _ in chosen.jobs(next(c for c in chosen.grid.cells if c.dataset == "other"))]
    assert rules == ["download", "split", "predict", "truth", "score"]
    assert not [path for path in chosen.layouts() if "screen" in path or "other" in path]


def test_perturbation_data_are_not_for_expression_tasks():
    chosen = inputs(datasets=["screen"])
    assert not chosen.grid.cells and "the dataset has perturbation data" in chosen.grid.skipped[0].reason


def test_a_dataset_may_name_its_tasks():
    config = copy.deepcopy(CONFIG)
    config["datasets"]["pair"]["tasks"] = ["clustering"]
    assert not [c for c in inputs_of(config).grid.cells if c.task == "cross_species"]


def test_joint_models_need_orthologues():
    config = copy.deepcopy(CONFIG)
    del config["datasets"]["pair"]["orthologues"]
    assert any("no table of them" in s.reason for s in inputs_of(config).grid.skipped if s.model == "harmony")


def test_joint_models_have_one_embedding_for_a_set():
    chosen = inputs()
    assert chosen.results(w(model="harmony", dataset="pair", split="all")) == [
        "results/embeddings/harmony/pair/all.h5ad"
    ]
    assert chosen.splits(w(model="harmony", dataset="pair", split="all")) == [
        "results/splits/pair/human.h5ad",
        "results/splits/pair/mouse.h5ad",
    ]
    assert chosen.results(w(model="random", dataset="pair", split="all")) == [
        "results/embeddings/random/pair/human.h5ad",
        "results/embeddings/random/pair/mouse.h5ad",
    ]


def test_further_seeds_replicate_stochastic_models_alone():
    chosen = inputs(seeds=[42, 7])
    assert chosen.run.models == [
        "linear",
        "random",
        "random@7",
        "harmony",
        "harmony@7",
        "mine",
        "human_only",
        "human_only@7",
    ]
    assert json.loads(chosen.model_options(w(model="random@7")))["seed"] == 7
    assert json.loads(chosen.model_options(w(model="random")))["seed"] == 42
    assert json.loads(chosen.task_options(w(model="random@7", task="clustering")))["seed"] == 7


def test_tasks_say_what_their_jobs_need():
    config = copy.deepcopy(CONFIG)
    config["tasks"]["clustering"] |= {"threads": 3, "memory_times": 60}
    for chosen, threads, times in ((inputs_of(CONFIG), 1, 10), (inputs_of(config), 3, 60)):
        job = w(model="random", task="clustering")
        assert (chosen.task_threads(job), chosen.task_memory_times(job)) == (threads, times)


def test_scores_on_a_gpu_ask_for_it():
    of_cells, of_responses = w(model="random", task="label_prediction"), w(model="random", task="perturbation")
    for device, gpus, env in (("cpu", 0, "score"), ("cuda", 1, "score_gpu"), ("auto", 0, "score_gpu")):
        config = copy.deepcopy(CONFIG)
        config["run"]["score_device"] = device
        config["tasks"] |= {"label_prediction": {}, "perturbation": {}}
        chosen = inputs_of(config)
        assert (chosen.task_gpus(of_cells), chosen.task_env(of_cells)) == (gpus, f"../envs/{env}.yaml")
        assert json.loads(chosen.task_options(of_cells)).get("device", "cpu") == device
        assert (chosen.task_gpus(of_responses), chosen.task_env(of_responses)) == (0, "../envs/score.yaml")
        assert "device" not in json.loads(chosen.task_options(of_responses))
        config["tasks"]["label_prediction"]["env"] = "scib"  # a task of another library
        assert (inputs_of(config).task_gpus(of_cells), inputs_of(config).task_env(of_cells)) == (0, "../envs/scib.yaml")


def keeping(device="cpu", **params):
    config = copy.deepcopy(CONFIG)
    config["run"]["score_device"] = device
    config["tasks"] |= {"clustering": {"params": params}, "label_prediction": {}}
    return inputs_of(config)


def test_neighbors_are_kept_where_the_task_says_so():
    job = w(model="random", task="clustering", dataset="pair", split="human")
    path = "results/neighbors/clustering/random/pair/human.npz"
    assert keeping().neighbors(job) == [path]
    assert keeping(metrics=["silhouette"]).neighbors(job) == []
    assert keeping().neighbors(w(**vars(job) | {"task": "label_prediction"})) == []
    cell = next(cell for cell in keeping().grid.cells if vars(cell) == vars(job))
    assert [rule for rule, result, log in keeping().jobs(cell)][-3:] == ["embed", "neighbors", "score"]
    assert ("neighbors", path, "logs/neighbors/clustering/random/pair/human.log") in keeping().jobs(cell)


def test_only_what_changes_neighbors_is_an_option_of_their_search():
    job = w(model="random@7", task="clustering")
    options = json.loads(keeping(device="auto").neighbor_options(job))
    limits = {
        "profiles": ["reference", "corrected"],
        "exact_up_to": 100_000,
    }  # what decides whether they are approximate
    metrics = ["ari", "nmi", "ami", "silhouette"]
    assert options == {"metrics": metrics, "n_neighbors": 15, "seed": 7, "device": "auto", **limits}
    assert keeping(resolution=2.0).neighbor_options(job) == keeping().neighbor_options(job)
    assert keeping(resolution=2.0).task_options(job) != keeping().task_options(job)
    assert keeping(n_neighbors=30).neighbor_options(job) != keeping().neighbor_options(job)


def test_a_score_asks_for_no_gpu_where_its_neighbors_are_all_it_needs():
    job = w(model="random", task="clustering", dataset="pair", split="human")
    assert (keeping("cuda").search_gpus(job), keeping("cuda").task_gpus(job)) == (1, 0)
    alone = keeping("cuda", metrics=["silhouette"])
    assert (alone.search_gpus(job), alone.task_gpus(job)) == (1, 1)


def test_where_objects_lie():
    chosen = inputs()
    assert chosen.split_object(w(dataset="pair", split="human")) == "resources/datasets/pair/h.h5ad"
    assert chosen.split_object(w(dataset="pair", split="mouse")) == "resources/datasets/pair/m.h5ad"
    assert chosen.split_object(w(dataset="tissues", split="lung")) == "my/atlas.h5ad"
    assert chosen.object_url(w(dataset="pair", object="m.h5ad")) == "pypi://p==1/a.zip!m.h5ad"
    assert file_name("https://zenodo.org/records/1/files/h.h5ad?download=1&a=b") == "h.h5ad"
    assert chosen.orthologues(w(dataset="pair", split="mouse")) == ["resources/datasets/pair/o.csv"]
    assert chosen.orthologues(w(dataset="tissues", split="lung")) == []
    assert chosen.weights(w(model="mine", dataset="pair", split="human")) == ["mine/pair/human.npy"]
    assert chosen.weights(w(model="linear", dataset="pair", split="human")) == []


def test_split_options():
    options = json.loads(inputs().split_options(w(dataset="tissues", split="lung")))
    assert options["split_by"] == "tissue" and options["value"] == "Lung" and options["organism"] == "human"
    options = json.loads(inputs().split_options(w(dataset="pair", split="mouse")))
    table = {"path": "resources/datasets/pair/o.csv", "columns": {"human": "h", "mouse": "m"}}
    assert options["organism"] == "mouse" and options["orthologues"] == [table]
    assert (options["orthologue_key"], options["orthologue_hub"]) == ("symbol", "human")
    assert "split_by" not in options


def reverse(value):
    return {key: reverse(value[key]) for key in reversed(value)} if isinstance(value, dict) else value


def test_the_order_of_keys_changes_no_option():
    config = copy.deepcopy(CONFIG)
    for kind in ("models", "tasks"):
        config[kind] = reverse(config[kind])
    one, other = inputs_of(CONFIG), inputs_of(config)
    assert one.model_options(w(model="linear")) == other.model_options(w(model="linear"))
    assert one.task_options(w(model="linear", task="clustering")) == other.task_options(
        w(model="linear", task="clustering")
    )
    for split in ("human", "mouse"):
        assert one.split_options(w(dataset="pair", split=split)) == other.split_options(w(dataset="pair", split=split))


def test_titles_are_no_options():
    config = copy.deepcopy(CONFIG)
    config["models"]["linear"]["title"] = "Another"
    assert inputs_of(config).model_options(w(model="linear")) == inputs().model_options(w(model="linear"))
    assert catalogue(inputs_of(config).grid) != catalogue(inputs().grid)


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("", "screen (semi-synthetic)"),
        ("Mine", "Mine (semi-synthetic)"),
        ("Semi-synthetic islets", "Semi-synthetic islets"),
    ],
)
def test_a_planted_screen_is_called_semi_synthetic(title, shown):
    config = copy.deepcopy(CONFIG)
    config["run"]["datasets"] = ["screen", "pair"]
    config["datasets"]["screen"] |= {"planted": {}, **({"title": title} if title else {})}
    about = catalogue(inputs_of(config).grid)["datasets"]
    assert about["screen"]["title"] == shown and "title" not in about["pair"]


def test_a_hostile_path_is_filled_in_as_text():
    config = copy.deepcopy(CONFIG)
    config["models"]["mine"]["path"] = "{dataset.__class__}/{split}.npy"
    assert inputs_of(config).weights(w(model="mine", dataset="pair", split="human")) == [
        "{dataset.__class__}/human.npy"
    ]


def test_planning_imports_the_standard_library_alone():
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import json; from cellgauge.plan.grid import Grid;"
        " from cellgauge.plan.inputs import Inputs\n"
        f"Inputs(Grid(json.loads({json.dumps(json.dumps(CONFIG))}))).embeddings()\n"
        "print(*sorted({n.partition('.')[0] for n in sys.modules} & {'numpy', 'pandas', 'anndata', 'yaml', 'torch', 'h5py'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_model_of_ensembl_ids_needs_data_that_have_them():
    config = copy.deepcopy(CONFIG)
    config["models"]["tf"] = {"adapter": "transcriptformer", "weights": "my/tf"}
    config["run"] |= {"models": ["tf"], "tasks": ["clustering"]}
    config["datasets"]["tissues"]["columns"]["ensembl"] = "index"
    chosen = inputs_of(config)
    assert [cell.path for cell in chosen.grid.cells] == ["results/scores/clustering/tf/tissues/lung.tsv"]
    assert [(s.dataset, s.split) for s in chosen.grid.skipped] == [("pair", "human"), ("pair", "mouse")]
    assert "the model knows genes by Ensembl ids" in chosen.grid.skipped[0].reason


def test_a_task_may_have_an_environment_of_its_own(monkeypatch):
    config = copy.deepcopy(CONFIG)
    config["tasks"]["scib"] = {"env": "scib"}
    config["run"]["tasks"] = ["clustering", "scib"]
    chosen = inputs_of(config)
    assert chosen.task_env(w(task="clustering")) == "../envs/score.yaml"
    assert chosen.task_env(w(task="scib")) == "../envs/scib.yaml"
    assert python_of(chosen.run.task_env("clustering")) == "python"
    assert python_of(chosen.run.task_env("scib")).endswith(".venv-scib/bin/python")
    asked = []
    monkeypatch.setattr("cellgauge.plan.inputs.require", lambda environment, user: asked.append((environment, user)))
    chosen.check_environments()
    assert asked[:2] == [("score", "task clustering"), ("scib", "task scib")]
    assert ("baselines", "model linear") in asked[2:] and all(user.startswith("model ") for _, user in asked[2:])
    asked.clear()
    inputs(tasks=["clustering"]).check_environments()
    assert [user for _, user in asked if user.startswith("task ")] == ["task clustering"]


# --- a user's own models and files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [None, False, True])
def test_own_embeddings_are_compared_across_splits_only_when_the_entry_says_so(said):
    config = copy.deepcopy(CONFIG)
    config["models"]["mine"] = {"adapter": "precomputed", "path": "mine/{split}.npy"}
    if said is not None:
        config["models"]["mine"]["shared_space"] = said
    config["run"] |= {"models": ["mine"], "datasets": ["pair"], "tasks": ["cross_species"]}
    made = inputs_of(config)
    assert bool(made.grid.cells) == bool(said)
    reasons = [skipped.reason for skipped in made.grid.skipped]
    if said is None:
        assert reasons == [
            "it is not known whether one model made the embeddings of all species; if so, set `shared_space: true`"
            " in models.mine"
        ]
    assert said is not False or "each split separately" in reasons[0]


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("my data/a b.h5ad", "my data/a b.h5ad"),
        ("file:///my%20data/x&y.h5ad", "/my data/x&y.h5ad"),
        ("~/x.h5ad", "HOME/x.h5ad"),
    ],
)
def test_paths_are_read_as_people_write_them(monkeypatch, url, path):
    monkeypatch.setenv("HOME", "/home/me")
    config = copy.deepcopy(CONFIG)
    config["datasets"]["pair"]["splits"]["human"]["url"] = url
    made = inputs_of(config).split_object(SimpleNamespace(dataset="pair", split="human"))
    assert made == path.replace("HOME", "/home/me")


def test_what_selects_and_names_cells_reaches_the_split():
    config = copy.deepcopy(CONFIG)
    config["datasets"]["pair"] |= {"cells": {"tissue": ["lung", 3]}, "round": True}
    config["datasets"]["screen"] |= {"control": ["NT", "ctrl*"], "separator": "_", "pool_guides": True}
    made = inputs_of(config)
    options = json.loads(made.split_options(SimpleNamespace(dataset="pair", split="human")))
    assert options["cells"] == {"tissue": ["lung", 3]} and options["round"] is True
    options = json.loads(made.split_options(SimpleNamespace(dataset="screen", split="k562")))
    assert (options["control"], options["separator"], options["pool_guides"]) == (["NT", "ctrl*"], "_", True)
