"""Result files of others, read into score rows that say where they come from (`source`).

A file is data: it is checked field by field, and nothing of it is executed. What is not as its format has it is one
sentence that names the place.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cellgauge.core.errors import CellgaugeError, ContractError, one_line, reading
from cellgauge.data.sets import name_of
from cellgauge.files.score import LATER_COLUMNS, SCORE_COLUMNS, TABLE_COLUMNS, Score, read_scores, write_scores
from cellgauge.results.czbenchmarks import CLASSIFIERS, METRICS, PROFILE, TASKS

FORMATS = ("vcp", "czbenchmarks", "scores")
IDENTITY = tuple(name for name in SCORE_COLUMNS if name not in ("value", "status", "reason", "source"))
"""The columns that tell two values of one source apart."""


class PublishedError(CellgaugeError):
    """A result file of others is not as its format has it, or its entry in the configuration does not fit it."""


def import_published(
    path: str | Path | None,
    output: str | Path,
    *,
    source: str,
    format: str = "scores",
    models: Mapping[str, str] | None = None,
    datasets: Mapping[str, str] | None = None,
    left_out: Sequence[Mapping[str, str]] = (),
    values: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the score rows of a result file, or of `values`, as a score file whose rows name `source`.

    Args:
        path: the file, None where the entry itself holds the values.
        format: one of FORMATS: what vcp-cli ships (records of cz-benchmarks' results), what `czbenchmarks run` wrote and
            `exports.py` writes, or score rows (TSV, CSV or Parquet).
        models: their name -> our key. Without it names stay as they are; with it, it must hold every name.
        datasets: their name (several joined by "+") -> our "dataset/split"; `{split}` on both sides stands for any name of a
            split. Without it names must be "dataset/split".
        left_out: fields of a score row and a `reason`: rows with these fields lose their value and say why.
        values: score rows as mappings; fields that are absent are empty, the profile is reference.

    Raises:
        PublishedError: the file or the entry is not as described.
    """
    if path is None:
        rows = [_score({"profile": PROFILE, **value}, f"value {number}") for number, value in enumerate(values, 1)]
    else:
        rows = list(read(path, format))
    rows = [replace(row, source=source, **_in_our_names(row, models, datasets)) for row in rows]
    rows = list(_without_repeats(_without(rows, left_out)))
    if not rows:
        raise PublishedError(f"{path or source}: there is no value in it")
    write_scores(output, rows)


def read(path: str | Path, format: str) -> Iterator[Score]:
    """Yield the values of a result file as score rows that carry the file's own names of models and data.

    `dataset` and `split` are the two halves of "dataset/split" where the file's names are such; else `dataset` holds the name,
    several joined by "+", and `split` is empty. Raise PublishedError where the file is not of this format; names the place in
    it.
    """
    path = Path(path)
    if format == "scores":
        return iter(_read_table(path))
    if format not in FORMATS:
        raise PublishedError(f"there is no format '{format}' of result files; there are {', '.join(FORMATS)}")
    document = _read_json(path)
    return _read_vcp(document, str(path)) if format == "vcp" else _read_czbenchmarks(document, str(path))


# --- score rows ------------------------------------------------------------------------------------------------------


def _read_table(path: Path) -> list[Score]:
    try:
        return _read_parquet(path) if path.suffix == ".parquet" else read_scores(path, by_hand=True)
    except (OSError, ContractError) as error:
        raise PublishedError(f"{path}: cannot be read as score rows ({one_line(error)})") from None


def _read_parquet(path: Path) -> list[Score]:
    import pandas as pd

    try:
        table = pd.read_parquet(path)
    except (ValueError, TypeError) as error:  # pyarrow's errors are ValueErrors
        raise PublishedError(f"{path}: not a readable Parquet table ({one_line(error)})") from None
    table = table.drop(columns=[name for name in TABLE_COLUMNS if name in table])
    columns = [name for name in SCORE_COLUMNS if name in table or name not in LATER_COLUMNS]
    if list(table) != columns:
        raise PublishedError(f"{path}: the columns are {list(table)}, not {list(SCORE_COLUMNS)}")
    table = table.astype(object).where(table.notna(), None)
    return [_score(row, f"{path}, row {number}") for number, row in enumerate(table.to_dict("records"), 1)]


