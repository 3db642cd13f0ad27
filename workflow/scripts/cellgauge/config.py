"""Check the merged configuration before the grid is built: every fault is one sentence that names the key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cellgauge.errors import CellgaugeError
from cellgauge.grid import REMOTE, is_remote
from cellgauge.models.base import adapter_names
from cellgauge.organisms import organism
from cellgauge.predictors.base import predictor_names

WORKFLOW = Path(__file__).resolve().parents[2]


class ConfigError(CellgaugeError):
    """The configuration holds a mistake."""


def check(config: MutableMapping[str, Any]) -> None:
    """Check `config` against the schema and itself, and fill in the defaults of `run` and the kinds of models.

    Raises:
        ConfigError: one sentence per fault, unknown keys and names with the nearest known one.
    """
    import yaml

    schema = yaml.safe_load((WORKFLOW / "schemas" / "config.schema.yaml").read_text(encoding="utf-8"))
    faults = list(_schema_faults(config, schema))
    if not faults:
        for key, rule in schema["properties"]["run"]["properties"].items():
            if "default" in rule:
                config["run"].setdefault(key, deepcopy(rule["default"]))
        for model in config["models"].values():
            model.setdefault("kind", _kind(model))
        faults = [*_model_faults(config), *_dataset_faults(config), *_task_faults(config), *_run_faults(config)]
    if faults:
        raise ConfigError("the configuration has a mistake:\n  " + "\n  ".join(faults))


def _kind(model: Mapping[str, Any]) -> str:
    """Return what a model is that does not say so: what the report compares it with depends on it."""
    if model["adapter"].startswith("precomputed"):
        return "precomputed"
    return "foundation" if "weights" in model else "baseline"


def read(further: Sequence[str | Path] = ()) -> dict[str, Any]:
    """Return the checked configuration as Snakemake puts it together: the catalogue, config.yaml, then `further` files.

    Raises:
        ConfigError: see `check`; or a file cannot be read.
    """
    import yaml
    from snakemake.utils import update_config

    merged: dict[str, Any] = {}
    own = (WORKFLOW.parent / "config" / f"{name}.yaml" for name in ("models", "datasets", "tasks", "config"))
    for path in (*own, *further):
        try:
            update_config(merged, yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {})
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"{path} cannot be read as a configuration: {' '.join(str(error).split())}") from None
    check(merged)
    return merged


def _schema_faults(config: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    from jsonschema import Draft202012Validator

    for error in sorted(Draft202012Validator(schema).iter_errors(config), key=lambda error: list(map(str, error.path))):
        where = ".".join(map(str, error.absolute_path)) or "the top level"
        if error.validator == "additionalProperties" and isinstance(error.instance, Mapping):
            known = list(error.schema.get("properties", {}))
            for key in sorted(set(error.instance) - set(known)):
                yield f"{where}: unknown key '{key}'{_hint(key, known)}"
        elif error.validator == "required":
            missing = next(name for name in error.validator_value if name not in error.instance)
            yield f"{where}: key '{missing}' is missing"
        elif error.validator in ("pattern", "not") and "propertyNames" in error.absolute_schema_path:
            yield f"{where}: '{error.instance}' cannot be a name: use a-z, 0-9 and _, beginning with a letter, and not 'all'"
        else:
            yield f"{where}: {error.message}"


def _model_faults(config: Mapping[str, Any]) -> Iterator[str]:
    adapters = [*adapter_names(), *predictor_names()]
    environments = _environments()
    for name, model in config["models"].items():
        where = f"models.{name}"
        if model["adapter"] not in adapters:
            yield f"{where}.adapter: no adapter '{model['adapter']}'{_hint(model['adapter'], adapters)}"
        if model.get("env", "baselines") not in environments:
            yield f"{where}.env: no environment '{model['env']}'{_hint(model['env'], environments)}"
        yield from _weights_faults(where, model)
        yield from _new_species_faults(where, model)
        if model["adapter"] == "precomputed" and "path" not in model:
            yield f"{where}: precomputed embeddings need a `path`, such as my_model/{{dataset}}/{{split}}.npy"
        if model["adapter"] == "precomputed_responses" and "path" not in model:
            yield f"{where}: precomputed predictions need a `path`, such as my_model/{{dataset}}.csv"
        if model.get("organisms", "any") != "any":
            yield from _organism_faults(f"{where}.organisms", model["organisms"])
        for dataset in model.get("leakage", ()):
            if dataset not in config["datasets"]:
                yield f"{where}.leakage: no dataset '{dataset}'{_hint(dataset, list(config['datasets']))}"
        known = [*config["datasets"], *(f"{d}/{s}" for d, entry in config["datasets"].items() for s in entry["splits"])]
        for item in model.get("splits", ()):
            if item not in known:
                yield f"{where}.splits: no dataset or split '{item}'{_hint(item, known)}"
    yield from _shared_weights_faults(config["models"])


def _task_faults(config: Mapping[str, Any]) -> Iterator[str]:
    environments = _environments()
    for name, task in config["tasks"].items():
        if "env" in task and task["env"] not in environments:
            yield f"tasks.{name}.env: no environment '{task['env']}'{_hint(task['env'], environments)}"


def _environments() -> list[str]:
    return sorted(path.stem for path in (WORKFLOW / "envs").glob("*.yaml"))


def _weights_faults(where: str, model: Mapping[str, Any]) -> Iterator[str]:
    if "path" in model and "weights" in model:
        yield f"{where}: `path` is for embeddings, `weights` for checkpoints; give one of them"
    if isinstance(model.get("weights"), str) and is_remote(model["weights"]):
        yield f"{where}.weights: a folder on this machine, or {{file name: URL}}, not a single URL"
    yield from _organism_faults(f"{where}.species_weights", list(model.get("species_weights", {})))
    for key, name, url in _weights_files(model):
        yield from _url_faults(f"{where}.{key}", url)
        if not is_remote(url):
            yield f"{where}.{key}: '{name}' must be a URL; give files on this machine as a folder, `weights: my/folder`"


def _new_species_faults(where: str, model: Mapping[str, Any]) -> Iterator[str]:
    added = model.get("new_species", {})
    if added and (model["adapter"] != "uce" or "weights" not in model):
        yield f"{where}.new_species: for models of the adapter 'uce' that have `weights` alone"
    yield from _organism_faults(f"{where}.new_species", list(added))
    for name, files in added.items():
        for key, url in files.items():
            yield from _url_faults(f"{where}.new_species.{name}.{key}", url)


def _shared_weights_faults(models: Mapping[str, Any]) -> Iterator[str]:
    """Check that what has one name in one folder is one object."""
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for model, entry in models.items():
        folder = entry.get("weights_folder", model)
        for key, name, url in _weights_files(entry):
            other, expected = first.setdefault((folder, name), (model, url))
            if url != expected:
                yield (
                    f"models.{model}.{key}: '{name}' is another object than models.{other} has under this name in the"
                    f" folder '{folder}' that they share"
                )


def _weights_files(model: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield (key, file name, URL) of the files of a checkpoint."""
    parts = {"weights": model.get("weights", {})}
    parts |= {f"species_weights.{name}": files for name, files in model.get("species_weights", {}).items()}
    for key, files in parts.items():
        if isinstance(files, Mapping):
            yield from ((key, name, url) for name, url in files.items())


