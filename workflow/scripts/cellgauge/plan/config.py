"""Check the merged configuration before the grid is built: every fault is one sentence that names the key."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from cellgauge.core.errors import CellgaugeError, did_you_mean, one_line
from cellgauge.core.yaml_files import check_size, read_yaml
from cellgauge.data.genes import hub_of
from cellgauge.data.organisms import organism
from cellgauge.data.sets import ALL, ordered
from cellgauge.inference.adapter_job import Traits
from cellgauge.models.base import adapter_names
from cellgauge.plan.paths import REMOTE, Outputs, file_name, is_remote
from cellgauge.plan.run import KINDS, SCREEN_OPTIONS, tables_of
from cellgauge.plan.sources import ROOT
from cellgauge.predictors.base import predictor_names, traits_of
from cellgauge.tasks.traits import task_traits

SCHEMA = ROOT / "workflow/schemas/config.schema.yaml"
LONGEST_NAME = 150
"""Of a fetched file: what a file system allows, less what is added to it on its way."""
PLACEHOLDERS = ("dataset", "split")
"""What a model's `path` may hold in braces."""
CATALOGUE = (*KINDS, "config")
"""The files of config/ that are always read, in this order."""
NOT_OF_RUNS = ("resources", "logs", "benchmarks", "config", "workflow")
"""Folders of a working folder in which no run may put its tables."""


class ConfigError(CellgaugeError):
    """The configuration holds a mistake."""


def check(config: MutableMapping[str, Any]) -> None:
    """Check `config` against the schema and itself; fill in defaults of `run` and kinds of models, and add what `also` names.

    Raises:
        ConfigError: one sentence per fault, unknown keys and names with the nearest known one.
    """
    try:
        check_size(config)
    except ValueError as error:
        raise ConfigError(f"error in the configuration: {error}") from None
    faults = list(_schema_faults(config))
    if not faults:
        _fill_in_defaults(config)
        faults = [*_model_faults(config), *_dataset_faults(config), *_task_faults(config), *_published_faults(config)]
        faults += [*_run_faults(config), *_results_faults(config), *_add_also(config)]
    if faults:
        raise ConfigError("error in the configuration:\n  " + "\n  ".join(faults))


def _fill_in_defaults(config: MutableMapping[str, Any]) -> None:
    for key, rule in _parsed(SCHEMA)["properties"]["run"]["properties"].items():
        if "default" in rule:
            config["run"].setdefault(key, deepcopy(rule["default"]))
    for model in config["models"].values():  # what the report compares a model with depends on its kind
        kind = "foundation" if "weights" in model else "baseline"
        model.setdefault("kind", "precomputed" if model["adapter"].startswith("precomputed") else kind)
    config.setdefault("published", {})


def catalogue() -> dict[str, Any]:
    """Return the configuration as shipped, with defaults filled in, for a comparison: it is not checked."""
    merged = _shipped()
    _fill_in_defaults(merged)
    return merged


def _shipped() -> dict[str, Any]:
    from snakemake.utils import update_config

    merged: dict[str, Any] = {}
    for name in CATALOGUE:
        update_config(merged, deepcopy(_parsed(ROOT / "config" / f"{name}.yaml")))
    return merged


@cache  # planning reads the catalogue, and compares with it what a run uses
def _parsed(path: Path) -> dict[str, Any]:
    """Return what a file of ours holds, which needs none of the care that is taken with others'."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster where PyYAML was built with it
    return yaml.load(path.read_text(encoding="utf-8"), loader)


def read(further: Sequence[str | Path] = ()) -> dict[str, Any]:
    """Return the checked configuration as Snakemake puts it together: the catalogue, config.yaml, then `further` files."""
    from snakemake.utils import update_config

    merged: dict[str, Any] = {}
    for path in further:
        update_config(merged, _settings(Path(path)))
    return completed(merged)


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked configuration: the catalogue and config.yaml, with `config` laid over them key by key.

    Read here and not by `configfile:`, which Snakemake leaves out where this workflow is a module of another.
    """
    from snakemake.utils import update_config

    merged = _shipped()
    update_config(merged, config)
    check(merged)
    return merged


