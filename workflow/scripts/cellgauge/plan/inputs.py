"""What the rules ask of the grid: Snakemake's functions of inputs, params and resources.

The methods that take `w` are such functions: `w` holds the wildcards of a job.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from types import SimpleNamespace
from typing import Any

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.genes import hub_of
from cellgauge.plan import paths
from cellgauge.plan.grid import Cell, Grid
from cellgauge.plan.interpreter import require
from cellgauge.plan.manifest import catalogue
from cellgauge.plan.paths import UsersFile, file_name, is_remote, local
from cellgauge.plan.provenance import planned
from cellgauge.plan.run import SCREEN_OPTIONS, tables_of
from cellgauge.plan.sources import code
from cellgauge.plan.storage import Places
from cellgauge.tasks.traits import task_traits

SPLIT_OPTIONS = ("counts", "missing_labels", "cells", "round")
"""Keys of a dataset's entry that change the file of a split, beside those of screens."""
COSTS = ("embed", "predict", "neighbors", "score")
"""The rules whose time and memory the tables show."""
PATTERNS = {
    "split": r"[a-z0-9_+]+",
    "number": r"\d+",
    "n_shards": r"\d+",
    "object": r"[^/]+",
    "species": r"[a-z_]+",
}
"""The regular expressions of wildcards that are the same for every catalogue."""
Wildcards = SimpleNamespace
"""The wildcards of a job: some of `task`, `model`, `dataset`, `split`, `object`, `file`, `species`, `source`, `number` and
`n_shards`."""