def _score(row: Mapping[str, Any], where: str) -> Score:
    """Return a score row of typed fields, those that are absent empty."""
    if unknown := sorted(set(row) - set(SCORE_COLUMNS)):
        raise PublishedError(f"{where}: there is no column '{unknown[0]}' in a score row")
    whole: dict[str, Any] = {name: _whole(row.get(name), f"{where}, '{name}'") for name in ("seed", "fold")}
    value = row.get("value")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise PublishedError(f"{where}: the value is {value!r}, not a number")
    texts: dict[str, Any] = {n: row.get(n) or "" for n in SCORE_COLUMNS if n not in ("value", "seed", "fold")}
    if wrong := next((name for name, text in texts.items() if not isinstance(text, str)), None):
        raise PublishedError(f"{where}: '{wrong}' is {texts[wrong]!r}, not text")
    texts["status"] = texts["status"] or "ok"
    try:
        return Score(**texts, **whole, value=None if value is None else float(value))
    except ContractError as error:
        raise PublishedError(f"{where}: {error}") from None


def _whole(value: Any, where: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise PublishedError(f"{where} is {value!r}, not a whole number")
    return int(value)


# --- results of cz-benchmarks ----------------------------------------------------------------------------------------


def _read_json(path: Path) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise PublishedError(f"{path}: the key '{twice}' stands twice in one object")
        return dict(pairs)

    with reading(f"{path}: not a readable JSON file", PublishedError):
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)


def _read_vcp(document: Any, path: str) -> Iterator[Score]:
    if not isinstance(document, list):
        raise PublishedError(f"{path}: it holds {_kind(document)}, not the list of records that vcp-cli ships")
    for number, record in enumerate(document, 1):
        where = f"{path}, record {number}"
        task, model = _field(record, "task_key", str, where), _field(record, "model_key", str, where)
        names = _field(record, "dataset_keys", list, where)
        if not names or not all(isinstance(name, str) for name in names):
            raise PublishedError(f"{where}: 'dataset_keys' must be names, one or more")
        metrics = _field(record, "metrics", list, where)
        yield from _values(task, model, names, metrics, "metric_key", ("batch_random_seeds",), where)


def _read_czbenchmarks(document: Any, path: str) -> Iterator[Score]:
    for number, result in enumerate(_field(document, "task_results", list, path), 1):
        where = f"{path}, result {number}"
        model = _field(result, "model", dict, where)
        kind, options = _field(model, "type", str, where), _field(model, "args", dict, where)
        name = options["model"] if list(options) == ["model"] else "-".join([kind, *map(str, options.values())])
        data = _field(result, "datasets", list, where)
        names = [_field(entry, "name", str, where) for entry in data]
        if not names:
            raise PublishedError(f"{where}: it names no data set")
        beside = ("n_values", "value_std_dev", "values_raw", "batch_random_seeds")
        task, metrics = _field(result, "task_name", str, where), _field(result, "metrics", list, where)
        yield from _values(task, str(name), names, metrics, "metric_type", beside, where)


def _values(
    task: str, model: str, data: Sequence[str], metrics: Sequence[Any], key: str, beside: Sequence[str], where: str
) -> Iterator[Score]:
    """Yield the values of one task, model and data set; `key` holds the metric, `beside` may stand beside its value."""
    if task not in METRICS:
        raise PublishedError(f"{where}: unknown task '{task}'; there are {', '.join(METRICS)}")
    our_metrics = {kind: name for name, kind in METRICS[task].items()}
    dataset, split = _dataset_and_split(data)
    for number, metric in enumerate(metrics, 1):
        place = f"{where}, metric {number}"
        kind = _field(metric, key, str, place)
        if unknown := sorted(set(metric) - {key, "params", "value", *beside}):
            raise PublishedError(f"{place}: unknown key '{unknown[0]}', which may tell values apart")
        if kind not in our_metrics:
            raise PublishedError(f"{place}: unknown metric '{kind}' of task {task}; there are {', '.join(our_metrics)}")
        value = _field(metric, "value", (int, float), place)
        if not math.isfinite(value):
            raise PublishedError(f"{place}: the value is {value}, not a number")
        classifier, subset, set_name = _params(task, metric.get("params"), place)
        row = Score(
            our_metrics[kind],
            float(value),
            PROFILE,
            classifier,
            subset,
            task=TASKS.get(task, task),
            model=model,
            dataset=dataset,
            split=set_name or split,
        )
        coverage = (metric.get("params") or {}).get("coverage")
        yield _unusable(row, f"the value is of {coverage}") if coverage else row