def _settings(path: Path) -> dict[str, Any]:
    """Return the settings in a file; raise ConfigError that names the line where it is no YAML."""
    import yaml

    if path.suffix not in (".yaml", ".yml", ".json"):
        raise ConfigError(
            f"'{path}' comes after --configfile but is not a .yaml file; write files to make before --configfile, or after --"
        )
    try:
        settings = read_yaml(path) or {}
    except FileNotFoundError:
        near = did_you_mean(path.name, sorted(p.name for p in path.parent.glob("*.y*ml")), otherwise="")
        raise ConfigError(f"{path}: there is no such file{near}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: it cannot be read as a configuration ({one_line(error)})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = one_line(getattr(error, "problem", None) or error)
        raise ConfigError(
            f"{path}{line}: not YAML ({problem}); put text with braces, colons or a leading * in quotes, and indent with blanks"
        ) from None
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: it has no `key: value` at the top level")
    return settings


def _schema_faults(config: Mapping[str, Any]) -> Iterator[str]:
    from jsonschema import Draft202012Validator

    errors = Draft202012Validator(_parsed(SCHEMA)).iter_errors(config)
    for error in sorted(errors, key=lambda error: list(map(str, error.path))):
        where = ".".join(map(str, error.absolute_path)) or "the top level"
        if error.validator == "additionalProperties" and isinstance(error.instance, Mapping):
            yield from _unknown(where, "unknown key", sorted(error.instance), error.schema.get("properties", ()))
        elif error.validator == "required":
            missing = next(name for name in error.validator_value if name not in error.instance)
            yield f"{where}: key '{missing}' is missing"
        elif error.validator in ("pattern", "not") and "propertyNames" in error.absolute_schema_path:
            yield f"{where}: '{error.instance}' is not a valid name: use a-z, 0-9 and _, first a letter; 'all' is taken"
        else:
            yield f"{where}: {error.message}"


def _unknown(where: str, what: str, names: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    """Yield a fault, which says `what` ("no model"), for each name that is not known."""
    known = list(known)
    yield from (f"{where}: {what} '{name}'{did_you_mean(name, known)}" for name in names if name not in known)


def _model_faults(config: Mapping[str, Any]) -> Iterator[str]:
    adapters = [*adapter_names(), *predictor_names()]
    parts = [f"{name}/{split}" for name, entry in config["datasets"].items() for split in entry["splits"]]
    for name, model in config["models"].items():
        where = f"models.{name}"
        if model["adapter"] in adapters:
            yield from _adapter_faults(where, model, traits_of(model["adapter"]))
        yield from _unknown(f"{where}.adapter", "no adapter", [model["adapter"]], adapters)
        yield from _environment_faults(where, model)
        yield from _weights_faults(where, model)
        if model.get("organisms", "any") != "any":
            yield from _organism_faults(f"{where}.organisms", model["organisms"])
        yield from _unknown(f"{where}.leakage", "no dataset", model.get("leakage", ()), config["datasets"])
        known = [*config["datasets"], *parts]
        yield from _unknown(f"{where}.splits", "no dataset or split", model.get("splits", ()), known)
    yield from _shared_weights_faults(config["models"])


def _task_faults(config: Mapping[str, Any]) -> Iterator[str]:
    for name, task in config["tasks"].items():
        where = f"tasks.{name}"
        try:
            params = task_traits(name).params
        except CellgaugeError as error:
            yield f"{where}: {error}"
            continue
        yield from _unknown(f"{where}.params", "unknown parameter", task.get("params", ()), params)
        scores = [m for m, facts in task.get("metrics", {}).items() if facts["higher_is_better"] is not None]
        yield from _unknown(f"{where}.headline", "no score", filter(None, [task.get("headline")]), scores)
        yield from _environment_faults(where, task)


def _published_faults(config: Mapping[str, Any]) -> Iterator[str]:
    for name, entry in config["published"].items():
        where, values = f"published.{name}", entry.get("values", ())
        if ("url" in entry) == ("values" in entry):
            yield f"{where}: give either `url`, a result file, or `values`"
        if "url" in entry:
            yield from _url_faults(f"{where}.url", entry["url"])
            if "format" not in entry:
                yield f"{where}: key 'format' is missing, which says how to read the file"
        models = [*entry.get("models", {}).values(), *entry.get("spread", {}), *(value["model"] for value in values)]
        yield from _unknown(where, "no model", dict.fromkeys(models), config["models"])
        places = [*entry.get("datasets", {}).values(), *(value["dataset"] for value in values)]
        datasets = dict.fromkeys(place.partition("/")[0] for place in places)
        yield from _unknown(where, "no dataset", datasets, config["datasets"])


def _environment_faults(where: str, entry: Mapping[str, Any]) -> Iterator[str]:
    if "env" in entry:
        known = sorted(path.stem for path in ROOT.glob("workflow/envs/*.yaml"))
        yield from _unknown(f"{where}.env", "no environment", [entry["env"]], known)


def _weights_faults(where: str, model: Mapping[str, Any]) -> Iterator[str]:
    weights = model.get("weights")
    if "path" in model and "weights" in model:
        yield f"{where}: `path` is for embeddings, `weights` for checkpoints; give one of them"
    if "splits_per_job" in model and "weights" not in model:
        yield f"{where}.splits_per_job: it has no effect without `weights`; remove the key"
    if isinstance(model.get("path"), str):
        yield from _url_faults(f"{where}.path", model["path"], PLACEHOLDERS)
    if isinstance(weights, str):
        yield from _url_faults(f"{where}.weights", weights)
        if is_remote(weights):
            yield f"{where}.weights: a folder on this machine, or {{file name: URL}}, not a single URL"
    yield from _organism_faults(f"{where}.species_weights", list(model.get("species_weights", {})))
    for key, name, url in _weights_files(model):
        yield from _url_faults(f"{where}.{key}", url)
        if not is_remote(url):
            yield f"{where}.{key}: '{name}' must be a URL; give files on this machine as a folder, `weights: my/folder`"


def _adapter_faults(where: str, model: Mapping[str, Any], traits: Traits) -> Iterator[str]:
    """Check what an adapter says of its models' entries."""
    if traits.path and "path" not in model:
        yield f"{where}: models of the adapter '{model['adapter']}' need a `path`, such as {traits.path}"
    added, sources = model.get("new_species", {}), traits.species_sources
    if added and not sources:
        which = f"the adapter '{model['adapter']}' does not support additional species"
        yield f"{where}.new_species: {which}; remove the key"
        return
    if added and "weights" not in model:
        yield f"{where}.new_species: the model needs `weights`, to which the files of a species belong"
    yield from _organism_faults(f"{where}.new_species", list(added))
    for name, files in added.items():
        fetched = [file_name(url) for url in files.values() if is_remote(url)]
        if len(set(fetched)) < len(fetched):
            yield f"{where}.new_species.{name}: two of its files are called '{max(fetched, key=fetched.count)}'"
        yield from (f"{where}.new_species.{name}: key '{key}' is missing" for key in sources if key not in files)
        yield from _unknown(f"{where}.new_species.{name}", "unknown key", files, sources)
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
                others = f"that of models.{other} in their shared folder '{folder}'"
                yield f"models.{model}.{key}: '{name}' is another file than {others}"


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
        urls: dict[str, str] = {}
        for split, entry in dataset["splits"].items():
            place = f"{where}.splits.{split}"
            entry = {"url": entry} if isinstance(entry, str) else entry or {}
            url = entry.get("url") or dataset.get("url")
            species = entry.get("organism") or dataset.get("organism")
            if not url:
                yield f"{place}: no `url`, neither here nor on the dataset"
                continue
            yield from _url_faults(place, url)
            yield from _object_faults(place, url, urls)
            yield from _organism_faults(place, filter(None, [species]))
            if not species:
                yield f"{place}: no `organism`, neither here nor on the dataset"
        yield from _unknown(f"{where}.tasks", "no task", dataset.get("tasks", ()), config["tasks"])
        yield from _screen_faults(where, dataset)
        for table in tables_of(dataset):
            yield from _url_faults(f"{where}.orthologues.url", table["url"])
            yield from _object_faults(f"{where}.orthologues.url", table["url"], urls)
        yield from _set_faults(where, dataset)
        yield from _orthologue_faults(f"{where}.orthologues", tables_of(dataset))


def _object_faults(where: str, url: str, urls: MutableMapping[str, str]) -> Iterator[str]:
    """Check that what has one name in the folder of a dataset is one object; `urls` holds those before by their names."""
    file = file_name(url)
    if is_remote(url) and urls.setdefault(file, url) != url:
        yield f"{where}: two objects of the dataset are called '{file}'"


def _set_faults(where: str, dataset: Mapping[str, Any]) -> Iterator[str]:
    """Check that every set has splits, and a name, of its own."""
    known, names = list(dataset["splits"]), dict[tuple[str, ...], str]()
    for name, splits in dataset.get("sets", {}).items():
        yield from _unknown(f"{where}.sets.{name}", "no split", splits, known)
        if name in known:
            yield f"{where}.sets: '{name}' is the name of a split; call the set something else"
        lacking = ", ".join(split for split in known if split not in splits)
        if name == ALL and lacking:
            yield f"{where}.sets.{ALL}: the set lacks {lacking}; add it, or use another name"
        other = names.setdefault(ordered(splits), name)
        if other != name:
            yield f"{where}.sets: '{other}' and '{name}' are the same splits; keep one"


def _orthologue_faults(where: str, tables: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Check that the tables of one-to-one orthologues can be joined on the genes of one species."""
    faults = [fault for table in tables for fault in _organism_faults(f"{where}.columns", list(table["columns"]))]
    yield from faults
    if faults or not tables:
        return
    if len({table.get("key", "symbol") for table in tables}) > 1:
        yield f"{where}: one table names genes by symbol and another by Ensembl id; tables are joined by one `key`"
    try:
        hub = hub_of([table["columns"] for table in tables])
    except CellgaugeError as error:
        yield f"{where}: {error}"
        return
    others = [name for table in tables for name in {organism(name).name for name in table["columns"]} - {hub}]
    for name in sorted({name for name in others if others.count(name) > 1}):
        yield f"{where}: two tables have a column of {name}; keep one"
    for table in tables:
        if len({type(column) for column in table["columns"].values()}) > 1:
            yield f"{where}.columns: give names of columns, or positions in a csv without a header, not both"


def _screen_faults(where: str, dataset: Mapping[str, Any]) -> Iterator[str]:
    """Check that only screens have what screens have, and that conditions are held out in one way."""
    ways = [f"`{key}`" for key in ("partition_seed", "test_conditions") if key in dataset]
    ways += ["`columns.partition`"] if "partition" in dataset["columns"] else []
    if dataset["modality"] != "perturbation":
        keys = [key for key in SCREEN_OPTIONS if key in dataset]
        yield from (f"{where}.{key}: only for datasets of modality perturbation" for key in keys)
    elif len(ways) > 1:
        yield f"{where}: test conditions are given twice, by {' and '.join(ways)}; keep one"


def _run_faults(config: Mapping[str, Any]) -> Iterator[str]:
    run, datasets = config["run"], config["datasets"]
    for kind in ("models", "tasks"):
        yield from _unknown(f"run.{kind}", f"no {kind[:-1]}", run[kind], config[kind])
    yield from _unknown("run.published", "there is no", run["published"], config["published"])
    licences = sorted({model["needs_acceptance"] for model in config["models"].values() if "needs_acceptance" in model})
    yield from _unknown("run.accept_licences", "no model asks for", run["accept_licences"], licences)
    for item in run["datasets"]:
        dataset, _, split = item.partition("/")
        yield from _unknown("run.datasets", "no dataset", [dataset], datasets)
        if split and dataset in datasets:
            parts = [*datasets[dataset]["splits"], *datasets[dataset].get("sets", [ALL])]
            yield from _unknown("run.datasets", f"dataset '{dataset}' has no split or set", [split], parts)


def _results_faults(config: Mapping[str, Any]) -> Iterator[str]:
    """Check that the tables of a run go to a folder inside the working folder that holds nothing else."""
    folder = config.get("results", Outputs.folder)
    first, _, rest = folder.partition("/")
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", folder, re.ASCII):
        remedy = "give a relative path of letters, digits, '_', '.' and '-', such as runs/my_run"
        yield f"results: '{folder}' is not a folder inside the working folder; {remedy}"
    elif first in NOT_OF_RUNS or (first == Outputs.folder and rest):
        yield f"results: '{folder}' is used by all runs; choose another folder, such as runs/my_run"


def _add_also(config: MutableMapping[str, Any]) -> list[str]:
    """Add what `run.also` names to the lists of the run; return the faults. A second time adds nothing."""
    run, faults = config["run"], []
    for item in run["also"]:
        name, slash, split = item.partition("/")
        kinds = [kind for kind in KINDS if name in config[kind] and (kind == "datasets" or not slash)]
        if not kinds:
            known = [each for kind in KINDS for each in config[kind]]
            faults.append(f"run.also: no model, dataset, task or published source '{name}'{did_you_mean(name, known)}")
        elif len(kinds) > 1:
            lists = " and ".join(f"run.{kind}" for kind in kinds)
            faults.append(f"run.also: '{name}' could be in {lists}; add it to the right list")
        elif split and split not in (splits := config["datasets"][name]["splits"]):
            faults += _unknown("run.also", f"dataset '{name}' has no split", [split], splits)
        elif item not in run[kinds[0]]:
            run[kinds[0]] = [*run[kinds[0]], item]
    return faults


def _organism_faults(where: str, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        try:
            organism(name)
        except CellgaugeError as error:
            yield f"{where}: {error}"


def _odd(url: str) -> str:
    """Return the first character that no shell or URL should hold, cannot be seen, or turns others round; "" without."""
    match = re.search(r"['\"`$;|<>\\]|[^\S ]" + (r"| |[\[\]]|[^ -~]" if is_remote(url) else ""), url)
    return match[0] if match else next((sign for sign in url if unicodedata.category(sign).startswith("C")), "")


def _url_faults(where: str, url: str, placeholders: Sequence[str] = ()) -> Iterator[str]:
    unknown = [name for name in re.findall(r"{([^{}]*)}", url) if name not in placeholders]
    known = " and ".join(f"{{{name}}}" for name in placeholders)
    remedy = f"{known} are filled in" if known else "there are no placeholders here"
    if unknown:
        yield f"{where}: no placeholder '{{{unknown[0]}}}' in '{url}', {remedy}"
    elif re.search(r"[{}]", re.sub(r"{[^{}]*}", "", url)):
        yield f"{where}: an unmatched brace in '{url}', {remedy}"
    scheme, separator, _ = url.partition("://")
    if separator and scheme not in (*REMOTE, "file"):
        yield f"{where}: unknown kind of URL '{scheme}://'; known: {', '.join(REMOTE)}, file and plain paths"
    elif odd := _odd(url):
        yield f"{where}: {'a URL' if separator else 'a path'} cannot hold {odd!a}: {url!r}"
    elif is_remote(url) and (not file_name(url) or file_name(url).startswith(".")):
        yield f"{where}: '{url}' does not end in the name of a file; names must not begin with a dot"
    elif is_remote(url) and len(file_name(url)) > LONGEST_NAME:
        yield f"{where}: the name of the file in '{url}' has more than {LONGEST_NAME} characters"
