"""The user's own files, opened before the first job: a row of a table for each, and one sentence for each fault.

Every file goes through the code of the job that will read it. Of a matrix of cells only a sample of rows is read.
"""

from __future__ import annotations

import io
import json
import sys
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, redirect_stderr
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cellgauge.core.errors import CellgaugeError, did_you_mean, one_line, reading
from cellgauge.plan import paths
from cellgauge.plan.grid import Cell
from cellgauge.plan.paths import UsersFile, is_remote, local

if TYPE_CHECKING:
    from cellgauge.data.make_split import MadeSplit
    from cellgauge.plan.inputs import Inputs

COLUMNS = ("used as", "file", "shape", "ids matched", "donors", "counts", "species", "labels")
SLOW_TEXT = 50 * 2**20
"""Bytes of a text table that take over a second to read."""
_TEXT = (".csv", ".tsv", ".txt", ".tab", ".gz")


# --- are they there? --------------------------------------------------------------------------------------------------


def missing_files(inputs: Inputs) -> list[str]:
    """Return a sentence for every entry of the run that names files of this machine which are not there."""
    absent = {where: [path for path in files if not _exists(path)] for where, files in _local_files(inputs).items()}
    return [_absence(where, files) for where, files in absent.items() if files]


def require_files(inputs: Inputs, files: Collection[str], used: Callable[[], Collection[str]] = tuple) -> None:
    """Raise CellgaugeError, a line for each entry, where one of a job's files is the user's and is not there.

    Files that other jobs make are not looked for.

    Args:
        used: returns the files that the job's result was made from, if it is there: they may be gone.
    """
    missing = {file for file in files if isinstance(file, UsersFile) and not _exists(file)}
    missing &= {path for paths_of_entry in _local_files(inputs).values() for path in paths_of_entry}
    if missing and missing - {*used()}:
        raise CellgaugeError("\nerror: ".join(missing_files(inputs)))


@cache
def _local_files(inputs: Inputs) -> dict[str, list[str]]:
    """Return the files of the run that are the user's: key of the entry -> paths."""
    run = inputs.run
    urls: list[tuple[str, str]] = []
    for dataset, splits in run.datasets.items():
        for source in (run.source(dataset, split) for split in splits):
            urls.append((f"datasets.{dataset}", source.url))
            tables = run.orthologue_tables(dataset, source.organism)
            urls += [(f"datasets.{dataset}.orthologues.url", table["url"]) for table in tables]
    for model, dataset, split in inputs.grid.parts:
        entry, where = run.model(model), f"models.{model.partition('@')[0]}"
        if "path" in entry:
            urls.append((f"{where}.path", run.file_of_split(model, dataset, split)[0]))
        if isinstance(entry.get("weights"), str):
            urls.append((f"{where}.weights", entry["weights"]))
        for species in run.species_to_add(model, dataset, split):
            sources = run.species_sources(model, species)
            urls += [(f"{where}.new_species.{species}.{kind}", url) for kind, (url, _) in sources.items()]
    published = ((source, run.entries["published"][source].get("url", "")) for source in run.published)
    urls += [(f"published.{source}.url", url) for source, url in published if url]
    files: dict[str, dict[str, None]] = {}
    for where, url in urls:
        if not is_remote(url):
            files.setdefault(where, {})[local(url, "")] = None
    return {where: list(each) for where, each in files.items()}


def _exists(path: str | Path) -> bool:
    """Return whether a file or folder is there and may be seen."""
    try:
        return Path(path).exists()
    except OSError:  # below a folder of somebody else's
        return False


def _absence(where: str, files: list[str]) -> str:
    path = Path(files[0])
    more = f" (and {len(files) - 1} more)" if len(files) > 1 else ""
    folder = next(parent for parent in path.parents if _exists(parent))
    if folder != path.parent:
        missing = next(parent for parent in [path, *path.parents] if parent.parent == folder)
        hint = f", there is no folder '{missing}'{_nearest(missing)}"
    else:
        hint = _nearest(path)
    remedy = ", or list in `splits` what it covers" if where.endswith(".path") else ""
    turn = " Correct" if hint.endswith("?") else "; correct"
    return f"{where}: no file '{path}'{more}{hint}{turn} the path (seen from {Path.cwd()}){remedy}"


def _nearest(path: Path) -> str:
    """Return the end of a sentence about a missing file or folder: what is there that is called nearly so."""
    try:
        names = sorted(each.name for each in path.parent.iterdir())[:1000]
    except OSError:  # may not be read
        names = []
    return did_you_mean(path.name, names, otherwise="")


# --- what do they hold? -----------------------------------------------------------------------------------------------


