"""What a run selects from the catalogue, and what the entries say of it: models, data, tasks, published values.

A model's name in a path is its key in config/models.yaml, or `key@seed` for the replicates that `seeds:` asks for.
Nothing is imported here but the standard library: planning costs no second.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Any

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.organisms import organism
from cellgauge.data.sets import ALL, name_of, ordered
from cellgauge.files.text_columns import as_text
from cellgauge.inference.adapter_job import Traits
from cellgauge.plan import paths
from cellgauge.plan.paths import Outputs, is_remote, local
from cellgauge.predictors.base import traits_of
from cellgauge.tasks.traits import task_traits

KINDS = ("models", "datasets", "tasks", "published")
SCREEN_OPTIONS = ("control", "separator", "pool_guides", "expression", "partition_seed", "test_conditions", "planted")
"""Keys that only entries of screens have; they change the files of their splits."""


@dataclass(frozen=True)
class SplitSource:
    """Where a split comes from: the object's URL or path, its species, and the value of `split_by` that selects it.

    `n_cells` is how many cells it has, None where the catalogue does not say.
    """

    url: str
    organism: str
    value: str
    n_cells: int | None = None


class Run:
    """The merged and checked configuration: the lists of the run, and the entries of the catalogue.

    Attributes:
        entries: the catalogue, kind ("models", "datasets", "tasks", "published") -> name -> entry.
        options: what else the run says, such as seeds and profiles.
        tasks, published: its tasks, and its sources of published values.
        score_device: where expression tasks compute: "cpu", "cuda", or "auto" for a GPU that is free.
        outputs: where its tables and its report go.
        name: what the report calls it, by default the name of its folder.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.entries: dict[str, Mapping[str, Any]] = {kind: config.get(kind, {}) for kind in KINDS}
        self.options: Mapping[str, Any] = config["run"]
        self.tasks: list[str] = list(dict.fromkeys(self.options["tasks"]))
        self.published: list[str] = list(dict.fromkeys(self.options.get("published", ())))
        self.score_device: str = self.options.get("score_device", "cpu")
        self.outputs = Outputs(config.get("results", Outputs.folder))
        self.name: str = config.get("name") or PurePath(self.outputs.folder).name
        self._sources: dict[tuple[str, str], SplitSource] = {}  # every job of a split asks for its source

    @cached_property
    def models(self) -> list[str]:
        """The models of the run; a model that draws random numbers once more for each further seed."""
        first, *further = self.options["seeds"]
        names = list(dict.fromkeys(self.options["models"]))
        return [
            name if seed == first else f"{name}@{seed}"
            for name in names
            for seed in (first, *(further if self.traits(name).stochastic else ()))
        ]

    @cached_property
    def datasets(self) -> dict[str, list[str]]:
        """The datasets of the run with their splits: all of them, or those named as `dataset/split` or `dataset/set`."""
        chosen: dict[str, list[str]] = {}
        for item in self.options["datasets"]:
            dataset, _, split = item.partition("/")
            splits = self._named_sets[dataset].get(split, [split]) if split else list(self.dataset(dataset)["splits"])
            chosen[dataset] = list(dict.fromkeys([*chosen.get(dataset, []), *splits]))
        return chosen

    @cached_property
    def sets(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """The sets of splits of each dataset of the run: those of its entry, or where the run names splits the set of these."""
        chosen = {}
        for dataset, splits in self.datasets.items():
            named, choice = self._named_sets[dataset], ordered(splits)
            name = next((name for name, members in named.items() if members == choice), name_of(choice))
            chosen[dataset] = named if dataset in self.options["datasets"] else {name: choice}
        return chosen

    def seed(self, model: str) -> int:
        """Return the seed of a model: that of its name, or the first of the run."""
        return int(model.partition("@")[2] or self.options["seeds"][0])

    def model(self, name: str) -> Mapping[str, Any]:
        """Return the entry of a model, whatever its seed."""
        return self.entries["models"][name.partition("@")[0]]

    def traits(self, model: str) -> Traits:
        """Return what the adapter of a model says of itself."""
        return traits_of(self.model(model)["adapter"])

    def params(self, model: str) -> Mapping[str, Any]:
        """Return the options of a model's adapter."""
        return self.model(model).get("params", {})

    def model_env(self, model: str) -> str:
        """Return the name of the environment that a model runs in, a file of workflow/envs."""
        return self.model(model).get("env", "baselines")

    def embeds_by_cell(self, model: str) -> bool:
        """Return whether the embedding of a cell by this model depends on no other cell."""
        return self.traits(model).embeds_by_cell(self.params(model))

    def added_species(self, model: str) -> dict[str, Mapping[str, str]]:
        """Return what the files of each species that the user adds to a model are made of, by its canonical name."""
        return {organism(name).name: files for name, files in self.model(model).get("new_species", {}).items()}

    def checkpoint(self, model: str, species: Iterable[str]) -> dict[str, str]:
        """Return the URL of each file of a model's checkpoint by the path that it is kept under.

        Models with one `weights_folder` share their files; those of a species are there for its cells alone.
        """
        entry = self.model(model)
        files = dict(entry["weights"]) if isinstance(entry.get("weights"), Mapping) else {}
        for name, more in entry.get("species_weights", {}).items():
            if organism(name).name in species:
                files |= more
        return {f"{self._fetched_folder(model)}/{name}": url for name, url in files.items()}

    def weights_folder(self, model: str) -> str:
        """Return the folder of a model's checkpoint: where its files are fetched to, or the user's own."""
        weights = self.model(model)["weights"]
        return local(weights, "") if isinstance(weights, str) else self._fetched_folder(model)

    def _fetched_folder(self, model: str) -> str:
        name = self.model(model).get("weights_folder") or model.partition("@")[0]
        return f"{paths.WEIGHTS}/{name}"

    def file_of_split(self, model: str, dataset: str, split: str) -> tuple[str, str]:
        """Return (URL or path, where it lies on this machine) of what a model's `path` names for a dataset and split."""
        pattern = self.model(model)["path"]
        url = pattern.replace("{dataset}", dataset).replace("{split}", split)
        return url, local(url, f"{paths.WEIGHTS}/{model}/{dataset}/{split}")

    def urls_of_model(self, model: str, dataset: str, split: str) -> list[str]:
        """Return the URLs of the checkpoint, and of the embedding, that a model needs for a split."""
        urls = list(self.checkpoint(model, self.species(dataset, split)).values())
        return [*urls, *([self.file_of_split(model, dataset, split)[0]] if "path" in self.model(model) else [])]

    @cached_property
    def remote_weights(self) -> dict[str, str]:
        """The URL of every file of every checkpoint of the catalogue, and of the run's models with a `path`, by path."""
        urls: dict[str, str] = {}
        for name, entry in self.entries["models"].items():
            urls |= self.checkpoint(name, [organism(species).name for species in entry.get("species_weights", {})])
            for species in self.added_species(name):
                sources = self.species_sources(name, species).values()
                urls |= {path: url for url, path in sources if is_remote(url)}
        for model in self.models:
            if "path" in self.model(model):
                pairs = [(dataset, split) for dataset, splits in self.datasets.items() for split in splits]
                files = (self.file_of_split(model, *pair) for pair in pairs)
                urls |= {path: url for url, path in files if is_remote(url)}
        return urls

    def species_to_add(self, model: str, dataset: str, name: str) -> list[str]:
        """Return the species of a split, or of a set, that are added to a model."""
        added = self.added_species(model)
        return [species for species in self.species(dataset, name) if species in added] if added else []

    def species_folder(self, model: str, species: str) -> str:
        """Return the folder of the files that are built for an added species."""
        return paths.SPECIES.format(model=model.partition("@")[0], species=species)

    def species_sources(self, model: str, species: str) -> dict[str, tuple[str, str]]:
        """Return (URL or path, where it lies on this machine) of what the files of an added species are made of."""
        folder = f"{self._fetched_folder(model)}/new_species/{species}"
        sources = self.added_species(model)[species]
        return {kind: (url, local(url, folder)) for kind, url in sources.items()}

    def dataset(self, name: str) -> Mapping[str, Any]:
        return self.entries["datasets"][name]

    def modality(self, dataset: str) -> str:
        """Return what a dataset holds: expression (cells with labels) or perturbation (a screen)."""
        return self.dataset(dataset)["modality"]

    @cached_property
    def _named_sets(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """The sets of splits that the entries of datasets name."""
        return {
            dataset: {name: ordered(splits) for name, splits in entry.get("sets", {ALL: entry["splits"]}).items()}
            for dataset, entry in self.entries["datasets"].items()
        }

    def splits_of(self, dataset: str, name: str) -> list[str]:
        """Return the splits that a part of a path stands for: those of a set, or the split of this name.

        Raises:
            CellgaugeError: the dataset has neither.
        """
        sets, splits = self._named_sets[dataset] | self.sets.get(dataset, {}), self.dataset(dataset)["splits"]
        if name not in sets and name not in splits:
            raise CellgaugeError(
                f"dataset '{dataset}' has no split or set '{name}'; it has {', '.join([*splits, *sets])}"
            )
        return list(sets.get(name, [name]))

    def source(self, dataset: str, split: str) -> SplitSource:
        """Return where a split comes from."""
        if (dataset, split) not in self._sources:
            entry = self.dataset(dataset)
            of_split = entry["splits"][split]
            of_split = {"url": of_split} if isinstance(of_split, str) else dict(of_split or {})
            self._sources[dataset, split] = SplitSource(
                url=of_split.get("url") or entry.get("url", ""),
                organism=organism(of_split.get("organism") or entry.get("organism", "")).name,
                value=as_text(of_split.get("value", split)),
                n_cells=of_split.get("n_cells"),
            )
        return self._sources[dataset, split]

    def species(self, dataset: str, name: str) -> list[str]:
        """Return the species of a split, or of the splits of a set, each once."""
        return list(dict.fromkeys(self.source(dataset, split).organism for split in self.splits_of(dataset, name)))

    def orthologue_tables(self, dataset: str, species: str) -> list[Mapping[str, Any]]:
        """Return the orthologue tables of a dataset that name the genes of a species."""
        tables = tables_of(self.dataset(dataset))
        return [table for table in tables if species in {organism(name).name for name in table["columns"]}]

    def size(self, dataset: str) -> dict[str, int]:
        """Return `n_cells` and `n_donors` of the dataset's splits in the run together, as far as the catalogue says."""
        entry, splits = self.dataset(dataset), self.datasets[dataset]
        whole = set(splits) == set(entry["splits"])
        known = [n_cells for split in splits if (n_cells := self.source(dataset, split).n_cells) is not None]
        cells = sum(known) if len(known) == len(splits) else entry.get("n_cells") if whole else None
        counts = {"n_cells": cells, "n_donors": entry.get("n_donors") if whole else None}
        return {key: count for key, count in counts.items() if count}

    def n_cells(self, dataset: str, split: str) -> int | None:
        """Return how many cells a split has by its entry, or its equal share of the dataset's; None where neither tells."""
        entry = self.dataset(dataset)
        share = round(entry["n_cells"] / len(entry["splits"])) if "n_cells" in entry else None
        return self.source(dataset, split).n_cells or share

    def task(self, name: str) -> Mapping[str, Any]:
        return self.entries["tasks"][name]

    def task_env(self, task: str) -> str:
        """Return the name of the environment that a task runs in, a file of workflow/envs."""
        return self.task(task).get("env", "score")

    def task_params(self, task: str) -> Mapping[str, Any]:
        """Return the params of a task: its defaults, and what its entry sets in their place."""
        return {**task_traits(task).params, **self.task(task).get("params", {})}


def tables_of(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the orthologue tables of a dataset's entry, which names one or a list of them."""
    tables = entry.get("orthologues", [])
    return [tables] if isinstance(tables, Mapping) else list(tables)
