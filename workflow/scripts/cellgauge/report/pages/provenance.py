"""Provenance: the code, configuration, data, weights and environment that the numbers come from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cellgauge.report.pages import Page
from cellgauge.results.provenance import date_text, machine_text, version_text
from cellgauge.results.read import Tables

UNKNOWN_SUM = "not known"


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
    yield "Run", "", list(run.items())
    changes = [(key, _short(value)) for key, value in about["differences"].items()]
    yield (
        "Differences from the catalogue",
        "What this run's configuration adds or changes.",
        changes,
    )
    params = [
        (f"{kind[:-1]} {name}", _short(entry["params"]))
        for kind in ("models", "tasks")
        for name, entry in about[kind].items()
        if entry["params"]
    ]
    yield "Parameters", "Everything else has the default of its code.", params
    data = [(name, f"{entry['source']} {entry['sha256'] or UNKNOWN_SUM}") for name, entry in about["data"].items()]
    yield "Data", "The source of each split, and its sha256.", data
    files = {
        each["url"]: each["sha256"] or UNKNOWN_SUM for entry in about["models"].values() for each in entry["files"]
    }
    yield (
        "Weights and published embeddings",
        "The sha256 of each file.",
        list(files.items()),
    )
    yield (
        "Code",
        "A digest of the code of each stage, without comments and docstrings.",
        list(about["code"].items()),
    )
    packages = {"Python": about["python"], **about["packages"], **about["environments"]}
    sentence = "Packages where the tables were made, and digests of the lock files of models and tasks."
    yield "Environments", sentence, list(packages.items())


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:297]}..."