def _params(task: str, params: Any, where: str) -> tuple[str, str, str]:
    """Return our classifier and subset of a metric's parameters, and the set of splits that it names, "" for none."""
    params = {} if params is None else params
    if not isinstance(params, dict) or not all(isinstance(value, str) for value in params.values()):
        raise PublishedError(f"{where}: 'params' must be an object of texts")
    if unknown := sorted(set(params) - {"classifier", "subset", "set", "coverage"}):
        raise PublishedError(f"{where}: unknown parameter '{unknown[0]}', which may tell values apart")
    classifier = params.get("classifier", "")
    if task == "label_prediction":
        classifier = classifier or CLASSIFIERS["mean"]
    if not classifier:
        return "", params.get("subset", ""), params.get("set", "")
    mean = re.fullmatch(r"MEAN\((\w+),(\w+),(\w+)\)", classifier)  # releases differ in the order
    if mean and sorted(mean.groups()) == ["knn", "lr", "rf"]:
        classifier = CLASSIFIERS["mean"]
    our_name = next((name for name, cz_name in CLASSIFIERS.items() if cz_name == classifier), None)
    if our_name is None:
        raise PublishedError(f"{where}: unknown classifier '{classifier}'; there are {', '.join(CLASSIFIERS.values())}")
    return our_name, params.get("subset", ""), params.get("set", "")


def _dataset_and_split(names: Sequence[str]) -> tuple[str, str]:
    """Return the halves of "dataset/split", where several are named a set of splits; else (the names joined, "")."""
    parts = [name.partition("/") for name in names]
    if len({dataset for dataset, _, _ in parts}) == 1 and all(split for _, _, split in parts):
        return parts[0][0], name_of(split for _, _, split in parts)
    return "+".join(names), ""


def _field(item: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """Return a field of a JSON object, of the type that it must have."""
    if not isinstance(item, dict):
        raise PublishedError(f"{where}: {_kind(item)} stands where an object with '{key}' belongs")
    if key not in item:
        raise PublishedError(f"{where}: the key '{key}' is missing")
    value = item[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise PublishedError(f"{where}: '{key}' is {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


# --- our names, and what is left out ---------------------------------------------------------------------------------


def _in_our_names(row: Score, models: Mapping[str, str] | None, datasets: Mapping[str, str] | None) -> dict[str, Any]:
    """Return model, dataset and split of a row in our names; `models` or `datasets` is None where they are ours already."""
    model, data = row.model, "/".join(filter(None, (row.dataset, row.split)))
    if models is not None and model not in models:
        raise PublishedError(f"the model '{model}' is not among the entry's `models`; add it with our name for it")
    places = (_filled(*names, data) for names in (datasets or {}).items())
    place = data if datasets is None else next(filter(None, places), "")
    if not place:
        raise PublishedError(f"the data '{data}' are not among the entry's `datasets`; add them as dataset/split")
    dataset, _, split = place.partition("/")
    if not dataset or not split:
        raise PublishedError(f"the data '{data}' are not of the form dataset/split; say in `datasets` what they are")
    return {"model": models[model] if models else model, "dataset": dataset, "split": split}


def _filled(pattern: str, our_name: str, name: str) -> str | None:
    """Return our name for what a pattern fits, None where it does not fit; {split} stands for a split's name."""
    match = re.fullmatch(re.escape(pattern).replace(re.escape("{split}"), "([a-z0-9_]+)"), name)
    return our_name.replace("{split}", match[1] if match.groups() else "{split}") if match else None


def _without(rows: Iterable[Score], rules: Sequence[Mapping[str, str]]) -> list[Score]:
    """Return the rows, those that a rule names without their value and with its reason; raise PublishedError where a rule names
    no value, so it is mistaken.
    """
    fields = [{key: value for key, value in rule.items() if key != "reason"} for rule in rules]
    fitting: set[int] = set()
    result = []
    for row in rows:
        fits = [n for n, of_rule in enumerate(fields) if all(getattr(row, k) == v for k, v in of_rule.items())]
        fitting.update(fits)
        result.append(_unusable(row, rules[fits[0]]["reason"]) if fits and row.status == "ok" else row)
    if mistaken := [of_rule for n, of_rule in enumerate(fields) if n not in fitting]:
        values = ", ".join(f"{key} {value}" for key, value in mistaken[0].items())
        raise PublishedError(f"`left_out` names {values}, which no value has; correct or remove it")
    return result


def _without_repeats(rows: Iterable[Score]) -> Iterator[Score]:
    """Yield the rows; a value that an earlier one of the same identity gave already is left out."""
    first: dict[tuple, float] = {}
    for row in rows:
        key = tuple(getattr(row, name) for name in IDENTITY)
        if row.status != "ok":
            yield row
        elif key in first:
            values = f"{row.value:.6g}, {first[key]:.6g}"
            yield _unusable(row, f"a second record of a value that stands here already ({values})")
        else:
            first[key] = float(row.value or 0)
            yield row


def _unusable(row: Score, reason: str) -> Score:
    return replace(row, value=None, status="not_applicable", reason=reason)