@dataclass(frozen=True)
class SharedJob:
    """One embedding job of several splits: the checkpoint is read once for all of them."""

    model: str
    dataset: str
    splits: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of its rule."""
        return f"embed_{self.model}_{self.dataset}_from_{self.splits[0]}".replace("@", "_")

    @property
    def log(self) -> str:
        """Its log, beside that of its first split."""
        return paths.log("embed", self.each(paths.EMBEDDING)[0])

    def each(self, pattern: str) -> list[str]:
        """Return a path of `paths` for each split."""
        return [pattern.format(model=self.model, dataset=self.dataset, split=split) for split in self.splits]


@dataclass(frozen=True)
class DividedJob:
    """A split that several jobs embed, and one joins."""

    model: str
    dataset: str
    split: str
    n_shards: int

    @property
    def name(self) -> str:
        return f"join_{self.model}_{self.dataset}_{self.split}".replace("@", "_")

    @property
    def embedding(self) -> str:
        return paths.EMBEDDING.format(**vars(self))

    @property
    def shards(self) -> list[str]:
        return [paths.SHARD.format(**vars(self), number=number) for number in range(1, self.n_shards + 1)]


class Inputs:
    """Snakemake's view of a grid.

    Inputs and outputs are spelled as in `paths`, and Snakemake knows where they lie; in params they are where a job finds them.
    """

    def __init__(self, grid: Grid, places: Places | None = None) -> None:
        self.grid = grid
        self.places = places or Places()
        self.run = grid.run

    def patterns(self) -> dict[str, str]:
        """Return the regular expression of each wildcard: the catalogue's keys and nothing else."""
        kinds = {"model": "models", "dataset": "datasets", "task": "tasks", "source": "published"}
        names: dict[str, Iterable[str]] = {kind: self.run.entries[entries] for kind, entries in kinds.items()}
        names["file"] = sorted(path.removeprefix(f"{paths.WEIGHTS}/") for path in self.run.remote_weights)
        patterns = {kind: "|".join(map(re.escape, known)) or r"(?!)" for kind, known in names.items()}
        return PATTERNS | patterns | {"model": rf"(?:{patterns['model']})(?:@\d+)?"}

    # --- targets -----------------------------------------------------------------------------------------------------

    def scores(self, w: object = None) -> list[str]:
        return [cell.path for cell in self.grid.cells]

    def embeddings(self, w: object = None) -> list[str]:
        """Return the embeddings of the run, and the predictions."""
        return list(dict.fromkeys(path for cell in self.grid.cells for path in self.results(cell)))

    def layouts(self, w: object = None) -> list[str]:
        """Return the pictures of embeddings of the run, one file per embedding."""
        cells = [cell for cell in self.grid.cells if self.run.modality(cell.dataset) == "expression"]
        parts = sorted({(cell.model, cell.dataset, part) for cell in cells for part in self._embedded(cell)})
        return [paths.LAYOUT.format(model=model, dataset=dataset, split=part) for model, dataset, part in parts]

    def published_rows(self, w: object = None) -> list[str]:
        """Return the score rows of others of the run, one file per source."""
        return [paths.PUBLISHED.format(source=source) for source in self.run.published]

    def manifest(self, w: object = None) -> str:
        """Return as JSON what the tables are made of: the paths of their inputs, and what is known of the run.

        It grows with the run, and so it is a file: a command has its greatest length (on Linux 131,072 bytes an argument).
        """
        files = {"scores": self.scores(), "layouts": self.layouts(), "published": self.published_rows()}
        return json.dumps({**files, "catalogue": catalogue(self.grid), "provenance": planned(self)}, sort_keys=True)

    def downloads(self) -> list[str]:
        """Return the URL of everything that the run fetches into an empty folder, each once."""
        urls: dict[str, None] = {}
        for model, dataset, split in self.grid.parts:
            urls[self.run.source(dataset, split).url] = None
            urls |= dict.fromkeys(self.run.urls_of_model(model, dataset, split))
            urls |= dict.fromkeys(table["url"] for table in tables_of(self.run.dataset(dataset)))
            for species in self.run.species_to_add(model, dataset, split):
                urls |= dict.fromkeys(url for url, _ in self.run.species_sources(model, species).values())
        return [url for url in urls if is_remote(url)]

    def costs(self, w: object = None) -> list[str]:
        """Return what the job of the tables reads if it is there: from a storage only what a job names is fetched."""
        if not self.places.stored:
            return []
        jobs = (job for cell in self.grid.cells for job in self._jobs(cell) if job[0] in COSTS)
        benchmarks = dict.fromkeys(paths.benchmark(*job) for job in jobs)
        datasets = self.run.datasets.items()
        splits = [paths.SPLIT.format(dataset=name, split=split) for name, of_data in datasets for split in of_data]
        return [*benchmarks, *self.embeddings(), *splits]

    def stored(self, files: list[str]) -> list[str]:
        """Return files as outputs of a job where they lie in a storage, which takes outputs alone; elsewhere none."""
        return files if self.places.stored else []

    def at(self, path: str) -> str:
        """Return where a job finds a file."""
        return path if isinstance(path, UsersFile) else self.places.at(path)

    def rules(self) -> set[str]:
        """Return the rules that have jobs in the run."""
        others = {path for job in self.shared_jobs for path in job.each(paths.EMBEDDING)} | {*self.divided}
        return {rule for cell in self.grid.cells for rule, result in self._jobs(cell) if result not in others}

    def jobs(self, cell: Cell) -> Iterator[tuple[str, str, str]]:
        """Yield (rule, result, log) of every job that a score needs, upstream first."""
        shared = {path: job.log for job in self.shared_jobs for path in job.each(paths.EMBEDDING)}
        for rule, result in self._jobs(cell):
            yield rule, result, shared.get(result) or paths.log(rule, result)

    def _jobs(self, cell: Cell) -> Iterator[tuple[str, str]]:
        run = self.run
        splits = run.splits_of(cell.dataset, cell.split)
        urls = [run.source(cell.dataset, split).url for split in splits]
        species = run.species(cell.dataset, cell.split)
        urls += [table["url"] for name in sorted(species) for table in run.orthologue_tables(cell.dataset, name)]
        for url in dict.fromkeys(filter(is_remote, urls)):
            yield "download", local(url, f"{paths.DATASETS}/{cell.dataset}")
        yield from (("split", path) for path in self.splits(cell))
        for split in splits:
            if is_remote(run.model(cell.model).get("path", "")):
                yield "download_weights", run.file_of_split(cell.model, cell.dataset, split)[1]
        yield from (("download_weights", path) for path in run.checkpoint(cell.model, species))
        for name in run.species_to_add(cell.model, cell.dataset, cell.split):
            for url, path in run.species_sources(cell.model, name).values():
                if is_remote(url):
                    yield "download_weights", path
            yield "build_species", run.species_folder(cell.model, name)
        predicts = run.traits(cell.model).modality == "perturbation"
        for path in self.results(cell):
            yield from (("embed_shard", shard) for shard in (self.divided[path].shards if path in self.divided else ()))
            yield "predict" if predicts else "embed", path
        yield from (("truth", path) for path in self.score_splits(cell) if predicts)
        yield from (("neighbors", path) for path in self.neighbors(cell))
        yield "score", cell.path

    # --- data --------------------------------------------------------------------------------------------------------

    def object_url(self, w: Wildcards) -> str:
        return self.objects(w.dataset)[w.object]

    def objects(self, dataset: str) -> dict[str, str]:
        """Return the URL of every object of a dataset by its file name, orthologue tables among them."""
        entry = self.run.dataset(dataset)
        urls = [self.run.source(dataset, split).url for split in entry["splits"]]
        urls += [table["url"] for table in tables_of(entry)]
        return {file_name(url): url for url in urls}

    def split_object(self, w: Cell | Wildcards) -> str:
        """Return the file that a split is made from: downloaded, or where the user keeps it."""
        return local(self.run.source(w.dataset, w.split).url, f"{paths.DATASETS}/{w.dataset}")

    def orthologues(self, w: Cell | Wildcards) -> list[str]:
        """Return the orthologue tables that a split is made with."""
        tables = self.run.orthologue_tables(w.dataset, self.run.source(w.dataset, w.split).organism)
        return [local(table["url"], f"{paths.DATASETS}/{w.dataset}") for table in tables]

    def split_options(self, w: Cell | Wildcards) -> str:
        """Return the options of split_dataset.py as JSON: what of the dataset's entry changes the split's file."""
        entry, source = self.run.dataset(w.dataset), self.run.source(w.dataset, w.split)
        options: dict[str, Any] = {
            **entry.get("columns", {}),
            "dataset": w.dataset,
            "split": w.split,
            "organism": source.organism,
            "source": source.url,
            "licence": entry.get("licence", ""),
        }
        options |= {key: entry[key] for key in (*SPLIT_OPTIONS, *SCREEN_OPTIONS) if key in entry}
        if entry["modality"] == "perturbation":
            options["modality"] = "perturbation"
        if "split_by" in entry:
            options |= {"split_by": entry["split_by"], "value": source.value}
        if files := self.orthologues(w):
            columns = [table["columns"] for table in self.run.orthologue_tables(w.dataset, source.organism)]
            options["orthologues"] = [{"path": self.at(p), "columns": c} for p, c in zip(files, columns, strict=True)]
            options["orthologue_key"] = tables_of(entry)[0].get("key", "symbol")
            options["orthologue_hub"] = hub_of([table["columns"] for table in tables_of(entry)])
        return json.dumps(options, sort_keys=True)

    # --- models ------------------------------------------------------------------------------------------------------

    def adapter(self, w: Cell | Wildcards) -> str:
        return self.run.model(w.model)["adapter"]

    def env(self, w: Cell | Wildcards) -> str:
        """Return the environment file of a model, as seen from workflow/rules."""
        return f"../envs/{self.run.model_env(w.model)}.yaml"

    def gpus(self, w: Cell | Wildcards) -> int:
        return self.run.model(w.model).get("gpus", 0)

    def threads(self, w: Cell | Wildcards) -> int:
        return self.run.model(w.model).get("threads", 1)

    def model_options(self, w: Cell | Wildcards) -> str:
        """Return the options of embed_cells.py as JSON: the model's params and the seed."""
        entry = self.run.model(w.model)
        options = {**entry.get("params", {}), "seed": self.run.seed(w.model)}
        if "shared_space" in entry:
            options["shared_space"] = entry["shared_space"]
        if self.run.added_species(w.model) and (added := self.run.species_to_add(w.model, w.dataset, w.split)):
            files = {name: self.at(self.run.species_folder(w.model, name)) for name in added}
            options["species_files"] = {**options.get("species_files", {}), **files}
        return json.dumps(options, sort_keys=True)

    def model_code(self, w: Cell | Wildcards) -> dict[str, str]:
        """Return the digests of our files that a model's job runs."""
        if self.run.traits(w.model).modality == "perturbation":
            return code("predict_responses", f"cellgauge.predictors.{self.adapter(w)}")
        return code("embed_cells", f"cellgauge.models.{self.adapter(w)}")

    def splits(self, w: Cell | Wildcards) -> list[str]:
        """Return the files of a split, or of the splits of a set."""
        names = self.run.splits_of(w.dataset, w.split)
        return [paths.SPLIT.format(dataset=w.dataset, split=name) for name in names]

    # --- weights -----------------------------------------------------------------------------------------------------

    def weights_url(self, w: Wildcards) -> str:
        """Return the URL of a file of a checkpoint, or of the file of one dataset and split that a `path` names."""
        return self.run.remote_weights[paths.WEIGHTS_FILE.format(file=w.file)]

    def weights(self, w: Cell | Wildcards) -> list[str]:
        """Return the files that a model needs beside the splits."""
        entry = self.run.model(w.model)
        if "path" in entry:
            return [self.run.file_of_split(w.model, w.dataset, w.split)[1]]
        added = self.run.species_to_add(w.model, w.dataset, w.split)
        built = [self.run.species_folder(w.model, name) for name in added]
        if isinstance(entry.get("weights"), str):
            return [self.run.weights_folder(w.model), *built]
        return [*self.run.checkpoint(w.model, self.run.species(w.dataset, w.split)), *built]

    @cached_property
    def shared_jobs(self) -> list[SharedJob]:
        """The embedding jobs of several splits: of models whose entry has `splits_per_job`, which embed split by split."""
        splits: dict[tuple[str, str, int], list[str]] = {}
        for model, dataset, split in self.grid.parts:
            size = self.run.model(model).get("splits_per_job", 1)
            divided = paths.EMBEDDING.format(model=model, dataset=dataset, split=split) in self.divided
            if size > 1 and not divided and self.run.traits(model).scope == "split":
                splits.setdefault((model, dataset, size), []).append(split)
        return [
            SharedJob(model, dataset, tuple(sorted(names))[start : start + size])
            for (model, dataset, size), names in splits.items()
            for start in range(0, len(names), size)
            if len(names) - start > 1
        ]

    @cached_property
    def divided(self) -> dict[str, DividedJob]:
        """The splits that are embedded in shards, by embedding: those of more than `shard_cells` cells, by models that can.

        Raises:
            CellgaugeError: the catalogue does not say how many cells such a split has.
        """
        most = self.run.options.get("shard_cells")
        if not most:
            return {}
        jobs = []
        for model, dataset, split in self.grid.parts:
            n_cells = self.run.n_cells(dataset, split) if self.run.embeds_by_cell(model) else 0
            if n_cells is None:
                raise CellgaugeError(
                    f"run.shard_cells: nothing says how many cells split '{split}' of dataset '{dataset}' has; write"
                    " `n_cells` into the entry of the split or of the dataset, or leave shard_cells out"
                )
            jobs.append(DividedJob(model, dataset, split, -(-n_cells // most)))
        return {job.embedding: job for job in jobs if job.n_shards > 1}

    def shared_weights(self, job: SharedJob) -> list[str]:
        """Return the files that a model needs beside the splits of a shared job."""
        parts = (Cell("", job.model, job.dataset, split) for split in job.splits)
        return list(dict.fromkeys(path for part in parts for path in self.weights(part)))

    def shared_options(self, job: SharedJob) -> str:
        """Return the options of embed_cells.py as JSON for the splits of a shared job, with all their added species."""
        parts = [json.loads(self.model_options(Cell("", job.model, job.dataset, split))) for split in job.splits]
        species_files = {name: folder for part in parts for name, folder in part.pop("species_files", {}).items()}
        return json.dumps({**parts[0], **({"species_files": species_files} if species_files else {})}, sort_keys=True)

    def weights_argument(self, w: Cell | Wildcards) -> list[str]:
        """Return what embed_cells.py is given of them: the file, the folder of the checkpoint, or nothing."""
        entry = self.run.model(w.model)
        if "path" in entry or "weights" not in entry:
            return list(map(self.at, self.weights(w)[:1]))
        return [self.weights_folder(w)]

    def weights_folder(self, w: Cell | Wildcards) -> str:
        """Return where a job finds the folder of a model's checkpoint."""
        return self.at(self.run.weights_folder(w.model))

    def species_inputs(self, w: Wildcards) -> list[str]:
        """Return what the files of an added species are made of."""
        return [path for _, path in self.run.species_sources(w.model, w.species).values()]

    def species_weights(self, w: Wildcards) -> list[str]:
        """Return the checkpoint that the files of an added species are made for: its files, or the user's folder."""
        return list(self.run.checkpoint(w.model, [])) or [self.run.weights_folder(w.model)]

    def species_options(self, w: Wildcards) -> str:
        """Return the options of build_species.py as JSON: what to build from, and what of the model's params it takes."""
        chosen = self.run.traits(w.model).species_options
        options = {name: value for name, value in self.run.params(w.model).items() if name in chosen}
        files = {name: self.at(path) for name, (_, path) in self.run.species_sources(w.model, w.species).items()}
        return json.dumps({**options, **files}, sort_keys=True)

    def species_code(self, w: Wildcards) -> dict[str, str]:
        """Return the digests of our files that make the files of an added species."""
        return code("build_species", f"cellgauge.models.{self.adapter(w)}")

    # --- scores ------------------------------------------------------------------------------------------------------

    def _embedded(self, cell: Cell | Wildcards) -> list[str]:
        """Return what a model embeds for a cell of the grid: each split, or at once a set that it joins."""
        joint = self.run.traits(cell.model).scope == "dataset"
        return [cell.split] if joint else self.run.splits_of(cell.dataset, cell.split)

    def results(self, w: Cell | Wildcards) -> list[str]:
        """Return what a model made for a cell of the grid: embeddings, or predicted responses."""
        predicts = self.run.traits(w.model).modality == "perturbation"
        pattern, parts = (paths.PREDICTION, [w.split]) if predicts else (paths.EMBEDDING, self._embedded(w))
        return [pattern.format(model=w.model, dataset=w.dataset, split=part) for part in parts]

    def score_splits(self, w: Cell | Wildcards) -> list[str]:
        """Return what a scoring job compares them with: the splits, or what was measured in a screen."""
        if task_traits(w.task).modality == "perturbation":
            return [paths.TRUTH.format(dataset=w.dataset, split=w.split)]
        return self.splits(w)

    def search_files(self, w: Wildcards) -> dict[str, list[str]]:
        """Return what a search of neighbors reads, by the names of its inputs: Snakemake asks once for all of them."""
        return {"embeddings": self.results(w), "splits": self.score_splits(w)}

    def score_files(self, w: Wildcards) -> dict[str, list[str]]:
        """Return what a scoring job reads, by the names of its inputs."""
        return {"results": self.results(w), "splits": self.score_splits(w), "neighbors": self.neighbors(w)}

    def neighbors(self, w: Cell | Wildcards) -> list[str]:
        """Return the file of neighbors that a scoring job reads, as a list of one or none."""
        if not self.keeps_neighbors(w.task):
            return []
        return [paths.NEIGHBORS.format(task=w.task, model=w.model, dataset=w.dataset, split=w.split)]

    def keeps_neighbors(self, task: str) -> bool:
        """Return whether a task has its neighbors found by a job of its own."""
        return task_traits(task).keeps_neighbors(self.run.task_params(task))

    def neighbor_options(self, w: Wildcards) -> str:
        """Return the options of find_neighbors.py as JSON: those of the scoring job that change which neighbors there are."""
        chosen = {"seed", "device", *(task_traits(w.task).searched or ())}
        options = self._task_options(w)
        return json.dumps({name: value for name, value in options.items() if name in chosen}, sort_keys=True)

    def neighbor_code(self, w: Wildcards) -> dict[str, str]:
        """Return the digests of our files that a search of neighbors runs."""
        return code("find_neighbors", f"cellgauge.tasks.{w.task}.neighbors")

    def task_options(self, w: Wildcards) -> str:
        """Return the options of score_task.py as JSON: the task's params, the profiles, the seed, the device if not "cpu"."""
        return json.dumps(self._task_options(w), sort_keys=True)

    def _task_options(self, w: Wildcards) -> dict[str, Any]:
        profiles, device = self.run.options["profiles"], self._score_device(w.task)
        options = {**self.run.task_params(w.task), "profiles": profiles, "seed": self.run.seed(w.model)}
        return options | ({"device": device} if device != "cpu" else {})

    def _score_device(self, task: str) -> str:
        """Return where a task is to compute: predicted responses and libraries of its own leave a GPU nothing to do."""
        may_use_gpu = task_traits(task).modality == "expression" and "env" not in self.run.task(task)
        return self.run.score_device if may_use_gpu else "cpu"

    def search_gpus(self, w: Wildcards) -> int:
        """Return how many GPUs a search of neighbors asks for; with "auto" none, it takes one that is free or does without."""
        return int(self._score_device(w.task) == "cuda")

    def task_gpus(self, w: Wildcards) -> int:
        """Return how many GPUs a scoring job asks for: none where the search of neighbors was what needed one."""
        return 0 if self.keeps_neighbors(w.task) else self.search_gpus(w)

    def task_memory_times(self, w: Wildcards) -> float:
        """Return how many times its input a job of this task may hold in memory."""
        return self.run.task(w.task).get("memory_times", 10)

    def task_threads(self, w: Wildcards) -> int:
        return self.run.task(w.task).get("threads", 1)

    def task_env(self, w: Cell | Wildcards) -> str:
        """Return the environment file of a task, as seen from workflow/rules: PyTorch is large, so only where it is used."""
        return f"../envs/{self.run.task_env(w.task)}{'' if self._score_device(w.task) == 'cpu' else '_gpu'}.yaml"

    def image(self, environment: str) -> str:
        """Return the container image of an environment file."""
        return str(self.run.options["images"]).replace("{env}", PurePath(environment).stem)

    def check_images(self, with_conda: bool) -> None:
        """Raise CellgaugeError where jobs are to run in containers and an image is not there: they would run without it."""
        if with_conda:
            raise CellgaugeError("the images hold no conda: give --sdm one of apptainer and conda")
        cells = self.grid.cells
        names = {"data", "publish", *(self.env(cell) for cell in cells), *(self.task_env(cell) for cell in cells)}
        images = sorted({self.image(name) for name in names})
        missing = [image for image in images if "://" not in image and not Path(image).is_file()]
        if missing:
            image = missing[0] + f" (and {len(missing) - 1} more)" * (len(missing) > 1)
            remedy = "make them with `make images`, or set `run.images`"
            raise CellgaugeError(f"--sdm apptainer: there is no image {image}; {remedy}")

    def check_environments(self) -> None:
        """Raise CellgaugeError where a model or a task of the run needs packages that have not been installed."""
        for task in dict.fromkeys(cell.task for cell in self.grid.cells):
            require(self.run.task_env(task), f"task {task}")
        for model in dict.fromkeys(cell.model for cell in self.grid.cells):
            require(self.run.model_env(model), f"model {model}")

    def task_code(self, w: Wildcards) -> dict[str, str]:
        """Return the digests of our files that a task's job runs."""
        return code("score_task", f"cellgauge.tasks.{w.task}.scores")

    # --- what others published ---------------------------------------------------------------------------------------

    def published_url(self, w: Wildcards) -> str:
        return self.run.entries["published"][w.source]["url"]

    def published_file(self, w: Wildcards) -> list[str]:
        """Return the result file of a source, as a list of one, or none where its entry holds the values."""
        url = self.run.entries["published"][w.source].get("url")
        return [local(url, f"{paths.PUBLISHED_FILES}/{w.source}")] if url else []

    def published_options(self, w: Wildcards) -> str:
        entry = self.run.entries["published"][w.source]
        chosen = {key: entry[key] for key in ("format", "models", "datasets", "left_out", "values") if key in entry}
        return json.dumps({"source": w.source, **chosen}, sort_keys=True)