def _dataset_faults(config: Mapping[str, Any]) -> Iterator[str]:
    for name, dataset in config["datasets"].items():
        where = f"datasets.{name}"
        names: dict[str, str] = {}
        for split, own in dataset["splits"].items():
            own = {"url": own} if isinstance(own, str) else own or {}
            url = own.get("url") or dataset.get("url")
            species = own.get("organism") or dataset.get("organism")
            if not url:
                yield f"{where}.splits.{split}: no `url`, neither here nor on the dataset"
                continue
            yield from _url_faults(f"{where}.splits.{split}", url)
            file = url.rpartition("!")[2].rpartition("/")[2]
            if names.setdefault(file, url) != url:
                yield f"{where}.splits.{split}: two objects of the dataset are called '{file}'"
            if species:
                yield from _organism_faults(f"{where}.splits.{split}", [species])
            else:
                yield f"{where}.splits.{split}: no `organism`, neither here nor on the dataset"
        for task in dataset.get("tasks", ()):
            if task not in config["tasks"]:
                yield f"{where}.tasks: no task '{task}'{_hint(task, list(config['tasks']))}"
        yield from _screen_faults(where, dataset)
        if "orthologues" in dataset:
            yield from _organism_faults(f"{where}.orthologues.columns", list(dataset["orthologues"]["columns"]))


def _screen_faults(where: str, dataset: Mapping[str, Any]) -> Iterator[str]:
    """Check that what only screens have stands with screens, and that conditions are held out in one way."""
    own = ("control", "separator", "pool_guides", "expression", "partition_seed", "test_conditions", "planted")
    ways = [f"`{key}`" for key in ("partition_seed", "test_conditions") if key in dataset]
    ways += ["`columns.partition`"] if "partition" in dataset["columns"] else []
    if dataset["modality"] != "perturbation":
        for key in own:
            if key in dataset:
                yield f"{where}.{key}: only data of modality perturbation have it"
    elif len(ways) > 1:
        yield f"{where}: test conditions are given in two ways, {' and '.join(ways)}; keep one"


def _run_faults(config: Mapping[str, Any]) -> Iterator[str]:
    run = config["run"]
    for kind in ("models", "tasks"):
        for name in run[kind]:
            if name not in config[kind]:
                yield f"run.{kind}: no {kind[:-1]} '{name}'{_hint(name, list(config[kind]))}"
    known = sorted({model["needs_acceptance"] for model in config["models"].values() if "needs_acceptance" in model})
    for name in run["accept_licences"]:
        if name not in known:
            yield f"run.accept_licences: no model asks for '{name}'{_hint(name, known)}"
    for item in run["datasets"]:
        dataset, _, split = item.partition("/")
        if dataset not in config["datasets"]:
            yield f"run.datasets: no dataset '{dataset}'{_hint(dataset, list(config['datasets']))}"
        elif split and split not in config["datasets"][dataset]["splits"]:
            known = list(config["datasets"][dataset]["splits"])
            yield f"run.datasets: dataset '{dataset}' has no split '{split}'{_hint(split, known)}"


def _organism_faults(where: str, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        try:
            organism(name)
        except CellgaugeError as error:
            yield f"{where}: {error}"


def _url_faults(where: str, url: str) -> Iterator[str]:
    scheme, separator, _ = url.partition("://")
    if separator and scheme not in (*REMOTE, "file"):
        yield f"{where}: unknown kind of URL '{scheme}://'; there are {', '.join(REMOTE)}, file and plain paths"


def _hint(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(str(name), list(map(str, known)), 1)
    return f", did you mean '{near[0]}'?" if near else f" (known: {', '.join(map(str, known)) or 'none'})"
