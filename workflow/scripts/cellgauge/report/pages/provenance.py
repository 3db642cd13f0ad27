"""Provenance: the code, configuration, data, weights and environment that the numbers come from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cellgauge.report.pages import Page
from cellgauge.results.provenance import date_text, machine_text, version_text
from cellgauge.results.read import Tables

UNKNOWN_SUM = "not known"
DIFFERENCES = "What the configuration of this run adds to the catalogue, or changes of it."
WEIGHTS = "The sha256 of each file, where it was fetched or lies on the machine."
ENVIRONMENTS = (
    "Packages where the tables were made, and digests of the files that say what is installed for models and tasks."
)


def pages(tables: Tables) -> Iterator[Page]:
    """Yield the page, unless the tables were made without a provenance."""
    about = tables.provenance
    if about:
        yield Page("provenance", "Provenance", "provenance.html", {"lists": list(_lists(about))})


def _lists(about: Mapping[str, Any]) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """Yield a heading, a sentence and rows of (name, value)."""
    run = {
        "Name": about["name"],
        "cellgauge": version_text(about),
        "Tables made": date_text(about),
        "on": machine_text(about),
        "Configuration": about["config_digest"],
        "Seeds": ", ".join(map(str, about["seeds"])),
    }
    changes = {key: _short(value) for key, value in about["differences"].items()}
    params = {
        f"{kind[:-1]} {name}": _short(entry["params"])
        for kind in ("models", "tasks")
        for name, entry in about[kind].items()
        if entry["params"]
    }
    data = {name: f"{entry['source']} {entry['sha256'] or UNKNOWN_SUM}" for name, entry in about["data"].items()}
    files = [file for entry in about["models"].values() for file in entry["files"]]
    weights = {file["url"]: file["sha256"] or UNKNOWN_SUM for file in files}
    packages = {"Python": about["python"], **about["packages"], **about["environments"]}
    lists = (
        ("Run", "", run),
        ("Differences from the catalogue", DIFFERENCES, changes),
        ("Parameters", "Everything else has the default of its code.", params),
        ("Data", "The source of each split, and its sha256.", data),
        ("Weights and published embeddings", WEIGHTS, weights),
        ("Code", "A digest of the code of each stage, without comments and docstrings.", about["code"]),
        ("Environments", ENVIRONMENTS, packages),
    )
    for heading, sentence, values in lists:
        yield heading, sentence, list(values.items())


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:297]}..."