class FileCheck:
    """What the user's files hold, and what is wrong with them.

    Attributes:
        rows: of the table, column -> text.
        notes: what was read in another way than one might think.
        faults: one sentence each.
    """

    def __init__(self, inputs: Inputs, results: Collection[str] | None = None) -> None:
        """Check the files of the run.

        Args:
            results: the splits, embeddings and predictions that are about to be made, where their jobs write them, None for
                all. With them text that takes long to read waits for its job.
        """
        self.rows: list[dict[str, str]] = []
        self.notes: list[str] = []
        self.faults: list[str] = []
        self._inputs, self._results = inputs, results
        self._splits: dict[tuple[str, str, bool], Path | None] = {}
        with TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._folder = Path(folder)
            self._check_datasets()
            self._check_models()

    def _is_due(self, result: str) -> bool:
        return self._results is None or self._inputs.at(result) in self._results

    def _add(self, use: str, path: str | Path, **values: str) -> None:
        self.rows.append({"used as": use, "file": str(path), **values})

    @contextmanager
    def _noting_faults(self, where: str, path: str | Path) -> Iterator[None]:
        """Turn whatever is raised into one fault, which names its place."""
        try:
            with reading(f"{path}: it cannot be read"), redirect_stderr(io.StringIO()):  # notes come with the results
                yield
        except CellgaugeError as error:
            self.faults.append(one_line(error) if str(error).startswith("dataset ") else f"{where}: {one_line(error)}")

    # --- data ---------------------------------------------------------------------------------------------------------

    def _check_datasets(self) -> None:
        run = self._inputs.run
        for dataset, splits in run.datasets.items():
            for split in splits:
                due = self._is_due(paths.SPLIT.format(dataset=dataset, split=split))
                if due and not is_remote(run.source(dataset, split).url):
                    self._split(dataset, split)

    def _split(self, dataset: str, split: str, whole: bool = False) -> Path | None:
        """Return the file of a split, where need be made of a sample of its counts; None where there is none to be had."""
        key = (dataset, split, whole)
        if whole and self._split(dataset, split) is None:
            return None
        if key not in self._splits:
            self._splits[key] = None
            cell = Cell("", "", dataset, split)
            files = (self._inputs.split_object(cell), paths.SPLIT.format(dataset=dataset, split=split))
            source, result = (Path(self._inputs.at(file)) for file in files)
            remote = is_remote(self._inputs.run.source(dataset, split).url)
            if remote and result.is_file():
                self._splits[key] = result
            elif source.exists():
                with self._noting_faults(f"datasets.{dataset}", source):
                    self._splits[key] = self._make_split(cell, source, whole)
        return self._splits[key]

    def _make_split(self, cell: Cell, source: Path, whole: bool) -> Path:
        from cellgauge.data.make_split import read_split
        from cellgauge.files.split import write_split

        values = json.loads(self._inputs.split_options(cell))
        if not all(Path(table["path"]).is_file() for table in values.get("orthologues", ())):
            del values["orthologues"]  # not fetched yet
        split = read_split(source, values, sampled=not whole)
        if (cell.dataset, cell.split, not whole) not in self._splits:
            self._add(f"{cell.dataset}/{cell.split}", source, **_about_cells(split))
            self.notes += [f"{split.options.where}: {note}" for note in split.notes]
        path = self._folder / cell.dataset / f"{cell.split}{'' if whole else '.sample'}.h5ad"
        path.parent.mkdir(exist_ok=True)
        write_split(path, split.data)
        return path

    # --- models -------------------------------------------------------------------------------------------------------

    def _check_models(self) -> None:
        run = self._inputs.run
        checked: set[str] = set()
        for model, dataset, split in self._inputs.grid.parts:
            name, entry = model.partition("@")[0], run.model(model)
            cell = Cell("", model, dataset, split)
            if not self._is_due(*self._inputs.results(cell)):
                continue
            folder = run.weights_folder(model) if isinstance(entry.get("weights"), str) else ""
            if folder and name not in checked and Path(folder).exists():
                checked.add(name)
                with self._noting_faults(f"models.{name}.weights", folder):
                    self._check_folder(name, folder)
            if run.traits(model).path:
                url, file = run.file_of_split(model, dataset, split)
                path = Path(file)
                if not is_remote(url) and path.exists():
                    with self._noting_faults(f"models.{name}", path):
                        self._check_rows(cell, path)

    def _check_folder(self, model: str, folder: str) -> None:
        from cellgauge.inference.checkpoints import weights_folder

        files = [path for path in weights_folder(Path(folder), model).rglob("*") if path.is_file()]
        if not files:
            raise CellgaugeError(f"{folder}: the folder holds no files")
        self._add(f"weights of {model}", folder, shape=f"{len(files)} files")

    def _check_rows(self, cell: Cell, path: Path) -> None:
        """Read embeddings or predictions as their job does."""
        slow = path.suffix.lower() in _TEXT and path.stat().st_size > SLOW_TEXT
        use = f"{cell.model} on {cell.dataset}/{cell.split}"
        if slow and self._results is not None:
            size = path.stat().st_size >> 20
            self.notes.append(f"{path}: {size} MB of text; its job reads it, and so does `make check`")
            return
        options = json.loads(self._inputs.model_options(cell))
        split = self._split(cell.dataset, cell.split, whole=options.get("align") == "row")
        if split is None:
            is_faulty = any(fault.startswith(f"dataset {cell.dataset}, split {cell.split}:") for fault in self.faults)
            why = "its split has an error" if is_faulty else f"after {paths.SPLIT.format(**vars(cell))} is made"
            self._add(use, path, **{"ids matched": f"not checked: {why}"})
            return
        predicts = self._inputs.run.traits(cell.model).modality == "perturbation"
        read = _predictions if predicts else _embeddings
        values, notes = read(self._inputs.adapter(cell), split, path, options)
        self._add(use, path, **values)
        self.notes += [f"{path}: {note}" for note in notes.splitlines()]


