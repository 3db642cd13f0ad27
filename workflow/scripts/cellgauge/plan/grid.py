"""The benchmark's grid: which (task, model, dataset, split) cells exist, which do not apply and why, and what each needs.

The grid is known from the configuration alone, before anything is downloaded; nothing but the standard library is
imported here. The methods that take `w` are Snakemake input functions: `w` holds the wildcards of a job.

A model's name in a path is its key in config/models.yaml, or `key@seed` for the replicates that `seeds:` asks for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.genes import hub_of
from cellgauge.data.organisms import organism
from cellgauge.data.sets import ALL, name_of, ordered
from cellgauge.files.text_columns import as_text
from cellgauge.inference.adapter_job import Traits
from cellgauge.plan.interpreter import python_of, require
from cellgauge.plan.sources import code
from cellgauge.predictors.base import traits_of
from cellgauge.tasks.traits import task_traits

WEIGHTS = "resources/weights"
SPECIES = "resources/species"
REMOTE = ("s3", "https", "http", "hf", "pypi")


ABOUT = ("title", "also_known_as", "description", "kind", "licence", "citation", "url", "card", "training", "leakage")
ABOUT += ("organisms", "modality", "scope", "adapter", "metrics")
"""What the tables and the report say of an entry of the catalogue."""


class Wildcards(Protocol):
    """The wildcards of a job, as attributes."""

    task: str
    model: str
    dataset: str
    split: str
    object: str
    folder: str
    file: str
    species: str
    source: str


@dataclass(frozen=True)
class Cell:
    """One cell of the grid: a score file that the run makes. `split` is the name of a set where a task spans splits."""

    task: str
    model: str
    dataset: str
    split: str

    @property
    def path(self) -> str:
        return f"results/scores/{self.task}/{self.model}/{self.dataset}/{self.split}.tsv"


@dataclass(frozen=True)
class Skipped:
    """A part of the grid that does not apply: never a job, but a row of the tables with its reason."""

    task: str
    model: str
    dataset: str
    split: str
    reason: str


@dataclass(frozen=True)
class SplitSource:
    """Where a split comes from: the object's URL or path, its species, and the value of `split_by` that selects it.

    `n_cells` is how many cells it has, None where the catalogue does not say.
    """

    url: str
    organism: str
    value: str
    n_cells: int | None = None


class Grid:
    """Everything that the rules ask about the merged and checked configuration."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._models: Mapping[str, Any] = config["models"]
        self._datasets: Mapping[str, Any] = config["datasets"]
        self._tasks: Mapping[str, Any] = config["tasks"]
        self._run: Mapping[str, Any] = config["run"]
        self._published: Mapping[str, Any] = config.get("published", {})

    # --- what was asked for ------------------------------------------------------------------------------------------

    @cached_property
    def models(self) -> list[str]:
        """The models of the run; a model that draws random numbers once more for each further seed."""
        first, *further = self._run["seeds"]
        names = list(dict.fromkeys(self._run["models"]))
        return [
            name if seed == first else f"{name}@{seed}"
            for name in names
            for seed in (first, *(further if self.traits(name).stochastic else ()))
        ]

    @cached_property
    def datasets(self) -> dict[str, list[str]]:
        """The datasets of the run with their splits: all of them, or those named as `dataset/split` or `dataset/set`."""
        chosen: dict[str, list[str]] = {}
        for item in self._run["datasets"]:
            dataset, _, split = item.partition("/")
            splits = self._named_sets(dataset).get(split, [split]) if split else list(self._datasets[dataset]["splits"])
            chosen[dataset] = list(dict.fromkeys([*chosen.get(dataset, []), *splits]))
        return chosen

    @cached_property
    def sets(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """The sets of splits of each dataset of the run: those of its entry, or where the run names splits the set of these."""
        chosen = {}
        for dataset, splits in self.datasets.items():
            named, choice = self._named_sets(dataset), ordered(splits)
            name = next((name for name, own in named.items() if own == choice), name_of(choice))
            chosen[dataset] = named if dataset in self._run["datasets"] else {name: choice}
        return chosen

    def _named_sets(self, dataset: str) -> dict[str, tuple[str, ...]]:
        entry = self._datasets[dataset]
        return {name: ordered(splits) for name, splits in entry.get("sets", {ALL: entry["splits"]}).items()}

    def splits_of(self, dataset: str, name: str) -> list[str]:
        """Return the splits that a part of a path stands for: those of a set, or the split of this name.

        Raises:
            CellgaugeError: the dataset has neither.
        """
        sets = self._named_sets(dataset) | self.sets.get(dataset, {})
        splits = list(self._datasets[dataset]["splits"])
        if name not in sets and name not in splits:
            raise CellgaugeError(
                f"dataset '{dataset}' has no split or set '{name}'; it has {', '.join([*splits, *sets])}"
            )
        return list(sets.get(name, [name]))

    @property
    def tasks(self) -> list[str]:
        """The tasks of the run."""
        return list(dict.fromkeys(self._run["tasks"]))

    # --- what applies ------------------------------------------------------------------------------------------------

    @cached_property
    def _plan(self) -> tuple[list[Cell], list[Skipped]]:
        cells: list[Cell] = []
        skipped: list[Skipped] = []
        for dataset, splits in self.datasets.items():
            for task in self.tasks:
                parts = self.sets[dataset] if self._spans(task) else {split: (split,) for split in splits}
                for model in self.models:
                    if self._is_for_others(task, model, dataset):
                        continue
                    for part, own in parts.items():
                        reason = self._why_not(task, model, dataset, own)
                        if reason:
                            skipped.append(Skipped(task, model, dataset, part, reason))
                        else:
                            cells.append(Cell(task, model, dataset, part))
        return cells, skipped

    @property
    def cells(self) -> list[Cell]:
        """The cells that the run scores."""
        return self._plan[0]

    @property
    def skipped(self) -> list[Skipped]:
        """What does not apply, with reasons."""
        return self._plan[1]

    def _spans(self, task: str) -> bool:
        """Return whether a task spans the splits of a set."""
        return task_traits(task).scope == "dataset"

    def _is_for_others(self, task: str, model: str, dataset: str) -> bool:
        """Return whether the run has other tasks, or other models, for this kind of data: nobody expects a row then."""
        kind = self._datasets[dataset]["modality"]
        if task_traits(task).modality != kind:
            return any(task_traits(other).modality == kind for other in self.tasks)
        return self.traits(model).modality != kind and any(self.traits(o).modality == kind for o in self.models)

    def _why_not(self, task: str, model: str, dataset: str, splits: Sequence[str]) -> str:
        """Return why a model cannot be scored on a task for one split or the splits of a set, "" if it can."""
        entry, own = self._datasets[dataset], self.traits(model)
        offered = entry.get("tasks")
        if entry["modality"] != task_traits(task).modality:
            return f"the task needs {task_traits(task).modality} data, the dataset holds {entry['modality']} data"
        if entry["modality"] != own.modality:
            return f"the model takes {own.modality} data, the dataset holds {entry['modality']} data"
        if offered is not None and task not in offered:
            return f"the dataset is not meant for this task (its entry lists {', '.join(offered)})"
        if self._spans(task):
            species = dict.fromkeys(self.source(dataset, split).organism for split in splits)
            if len(species) < 2 and task_traits(task).compares == "organism":
                return f"the task compares species, the selected splits hold {', '.join(species)} alone"
            if not self._model(model).get("shared_space", own.shared_space):
                if "path" in self._model(model) and "shared_space" not in self._model(model):
                    return (
                        "nothing says that the embeddings of all species come from one model; if they do, write"
                        f" `shared_space: true` in models.{model.partition('@')[0]}"
                    )
                return "the model gives each split axes of its own, so species cannot be compared"
        elif own.scope == "dataset":
            return "the model embeds the splits of a set together, so only tasks that span a set score it"
        if own.needs_ensembl and "ensembl" not in entry.get("columns", {}):
            return "the model knows genes by Ensembl ids, the dataset names no column of them (`columns.ensembl`)"
        if own.scope == "dataset" and "orthologues" not in entry:
            return "the model joins species on one-to-one orthologues, the dataset names no table of them"
        for split in splits:
            why = self._why_not_split(model, dataset, split) or self._why_not_joined(model, dataset, split)
            if why:
                return f"{split}: {why}" if self._spans(task) else why
        return ""

    def _why_not_joined(self, model: str, dataset: str, split: str) -> str:
        species = self.source(dataset, split).organism
        joins = self.traits(model).scope == "dataset" and "orthologues" in self._datasets[dataset]
        if joins and not self._orthologue_tables(dataset, species):
            return (
                f"the model joins species on one-to-one orthologues, no table of the dataset has a column of {species}"
            )
        return ""

    def _why_not_split(self, model: str, dataset: str, split: str) -> str:
        entry = self._model(model)
        licence = entry.get("needs_acceptance")
        if licence and licence not in self._run.get("accept_licences", ()):
            return f"the licence {licence} must be accepted: read it ({entry.get('licence')}), then add it to accept_licences"
        takes = entry.get("organisms", "any")
        species = self.source(dataset, split).organism
        if takes != "any" and species not in {*(organism(name).name for name in takes), *self._added(model)}:
            return f"the model does not take {species} (it takes {', '.join(takes)})"
        covered = entry.get("splits")
        if covered is not None and not {dataset, f"{dataset}/{split}"} & set(covered):
            made_for = self.traits(model).modality == "perturbation"
            return (
                f"the model is for {', '.join(covered)} alone"
                if made_for
                else "the model has no embedding of this split"
            )
        return ""

    # --- targets -----------------------------------------------------------------------------------------------------

    def scores(self, w: object = None) -> list[str]:
        """Return the score files of the run."""
        return [cell.path for cell in self.cells]

    def embeddings(self, w: object = None) -> list[str]:
        """Return the embeddings of the run, and the predictions."""
        return list(dict.fromkeys(path for cell in self.cells for path in self._results(cell)))

    def layouts(self, w: object = None) -> list[str]:
        """Return the pictures of embeddings of the run, one file per embedding."""
        cells = [cell for cell in self.cells if self.modality(cell.dataset) == "expression"]
        embeddings = dict.fromkeys(path for cell in cells for path in self._embeddings(cell))
        return [path.replace("/embeddings/", "/layouts/", 1).replace(".h5ad", ".tsv") for path in sorted(embeddings)]

    def jobs(self, cell: Cell) -> Iterator[tuple[str, str, str]]:
        """Yield (rule, result, log) of every job that a score needs, upstream first."""
        splits = self.splits_of(cell.dataset, cell.split)
        files = [self.source(cell.dataset, split).url for split in splits]
        species = {self.source(cell.dataset, split).organism for split in splits}
        tables = (table for name in sorted(species) for table in self._orthologue_tables(cell.dataset, name))
        files += dict.fromkeys(table["url"] for table in tables)
        results = [("download", _local(url, f"resources/datasets/{cell.dataset}")) for url in files if is_remote(url)]
        results += [("split", f"results/splits/{cell.dataset}/{split}.h5ad") for split in splits]
        for split in splits:
            path = self._model(cell.model).get("path", "")
            if is_remote(path):
                results.append(("download_weights", self._file_of(cell.model, cell.dataset, split)[1]))
            files = self._checkpoint(cell.model, [self.source(cell.dataset, split).organism])
            results += [("download_weights", file) for file in files]
            for species in self._added_of(cell.model, [split], cell.dataset):
                made_of = self._species_sources(cell.model, species).values()
                results += [("download_weights", path) for url, path in made_of if is_remote(url)]
                results.append(("build_species", self._species_folder(cell.model, species)))
        if self.traits(cell.model).modality == "perturbation":
            results.append(("predict", self._prediction(cell)))
            results.append(("truth", self._truth(cell)))
        else:
            results += [("embed", path) for path in self._embeddings(cell)]
        results += [("neighbors", path) for path in self.neighbors(cell)]
        results.append(("score", cell.path))
        for rule, result in results:
            tail = PurePath(result.split("/", 2)[2])
            yield rule, result, f"logs/{rule}/{tail if rule.startswith('download') else tail.with_suffix('')}.log"

    def manifest(self, w: object = None) -> str:
        """Return as JSON what the tables are made of: the paths of `scores`, `layouts` and `published`, and the `catalogue`.

        It grows with the run, and so it is a file: a command has its greatest length (on Linux 131,072 bytes an argument).
        """
        text = {"scores": self.scores(), "layouts": self.layouts(), "published": self.published_rows()}
        text["catalogue"] = self.catalogue()
        return json.dumps(text, sort_keys=True)

    def catalogue(self) -> dict[str, Any]:
        """Return what the tables and the report say of models, datasets and tasks, and what does not apply."""
        shown = {
            "models": {name: self._model(name) for name in self.models},
            "datasets": {name: self._datasets[name] for name in self.datasets},
            "tasks": {name: {**self._tasks[name], **_of_task(name)} for name in self.tasks},
        }
        text: dict[str, Any] = {
            kind: {name: {key: entry[key] for key in ABOUT if key in entry} for name, entry in entries.items()}
            for kind, entries in shown.items()
        }
        for dataset, splits in self.datasets.items():
            if "planted" in self._datasets[dataset]:
                text["datasets"][dataset]["title"] = _semi_synthetic(self._datasets[dataset].get("title") or dataset)
            text["datasets"][dataset]["splits"] = {split: self.source(dataset, split).organism for split in splits}
            text["datasets"][dataset] |= self.size(dataset)
            spanned = dict.fromkeys(
                part.split
                for part in (*self.cells, *self.skipped)
                if part.dataset == dataset and self._spans(part.task)
            )
            if spanned:
                text["datasets"][dataset]["sets"] = {name: self.splits_of(dataset, name) for name in spanned}
        for model in self.models:
            files = [
                url
                for dataset, splits in self.datasets.items()
                for split in splits
                for url in self._files(model, dataset, split)
            ]
            if files:
                text["models"][model]["files"] = list(dict.fromkeys(files))
            own = self.traits(model)
            known = {"uninformed": own.uninformed, "czbenchmarks": own.czbenchmarks}
            text["models"][model] |= {key: value for key, value in known.items() if value}
        text["skipped"] = [list(vars(skipped).values()) for skipped in self.skipped]
        text["published"] = {source: self._about_published(source) for source in self.published}
        return text

    def _files(self, model: str, dataset: str, split: str) -> list[str]:
        """Return the URLs of what a model needs for a split beside the cells, if it takes the split."""
        if self._why_not_split(model, dataset, split):
            return []
        path = self._model(model).get("path", "")
        found = list(self._checkpoint(model, [self.source(dataset, split).organism]).values())
        return [*found, *([_fill(path, dataset, split)] if path else [])]

    # --- what others published ---------------------------------------------------------------------------------------

    @property
    def published(self) -> list[str]:
        """The sources of published values of the run."""
        return list(dict.fromkeys(self._run.get("published", ())))

    def published_rows(self, w: object = None) -> list[str]:
        """Return the score rows of others of the run, one file per source."""
        return [f"results/published/{source}.tsv" for source in self.published]

    def published_file(self, w: Wildcards) -> list[str]:
        """Return the result file of a source, as a list of one, or none where its entry holds the values."""
        url = self._published[w.source].get("url")
        return [_local(url, f"resources/published/{w.source}")] if url else []

    def published_url(self, w: Wildcards) -> str:
        """Return the URL of the result file of a source."""
        return self._published[w.source]["url"]

    def published_options(self, w: Wildcards) -> str:
        """Return the options of import_published.py as JSON."""
        entry = self._published[w.source]
        chosen = {key: entry[key] for key in ("format", "models", "datasets", "left_out", "values") if key in entry}
        return json.dumps({"source": w.source, **chosen}, sort_keys=True)

    def _about_published(self, source: str) -> dict[str, Any]:
        """Return what the tables and the report say of a source, and of the models, data and tasks that it may name."""
        entry = self._published[source]
        named = entry.get("models")
        models = self._models if named is None else {name: self._models[name] for name in dict.fromkeys(named.values())}
        known = {"models": models, "datasets": self._datasets, "tasks": self._tasks}
        return {
            key: value for key, value in entry.items() if key not in ("models", "datasets", "left_out", "values")
        } | {
            kind: {name: {key: one[key] for key in ABOUT if key in one} for name, one in entries.items()}
            for kind, entries in known.items()
        }

    # --- data --------------------------------------------------------------------------------------------------------

    def modality(self, dataset: str) -> str:
        """Return what a dataset holds: expression (cells with labels) or perturbation (a screen)."""
        return self._datasets[dataset]["modality"]

    def source(self, dataset: str, split: str) -> SplitSource:
        """Return where a split comes from."""
        entry = self._datasets[dataset]
        own = entry["splits"][split]
        own = {"url": own} if isinstance(own, str) else dict(own or {})
        return SplitSource(
            url=own.get("url") or entry.get("url", ""),
            organism=organism(own.get("organism") or entry.get("organism", "")).name,
            value=as_text(own.get("value", split)),
            n_cells=own.get("n_cells"),
        )

    def size(self, dataset: str) -> dict[str, int]:
        """Return `n_cells` and `n_donors` of the dataset's splits in the run together, as far as the catalogue says."""
        entry, splits = self._datasets[dataset], self.datasets[dataset]
        whole = set(splits) == set(entry["splits"])
        of_splits = [self.source(dataset, split).n_cells for split in splits]
        cells = sum(of_splits) if None not in of_splits else entry.get("n_cells") if whole else None
        known = {"n_cells": cells, "n_donors": entry.get("n_donors") if whole else None}
        return {key: count for key, count in known.items() if count}

    def n_cells(self, dataset: str, split: str) -> int | None:
        """Return how many cells a split has by its entry, or its equal share of the dataset's; None where neither tells."""
        entry = self._datasets[dataset]
        n_cells = self.source(dataset, split).n_cells
        if n_cells:
            return n_cells
        return round(entry["n_cells"] / len(entry["splits"])) if entry.get("n_cells") else None

    def downloads(self) -> list[str]:
        """Return the URL of everything that the run fetches into an empty folder, each once."""
        urls: dict[str, None] = {}
        for cell in self.cells:
            for split in self.splits_of(cell.dataset, cell.split):
                urls[self.source(cell.dataset, split).url] = None
                urls |= dict.fromkeys(self._files(cell.model, cell.dataset, split))
                for species in self._added_of(cell.model, [split], cell.dataset):
                    urls |= dict.fromkeys(url for url, _ in self._species_sources(cell.model, species).values())
            urls |= dict.fromkeys(table["url"] for table in tables_of(self._datasets[cell.dataset]))
        return [url for url in urls if is_remote(url)]

    def objects(self, dataset: str) -> dict[str, str]:
        """Return the URL of every object of a dataset by its file name, the orthologue table among them."""
        entry = self._datasets[dataset]
        urls = [self.source(dataset, split).url for split in entry["splits"]]
        urls += [table["url"] for table in tables_of(entry)]
        return {file_name(url): url for url in urls}

    def object_url(self, w: Wildcards) -> str:
        """Return the URL that a download job fetches."""
        return self.objects(w.dataset)[w.object]

    def split_object(self, w: Wildcards) -> str:
        """Return the file that a split is made from: downloaded, or where the user keeps it."""
        return _local(self.source(w.dataset, w.split).url, f"resources/datasets/{w.dataset}")

    def _orthologue_tables(self, dataset: str, species: str) -> list[Mapping[str, Any]]:
        """Return the orthologue tables of a dataset that tell the names of a species' genes."""
        tables = tables_of(self._datasets[dataset])
        return [table for table in tables if species in {organism(name).name for name in table["columns"]}]

    def orthologues(self, w: Wildcards) -> list[str]:
        """Return the orthologue tables that a split is made with."""
        tables = self._orthologue_tables(w.dataset, self.source(w.dataset, w.split).organism)
        return [_local(table["url"], f"resources/datasets/{w.dataset}") for table in tables]

    def split_options(self, w: Wildcards) -> str:
        """Return the options of split_dataset.py as JSON: what of the dataset's entry changes the split's file."""
        entry, source = self._datasets[w.dataset], self.source(w.dataset, w.split)
        columns = dict(entry.get("columns", {}))
        options: dict[str, Any] = {
            **columns,
            "dataset": w.dataset,
            "split": w.split,
            "organism": source.organism,
            "source": source.url,
            "licence": entry.get("licence", ""),
        }
        for key in ("counts", "missing_labels", "cells", "round"):
            if key in entry:
                options[key] = entry[key]
        if entry["modality"] == "perturbation":
            options["modality"] = "perturbation"
            more = ("control", "separator", "pool_guides", "expression", "partition_seed", "test_conditions", "planted")
            options |= {key: entry[key] for key in more if key in entry}
        if "split_by" in entry:
            options |= {"split_by": entry["split_by"], "value": source.value}
        if paths := self.orthologues(w):
            columns = [table["columns"] for table in self._orthologue_tables(w.dataset, source.organism)]
            options["orthologues"] = [{"path": p, "columns": c} for p, c in zip(paths, columns, strict=True)]
            options["orthologue_key"] = tables_of(entry)[0].get("key", "symbol")
            options["orthologue_hub"] = hub_of([table["columns"] for table in tables_of(entry)])
        return json.dumps(options, sort_keys=True)

    # --- models ------------------------------------------------------------------------------------------------------

    def _model(self, model: str) -> Mapping[str, Any]:
        return self._models[model.partition("@")[0]]

    def traits(self, model: str) -> Traits:
        """Return what the adapter of a model says of itself."""
        return traits_of(self._model(model)["adapter"])

    def params(self, model: str) -> Mapping[str, Any]:
        """Return the options of a model's adapter."""
        return self._model(model).get("params", {})

    def adapter(self, w: Wildcards) -> str:
        """Return the adapter of a model."""
        return self._model(w.model)["adapter"]

    def env(self, w: Wildcards) -> str:
        """Return the environment file of a model, as seen from workflow/rules."""
        return f"../envs/{self._model(w.model).get('env', 'baselines')}.yaml"

    def gpus(self, w: Wildcards) -> int:
        """Return how many GPUs a job of this model asks for."""
        return self._model(w.model).get("gpus", 0)

    def threads(self, w: Wildcards) -> int:
        """Return how many threads a job of this model uses."""
        return self._model(w.model).get("threads", 1)

    def _checkpoint(self, model: str, species: Iterable[str]) -> dict[str, str]:
        """Return the URL of each file of a model's checkpoint by the path that it is kept under.

        Models with one `weights_folder` share their files; those of a species are there for its cells alone.
        """
        entry = self._model(model)
        files = dict(entry["weights"]) if isinstance(entry.get("weights"), Mapping) else {}
        for name, more in entry.get("species_weights", {}).items():
            if organism(name).name in species:
                files |= more
        folder = f"{WEIGHTS}/{self._weights_folder(model)}"
        return {f"{folder}/{name}": url for name, url in files.items()}

    def has_checkpoint(self, model: str) -> bool:
        """Return whether a model comes with files that are fetched."""
        return isinstance(self._model(model).get("weights"), Mapping)

    def _weights_folder(self, model: str) -> str:
        return self._model(model).get("weights_folder") or model.partition("@")[0]

    @cached_property
    def _remote_weights(self) -> dict[str, str]:
        """The URL of every file of every checkpoint of the catalogue, and of the run's models with a `path`, by path."""
        everything = ((name, entry.get("species_weights", {})) for name, entry in self._models.items())
        files = (self._checkpoint(name, [organism(species).name for species in own]) for name, own in everything)
        found = {path: url for urls in files for path, url in urls.items()}
        added = (self._species_sources(name, species) for name in self._models for species in self._added(name))
        found |= {path: url for made_of in added for url, path in made_of.values() if is_remote(url)}
        single = [model for model in self.models if "path" in self._model(model)]
        pairs = [(dataset, split) for dataset, splits in self.datasets.items() for split in splits]
        single_files = (self._file_of(model, *pair) for model in single for pair in pairs)
        return found | {path: url for url, path in single_files if is_remote(url)}

    # --- species that the user adds to a model -----------------------------------------------------------------------

    def _added(self, model: str) -> dict[str, Mapping[str, str]]:
        """Return what the files of each species that is added to a model are made of, by its canonical name."""
        return {organism(name).name: files for name, files in self._model(model).get("new_species", {}).items()}

    def _added_of(self, model: str, splits: Iterable[str], dataset: str) -> list[str]:
        """Return the species of some splits that are added to a model."""
        added = self._added(model)
        return [name for name in dict.fromkeys(self.source(dataset, s).organism for s in splits) if name in added]

    def _species_folder(self, model: str, species: str) -> str:
        return f"{SPECIES}/{model.partition('@')[0]}/{species}"

    def _species_sources(self, model: str, species: str) -> dict[str, tuple[str, str]]:
        """Return (URL or path, where it lies on this machine) of what the files of an added species are made of."""
        folder = f"{WEIGHTS}/{self._weights_folder(model)}/new_species/{species}"
        return {kind: (url, _local(url, folder)) for kind, url in self._added(model)[species].items()}

    def species_inputs(self, w: Wildcards) -> list[str]:
        """Return what the files of an added species are made of."""
        return [path for _, path in self._species_sources(w.model, w.species).values()]

    def species_weights(self, w: Wildcards) -> list[str]:
        """Return the checkpoint that the files of an added species are made for: its files, or the user's folder."""
        return list(self._checkpoint(w.model, [])) or [self.weights_folder(w)]

    def species_options(self, w: Wildcards) -> str:
        """Return the options of build_species.py as JSON: what to build from, and what of the model's params it takes."""
        chosen = self.traits(w.model).species_options
        options = {name: value for name, value in self.params(w.model).items() if name in chosen}
        files = {name: path for name, (_, path) in self._species_sources(w.model, w.species).items()}
        return json.dumps({**options, **files}, sort_keys=True)

    def species_code(self, w: Wildcards) -> dict[str, str]:
        """Return the digests of our files that make the files of an added species."""
        return code("build_species", f"cellgauge.models.{self.adapter(w)}")

    def weights_url(self, w: Wildcards) -> str:
        """Return the URL of a file of a checkpoint, or of the file of one dataset and split that a `path` names."""
        return self._remote_weights[f"{WEIGHTS}/{w.file}"]

    def _file_of(self, model: str, dataset: str, split: str) -> tuple[str, str]:
        """Return (URL or path, where it lies on this machine) of what a model's `path` names for a dataset and split."""
        url = _fill(self._model(model)["path"], dataset, split)
        return url, _local(url, f"{WEIGHTS}/{model}/{dataset}/{split}")

    def weights(self, w: Wildcards) -> list[str]:
        """Return the files that a model needs beside the splits."""
        entry = self._model(w.model)
        if "path" in entry:
            return [self._file_of(w.model, w.dataset, w.split)[1]]
        splits = self.splits_of(w.dataset, w.split)
        added = self._added_of(w.model, splits, w.dataset)
        built = [self._species_folder(w.model, name) for name in added]
        if isinstance(entry.get("weights"), str):
            return [_local(entry["weights"], ""), *built]
        return [*self._checkpoint(w.model, {self.source(w.dataset, split).organism for split in splits}), *built]

    def weights_argument(self, w: Wildcards) -> list[str]:
        """Return what embed_cells.py is given of them: the file, the folder of the checkpoint, or nothing."""
        entry = self._model(w.model)
        if "path" in entry or "weights" not in entry:
            return self.weights(w)[:1]
        return [self.weights_folder(w)]

    def weights_folder(self, w: Wildcards) -> str:
        """Return the folder of a model's checkpoint: where its files are fetched to, or the user's own."""
        weights = self._model(w.model)["weights"]
        return _local(weights, "") if isinstance(weights, str) else f"{WEIGHTS}/{self._weights_folder(w.model)}"

    def model_options(self, w: Wildcards) -> str:
        """Return the options of embed_cells.py as JSON: the model's params and the seed."""
        entry, (_, _, seed) = self._model(w.model), w.model.partition("@")
        options = {**entry.get("params", {}), "seed": int(seed) if seed else self._run["seeds"][0]}
        if "shared_space" in entry:
            options["shared_space"] = entry["shared_space"]
        if self._added(w.model) and (added := self._added_of(w.model, self.splits_of(w.dataset, w.split), w.dataset)):
            files = {name: self._species_folder(w.model, name) for name in added}
            options["species_files"] = {**options.get("species_files", {}), **files}
        return json.dumps(options, sort_keys=True)

    def model_code(self, w: Wildcards) -> dict[str, str]:
        """Return the digests of our files that a model's job runs."""
        if self.traits(w.model).modality == "perturbation":
            return code("predict_responses", f"cellgauge.predictors.{self.adapter(w)}")
        return code("embed_cells", f"cellgauge.models.{self.adapter(w)}")

    def embed_splits(self, w: Wildcards) -> list[str]:
        """Return the splits that an embedding job reads."""
        return [f"results/splits/{w.dataset}/{split}.h5ad" for split in self.splits_of(w.dataset, w.split)]

    # --- scores ------------------------------------------------------------------------------------------------------

    def _embeddings(self, cell: Cell | Wildcards) -> list[str]:
        """Return the embeddings that a cell of the grid is made from: one per split, or one of all that the model joins."""
        joint = self.traits(cell.model).scope == "dataset"
        parts = [cell.split] if joint else self.splits_of(cell.dataset, cell.split)
        return [f"results/embeddings/{cell.model}/{cell.dataset}/{part}.h5ad" for part in parts]

    def _prediction(self, cell: Cell | Wildcards) -> str:
        return f"results/predictions/{cell.model}/{cell.dataset}/{cell.split}.h5ad"

    def _truth(self, cell: Cell | Wildcards) -> str:
        return f"results/truths/{cell.dataset}/{cell.split}.h5ad"

    def _results(self, cell: Cell | Wildcards) -> list[str]:
        """Return what a model made for a cell of the grid: embeddings, or predicted responses."""
        predicts = self.traits(cell.model).modality == "perturbation"
        return [self._prediction(cell)] if predicts else self._embeddings(cell)

    def score_results(self, w: Wildcards) -> list[str]:
        """Return the embeddings, or the prediction, that a scoring job reads."""
        return self._results(w)

    def score_splits(self, w: Wildcards) -> list[str]:
        """Return what a scoring job compares them with: the splits, or what was measured in a screen."""
        return [self._truth(w)] if task_traits(w.task).modality == "perturbation" else self.embed_splits(w)

    def neighbors(self, cell: Cell | Wildcards) -> list[str]:
        """Return the file of neighbors that a scoring job reads, as a list of one or none."""
        keeps = self._keeps_neighbors(cell)
        return [f"results/neighbors/{cell.task}/{cell.model}/{cell.dataset}/{cell.split}.npz"] if keeps else []

    def _keeps_neighbors(self, cell: Cell | Wildcards) -> bool:
        scores_expression = cell.task in self.traits(cell.model).expression_tasks
        return not scores_expression and task_traits(cell.task).keeps_neighbors(self.task_params(cell.task))

    def neighbor_options(self, w: Wildcards) -> str:
        """Return the options of find_neighbors.py as JSON: what of the scoring job's changes which neighbors are found."""
        chosen = {"seed", "device", *(task_traits(w.task).searched or ())}
        options = json.loads(self.task_options(w))
        return json.dumps({name: value for name, value in options.items() if name in chosen}, sort_keys=True)

    def neighbor_code(self, w: Wildcards) -> dict[str, str]:
        """Return the digests of our files that a search of neighbors runs."""
        return code("find_neighbors", f"cellgauge.tasks.{w.task}.neighbors")

    def result_of(self, cell: Cell) -> str:
        """Return the (first) file that a score is of."""
        return self._results(cell)[0]

    def task_params(self, task: str) -> Mapping[str, Any]:
        """Return the params of a task: its defaults, and what its entry sets in their place."""
        return {**task_traits(task).params, **self._tasks[task].get("params", {})}

    def task_options(self, w: Wildcards) -> str:
        """Return the options of score_task.py as JSON: the task's params, the profiles, the seed, the device if not "cpu"."""
        seed = int(w.model.partition("@")[2] or self._run["seeds"][0])
        options = {**self.task_params(w.task), "profiles": self._run["profiles"], "seed": seed}
        if self._score_device(w) != "cpu":
            options["device"] = self._score_device(w)
        return json.dumps(options, sort_keys=True)

    def _score_device(self, w: Wildcards) -> str:
        """Return where a task is to compute: predicted responses and libraries of its own leave a GPU nothing to do."""
        ours = task_traits(w.task).modality == "expression" and "env" not in self._tasks[w.task]
        return self._run.get("score_device", "cpu") if ours else "cpu"

    def search_gpus(self, w: Wildcards) -> int:
        """Return how many GPUs a search of neighbors asks for; with "auto" none, it takes one that is free or does without."""
        return int(self._score_device(w) == "cuda")

    def task_gpus(self, w: Wildcards) -> int:
        """Return how many GPUs a scoring job asks for: none where what its task needs one for was found before."""
        return 0 if self._keeps_neighbors(w) else self.search_gpus(w)

    def task_memory_times(self, w: Wildcards) -> float:
        """Return how many times its input a job of this task may hold in memory."""
        return self._tasks[w.task].get("memory_times", 10)

    def task_threads(self, w: Wildcards) -> int:
        """Return how many threads a job of this task uses."""
        return self._tasks[w.task].get("threads", 1)

    def task_env(self, w: Wildcards) -> str:
        """Return the environment file of a task, as seen from workflow/rules: PyTorch is large, so only where it is used."""
        env = self._task_env(w.task)
        return f"../envs/{env}{'' if self._score_device(w) == 'cpu' else '_gpu'}.yaml"

    def _task_env(self, task: str) -> str:
        return self._tasks[task].get("env", "score")

    def task_python(self, w: Wildcards) -> str:
        """Return the Python that scores a task where jobs run without conda."""
        return python_of(self._task_env(w.task))

    def check_environments(self) -> None:
        """Raise CellgaugeError where a score of the run needs an environment of its own that has not been made."""
        for task in dict.fromkeys(cell.task for cell in self.cells):
            require(self._task_env(task), f"task {task}")

    def task_code(self, w: Wildcards) -> dict[str, str]:
        """Return the digests of our files that a task's job runs."""
        return code("score_task", f"cellgauge.tasks.{w.task}.scores")

    # --- wildcards ---------------------------------------------------------------------------------------------------

    def pattern(self, kind: str) -> str:
        """Return the regular expression of a wildcard: the catalogue's keys and nothing else."""
        keys = {"model": self._models, "dataset": self._datasets, "task": self._tasks, "source": self._published}
        if kind in keys:
            names = "|".join(map(re.escape, keys[kind])) or r"(?!)"
            return rf"(?:{names})(?:@\d+)?" if kind == "model" else names
        if kind == "file":
            files = (path.removeprefix(f"{WEIGHTS}/") for path in self._remote_weights)
            return "|".join(sorted(map(re.escape, files))) or r"(?!)"
        return {"split": r"[a-z0-9_+]+", "object": r"[^/]+", "species": r"[a-z_]+"}[kind]


def tables_of(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the orthologue tables of a dataset's entry, which names one or a list of them."""
    tables = entry.get("orthologues", [])
    return [tables] if isinstance(tables, Mapping) else list(tables)


def _semi_synthetic(title: str) -> str:
    """Return the title of a dataset into which effects were planted: it says so wherever it is shown."""
    return title if "semi-synthetic" in title.lower() else f"{title} (semi-synthetic)"


def is_remote(url: str) -> bool:
    """Return whether a URL must be fetched (a path, or file://, is read where it lies)."""
    return urlsplit(url).scheme in REMOTE


def _fill(pattern: str, dataset: str, split: str) -> str:
    return pattern.replace("{dataset}", dataset).replace("{split}", split)


def file_name(url: str) -> str:
    """Return the name under which an object is kept: its last component, the member's where it lies in an archive."""
    of_web = "!" not in url and url.startswith(("https://", "http://"))
    return (urlsplit(url).path if of_web else url.rpartition("!")[2]).rpartition("/")[2]


def _local(url: str, folder: str) -> str:
    """Return where an object lies on this machine: under `folder` when it is fetched, else the path itself."""
    return f"{folder}/{file_name(url)}" if is_remote(url) else _own_path(url)


def _own_path(url: str) -> str:
    """Return the path of a file on this machine, which may be written as file:// or from the home folder ("~")."""
    path = unquote(url.removeprefix("file://")) if url.startswith("file://") else url
    return str(Path(path).expanduser()) if path.startswith("~") else path


def _of_task(task: str) -> dict[str, str]:
    """Return what the module of a task says of it that tables and report need."""
    about = task_traits(task)
    return {"modality": about.modality, "scope": about.scope}
