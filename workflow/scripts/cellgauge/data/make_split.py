"""Make the splits of a dataset: from an h5ad as its authors published it to the split contract.

The options are a dataset's entry in config/datasets.yaml, as `Inputs.split_options` flattens it; config/README.md explains
each key. A fault is one sentence that names the dataset, the column and what was found.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from cellgauge.core.digest import digest_of
from cellgauge.core.errors import CellgaugeError, ContractError, did_you_mean
from cellgauge.data.genes import hub_of, shared_names, without_version
from cellgauge.data.organisms import contradiction, organism
from cellgauge.data.published import Published, open_published
from cellgauge.files.split import as_counts, write_split
from cellgauge.files.text_columns import TextColumn, as_text, ids, shorten, text_column
from cellgauge.screens.condition_names import as_names
from cellgauge.screens.from_cells import ScreenOptions, complete_screen
from cellgauge.screens.simulate import plant_screen

SAMPLED = 200
"""Cells at each end of a split whose counts a check reads."""


@dataclass(frozen=True, kw_only=True)
class SplitOptions(ScreenOptions):
    """What a dataset's entry says of one split, under the keys that config/README.md explains.

    Attributes:
        label, donor, batch, keep, ensembl, symbol: columns of obs or var, from `columns` of the entry.
        value: what the column `split_by` holds for the cells of the split.
        orthologues: tables of one-to-one orthologues, each its `path` and the column of each organism in `columns`
            (`genes.shared_names`), matched by "symbol" or "ensembl" (`orthologue_key`). The names are those of
            `orthologue_hub`, an organism of every table; by default human, or else the first in the alphabet.
    """

    organism: str
    label: str
    dataset: str = ""
    split: str = ""
    missing_labels: str = "error"
    donor: str = ""
    batch: Sequence[str] = ()
    keep: Sequence[str] = ()
    counts: str = "X"
    ensembl: Sequence[str] = ()
    symbol: Sequence[str] = ()
    split_by: str = ""
    value: str = ""
    cells: Mapping[str, Any] = field(default_factory=dict)
    round: bool = False
    source: str = ""
    licence: str = ""
    orthologues: Sequence[Mapping[str, Any]] = ()
    orthologue_key: str = "symbol"
    orthologue_hub: str = ""
    modality: str = "expression"

    @classmethod
    def parse(cls, options: Mapping[str, Any], path: Path) -> SplitOptions:
        """Check the names and fill in what a run by hand may leave out; raise CellgaugeError naming the option."""
        for name in options:
            if name not in cls.__dataclass_fields__:
                raise CellgaugeError(f"unknown split option '{name}'{did_you_mean(name, cls.__dataclass_fields__)}")
        for name in ("organism", "label"):
            if not options.get(name):
                raise CellgaugeError(f"{path}: the split options must give '{name}'")
        lists = ("batch", "keep", "ensembl", "symbol", "test_conditions")
        values = {**options, **{name: _as_tuple(options.get(name, ())) for name in lists}}
        values |= {name: options.get(name) or path.stem for name in ("dataset", "split")}
        return cls(**values | {"control": as_names(options.get("control"))})

    @property
    def where(self) -> str:
        """What errors begin with."""
        return f"dataset {self.dataset}, split {self.split}"


@dataclass(frozen=True)
class MadeSplit:
    """A split in memory, as it would be written, and `notes` on what was read in another way than it is written."""

    options: SplitOptions
    data: anndata.AnnData
    notes: list[str]


def make_split(source: str | Path, target: str | Path, options: Mapping[str, Any]) -> None:
    """Read the published h5ad `source` and write one split of it to `target`; raise CellgaugeError as `read_split`."""
    split = read_split(source, options)
    where = split.options.where
    for note in split.notes:
        print(f"note: {where}: {note}", file=sys.stderr)
    try:
        write_split(target, split.data)
    except ContractError as error:
        raise ContractError(str(error).replace(f"split {split.options.split}", where, 1)) from None


def read_split(source: str | Path, options: Mapping[str, Any], *, sampled: bool = False) -> MadeSplit:
    """Read one split of the published h5ad `source`.

    Args:
        sampled: read counts and expression of the first and the last cells alone and leave the others empty, to check a file
            in seconds.

    Raises:
        CellgaugeError: an unknown organism or option, a missing column or layer, a matrix that is not raw counts, genes of
            another species, duplicate cell ids, missing labels, no cells, or a file that cannot be read.
    """
    source = Path(source)
    parsed = SplitOptions.parse(options, source)
    with open_published(source) as file:
        try:
            reader = _Reader(file, parsed, sampled)
            data = reader.read()
        except CellgaugeError as error:
            text = str(error)
            raise CellgaugeError(text if text.startswith(parsed.where) else f"{parsed.where}: {text}") from None
    data.uns |= {
        "dataset": parsed.dataset,
        "split": parsed.split,
        "organism": organism(parsed.organism).name,
        "source": parsed.source or source.name,
        "licence": parsed.licence,
        "source_sha256": "" if reader.sampled else digest_of(source),
    }
    if reader.notes:
        data.uns["notes"] = "\n".join(reader.notes)
    return MadeSplit(parsed, data, reader.notes)


class _Reader:
    """Reads one split of an open file. Errors do not name it, and are to be prefixed."""

    def __init__(self, file: Published, options: SplitOptions, sampled: bool) -> None:
        self._file, self._options = file, options
        self._screen = options if options.modality == "perturbation" else None
        self._species, self.notes = organism(options.organism), list[str]()
        self._plants = self._screen is not None and self._screen.planted is not None
        self.sampled = sampled and not self._plants  # effects are planted into whole cells

    def read(self) -> anndata.AnnData:
        """Return the cells of the split."""
        options, screen = self._options, self._screen
        rows = self._rows()
        counts, genes = self._matrix(options.counts, "counts", rows), self._file.genes(options.counts)
        var, named = self._var(genes)
        obs = self._file.obs.iloc[rows]
        data = anndata.AnnData(X=_columns(counts, named), obs=self._obs(obs), var=var)
        if screen and screen.expression:
            data.layers["expression"] = self._expression(rows, genes, named)
        if screen and self._plants:
            data = plant_screen(data, options.where, **screen.planted)
        data.X = as_counts(data.X, options.where, to_round=options.round)
        if screen:
            partition = screen.partition and not screen.test_conditions
            of_cell = text_column(_column(obs, screen.partition, "partition")).values if partition else None
            self.notes += complete_screen(data, screen, of_cell, options.where)
        return data

    def _rows(self) -> np.ndarray:
        """Return the positions of the split's cells."""
        obs, options = self._file.obs, self._options
        chosen = np.ones(len(obs), dtype=bool)
        if options.split_by:
            value = as_text(options.value if options.value != "" else options.split)
            chosen &= _of_values(obs, options.split_by, [value], "split_by")
        for name, values in options.cells.items():
            values = values if isinstance(values, list | tuple) else [values]
            chosen &= _of_values(obs, name, list(map(as_text, values)), "cells")
        if not chosen.any():
            raise CellgaugeError(f"no cell is left, `split_by` and `cells` choose none of {len(obs)}")
        labels = self._label(obs)
        unlabeled = labels.missing & chosen
        words = f" (the text {', '.join(map(repr, labels.words))} counts as no label)" if labels.words else ""
        if unlabeled.any() and options.missing_labels != "drop":
            raise CellgaugeError(
                f"{int(unlabeled.sum())} of {int(chosen.sum())} cells have no label in column '{options.label}'{words}; set"
                " `missing_labels: drop` in the dataset's entry to leave them out"
            )
        if unlabeled.any():
            count = int(unlabeled.sum())
            self.notes.append(f"{count} cells without a label in column '{options.label}'{words} are left out")
        rows = np.flatnonzero(chosen & ~unlabeled)
        if not len(rows):
            raise CellgaugeError(f"no cells are left, the file holds {len(obs)} and none has a label")
        return rows

    def _label(self, obs: pd.DataFrame) -> TextColumn:
        names = self._screen.control if self._screen and not self._plants else ()
        return text_column(_column(obs, self._options.label, "label"), meant=names)

    def _obs(self, obs: pd.DataFrame) -> pd.DataFrame:
        options, label = self._options, self._label(obs)
        columns = {"label": label.values}
        self.notes += label.notes(options.label)
        if options.donor:
            columns["donor"] = self._text(obs, options.donor, "donor")
        if options.batch:
            columns["batch"] = self._batches(obs)
        for name in options.keep:
            if name in obs and name not in columns:
                columns[name] = text_column(_column(obs, name, "keep")).values
        cells = ids(obs.index)
        if (cells == "").any():
            raise CellgaugeError(f"{int((cells == '').sum())} cells have no id in the index of obs")
        index = pd.Index(cells, dtype=object)
        return pd.DataFrame({name: pd.Categorical(values) for name, values in columns.items()}, index=index)

    def _text(self, obs: pd.DataFrame, name: str, role: str) -> np.ndarray:
        """Return a column as text, "" where a value is missing, and add notes on it; str, shape (n_cells,)."""
        column = text_column(_column(obs, name, role))
        self.notes += column.notes(name)
        if missing := int(column.missing.sum()):
            self.notes.append(f"{missing} of {len(obs)} cells have no {role} in column '{name}'")
        return column.values

    def _batches(self, obs: pd.DataFrame) -> np.ndarray:
        """Return the batch of each cell, columns joined with "|": "" where one is missing; a wholly empty one is left out."""
        parts = [self._text(obs, name, "batch") for name in self._options.batch]
        parts = [part for part in parts if (part != "").any()] or parts[:1]
        joined = np.asarray(["|".join(values) for values in zip(*parts, strict=True)], dtype=object)
        joined[np.logical_or.reduce([part == "" for part in parts])] = ""
        return joined

    def _matrix(self, key: str, role: str, rows: np.ndarray) -> csr_matrix:
        """Return rows of a matrix, CSR, shape (n_cells, n_genes); where sampled all but the first and the last are empty."""
        if key not in self._file.matrices:
            raise CellgaugeError(
                f"no matrix '{key}' for {role} (found: {shorten(self._file.matrices) or 'none'}); name the one that holds"
                f" them with `{role}` in the dataset's entry"
            )
        if not self.sampled:
            return self._file.rows(key, rows)
        places = np.unique(np.r_[np.arange(len(rows))[:SAMPLED], np.arange(len(rows))[-SAMPLED:]])
        part = self._file.rows(key, rows[places])
        lengths = np.zeros(len(rows), dtype=np.int64)
        lengths[places] = np.diff(part.indptr)
        return csr_matrix((part.data, part.indices, np.r_[0, np.cumsum(lengths)]), shape=(len(rows), part.shape[1]))

    def _expression(self, rows: np.ndarray, genes: pd.DataFrame, named: np.ndarray) -> csr_matrix:
        """Return the published log-normalized expression of the genes of the counts."""
        key = self._screen.expression
        expression = self._matrix(key, "expression", rows)
        published = self._file.genes(key).index
        if not published.equals(genes.index):
            places = published.get_indexer(genes.index) if published.is_unique else np.asarray([-1])
            if (places < 0).any():
                counts = self._options.counts
                raise CellgaugeError(f"'{key}' (expression) is not of the genes of '{counts}' (counts)")
            expression = expression[:, places]
        return _columns(expression, named)

    def _var(self, var: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
        """Return the table of genes, and which of the published genes (positions, ascending) it lists.

        Its index holds Ensembl ids (without version) where the data have them, `feature_name` symbols. A gene without one
        of the two is called by the other; a gene without any name is left out.
        """
        options, species = self._options, self._species
        names = symbols = self._gene_names(var, options.symbol or ("index",), "symbol")
        if options.ensembl:
            published = self._gene_names(var, options.ensembl, "ensembl")
            names = np.asarray([without_version(name) for name in published], dtype=object)
            prefix = species.ensembl_prefix
            if prefix and not any(name.startswith(prefix) for name in names):
                raise CellgaugeError(
                    f"no gene id of column {' or '.join(options.ensembl)} starts with {prefix}, as those of {species.name} do"
                    f" (found: {shorten(list(names[:3]))})"
                )
        if why := contradiction([*names, *symbols], species):
            raise CellgaugeError(f"`organism` says {species.name}, but {why}; correct `organism`")
        names, symbols = np.where(names == "", symbols, names), np.where(symbols == "", names, symbols)
        named = np.flatnonzero(names != "")
        if not len(named):
            raise CellgaugeError("no gene has a name; name their columns with `columns.ensembl` and `symbol`")
        if len(named) < len(names):
            count = len(names) - len(named)
            self.notes.append(f"{count} of {len(names)} genes have no id and no symbol and are left out")
        names, symbols = names[named], symbols[named]
        repeated = pd.Index(names).duplicated()
        if repeated.any():
            raise CellgaugeError(
                f"gene ids must be unique, '{names[repeated][0]}' appears more than once; name a column of unique ids with"
                " `columns.ensembl`, or add up the counts of such genes in the file"
            )
        frame = pd.DataFrame({"feature_name": symbols}, index=pd.Index(names, dtype=object))
        if options.orthologues:
            keys = frame["feature_name"] if options.orthologue_key == "symbol" else frame.index.to_series()
            hub = options.orthologue_hub or hub_of([table["columns"] for table in options.orthologues])
            frame["orthologue"] = shared_names(keys, options.orthologues, hub, species.name)
        return frame, named

    def _gene_names(self, var: pd.DataFrame, columns: Sequence[str], role: str) -> np.ndarray:
        """Return the first of `columns` that var has ("index" is its index) as text, "" where a gene has none; (n_genes,)."""
        name = next((name for name in columns if name == "index" or name in var), columns[0])
        column = text_column(var.index if name == "index" else _column(var, name, role))
        if missing := int(column.missing.sum()):
            what = "id" if role == "ensembl" else "symbol"
            self.notes.append(
                f"{missing} of {len(var)} genes have no {what} in {name}; they are called by their other name where they have"
                " one"
            )
        return column.values


def _columns(matrix: csr_matrix, places: np.ndarray) -> csr_matrix:
    """Return columns (ascending positions) of a matrix; the matrix itself where they are all, which costs nothing."""
    return matrix if len(places) == matrix.shape[1] else matrix[:, places]


def _column(frame: pd.DataFrame, name: str, role: str) -> pd.Series:
    if name not in frame:
        hint = did_you_mean(name, frame.columns, otherwise="")
        raise CellgaugeError(f"no column '{name}' for {role} (found: {shorten(sorted(map(str, frame.columns)))}){hint}")
    if isinstance(frame[name], pd.DataFrame):
        raise CellgaugeError(f"two columns are called '{name}', which is named for {role}")
    return frame[name]


def _of_values(obs: pd.DataFrame, name: str, values: Sequence[str], option: str) -> np.ndarray:
    """Return which cells hold one of the values in a column, bool, shape (n_cells,)."""
    column = text_column(_column(obs, name, option), meant=values)
    chosen = np.isin(column.values, values)
    if not chosen.any():
        known = shorten(sorted(set(column.values[~column.missing])))
        raise CellgaugeError(f"no cell has {name} = {' or '.join(map(repr, values))} (found: {known})")
    return chosen


def _as_tuple(names: str | Sequence[str]) -> tuple[str, ...]:
    return ((names,) if names else ()) if isinstance(names, str) else tuple(names)