def check_jobs(inputs: Inputs, results: Collection[str], *, keep_going: bool) -> None:
    """Check the files that the jobs which make `results` will read; end the process where one has a fault.

    With `keep_going` faults are printed and their jobs left to fail.
    """
    faults = FileCheck(inputs, results).faults
    for fault in faults:
        print(f"{'warning' if keep_going else 'error'}: {fault}", file=sys.stderr)
    if faults and not keep_going:
        sys.exit(1)


def _about_cells(split: MadeSplit) -> dict[str, str]:
    from cellgauge.data.organisms import contradiction, organism
    from cellgauge.files.text_columns import shorten

    obs, var = split.data.obs, split.data.var
    labels = obs["label"].value_counts().loc[lambda counts: counts > 0]
    donors = obs["donor"].astype(str) if "donor" in obs else None
    species = str(split.data.uns["organism"])
    names = [*map(str, var.index), *map(str, var["feature_name"])]
    others = (other for other in ("human", "mouse", "fruit_fly") if other != species)
    fits = any(contradiction(names, organism(other)) for other in others)
    return {
        "shape": f"{len(obs):,} cells x {len(var):,} genes",
        "labels": f"{len(labels)}: " + shorten([f"{name} {count:,}" for name, count in labels.items()], 6),
        "donors": "no column" if donors is None else str(donors[donors != ""].nunique()),
        "counts": f"whole numbers in {split.options.counts}",
        "species": f"{species} ({'as its genes' if fits else 'genes do not tell'})",
    }


def _embeddings(adapter: str, split: Path, path: Path, options: dict[str, Any]) -> tuple[dict[str, str], str]:
    """Embed as the job does; return what the table says, and notes."""
    import numpy as np

    from cellgauge.files.embedding import Embedding
    from cellgauge.models.base import embed_files

    with TemporaryDirectory() as folder:
        result = Path(folder, "embedding.h5ad")
        embed_files(adapter, [split], result, weights=path, options=options)
        embedding = Embedding.read(result)
        matched = int((~np.isnan(embedding.matrix).all(axis=1)).sum())
    values = {
        "shape": f"{embedding.shape[1]:,} dimensions",
        "ids matched": f"{matched:,} of {embedding.shape[0]:,} cells",
    }
    return values, str(embedding.uns.get("notes", ""))


def _predictions(adapter: str, split: Path, path: Path, options: dict[str, Any]) -> tuple[dict[str, str], str]:
    """Predict as the job does, without its ranks of genes; return what the table says, and notes."""
    from cellgauge.inference.adapter_job import check_options
    from cellgauge.predictors.base import load_predictor
    from cellgauge.screens.reduce import check_values
    from cellgauge.screens.screen import Screen

    predict, screen, seed = load_predictor(adapter).predict, Screen.open(split), options.pop("seed")
    check_options(adapter, predict, options)
    predicted = predict(screen, path, device="cpu", seed=seed, **options)
    matched = 0
    for response in predicted.responses:
        values, n_dims = (response.mean, 1) if response.cells is None else (response.cells, 2)
        if values is not None:
            check_values(values, response.condition, n_dims, len(predicted.genes))
            matched += 1
    shape = f"{len(predicted.genes):,} genes of the screen's {len(screen.genes):,}"
    ids_matched = f"{matched:,} of {len(screen.test_conditions):,} test conditions"
    return {"shape": shape, "ids matched": ids_matched}, str(predicted.facts.get("notes", ""))


def table(rows: list[dict[str, str]]) -> str:
    """Return the rows as lines of aligned columns; columns that no row fills are left out."""
    columns = [name for name in COLUMNS if any(row.get(name) for row in rows)]
    lines = [dict(zip(COLUMNS, COLUMNS, strict=True)), *rows]
    widths = {name: max(len(line.get(name, "")) for line in lines) for name in columns}
    return "\n".join("  ".join(line.get(name, "").ljust(widths[name]) for name in columns).rstrip() for line in lines)
