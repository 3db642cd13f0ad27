"""Make the splits of a dataset: from an h5ad as its authors published it to the split contract.

The options are a dataset's entry in config/datasets.yaml, as `Grid.split_options` flattens it; config/README.md explains
each key. A fault is one sentence that names the dataset, the column and what was found.
"""

from __future__ import annotations

import json
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
from cellgauge.data.genes import ENSEMBL_VERSION, hub_of, shared_names
from cellgauge.data.organisms import Organism, contradiction, organism
from cellgauge.data.published import Published, open_published
from cellgauge.files.split import as_counts, as_expression, log_normalised, write_split
from cellgauge.files.text_columns import TextColumn, as_text, ids, shorten, text_column
from cellgauge.screens.condition_names import ConditionNames, UnknownTargets, as_names
from cellgauge.screens.screen import CONTROL, PARTITIONS, in_second_half, simulation_split, strata, targets
from cellgauge.screens.simulate import plant_screen

SAMPLED = 200
"""Cells at each end of a split whose counts a check reads."""


@dataclass(frozen=True)
class SplitOptions:
    """What a dataset's entry says of one split. Columns are names in obs or var of the published file.

    Attributes:
        label: the column of cell types. `missing_labels` says what to do with cells without one: "error" or "drop".
        donor, batch: columns; several batch columns are joined with "|".
        keep: further columns of obs to carry over under their own names where the file has them (such as assay).
        cells: {column: values}: take only cells whose column holds one of the values.
        counts: where raw counts lie: "X", "raw/X" or "layers/<name>".
        round: whether counts that are off by rounding (up to .01) are rounded.
        ensembl, symbol: columns of var, or "index" for its index; the first that is there is taken. Empty where the
            data have none.
        split_by, value: take the cells whose column `split_by` equals `value`.
        orthologues: tables of one-to-one orthologues, each its `path` and the column of each organism in `columns`
            (`genes.shared_names`), matched by "symbol" or "ensembl" (`orthologue_key`). The names are those of
            `orthologue_hub`, an organism of every table; by default human, or else the first in the alphabet.
        modality: "expression", or "perturbation" for a screen, whose `label` is the column of conditions. Then also:
        control: the control's names, `*` for any characters. separator: what stands between the genes of a combination;
            recognised by the genes where empty. pool_guides: whether KLF1_1 and KLF1_2 are one condition.
        expression: where log-normalised expression lies; computed from the counts where empty.
        partition: the column with train, val and test; without it conditions are held out as GEARS does
            (`partition_seed`), or as `test_conditions` lists them.
        planted: make a semi-synthetic screen of these cells (`cellgauge.screens.simulate`), with these options.
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
    control: Sequence[str] = (CONTROL,)
    separator: str = ""
    pool_guides: bool = False
    expression: str = ""
    partition: str = ""
    partition_seed: int = 1
    test_conditions: Sequence[str] = ()
    planted: Mapping[str, Any] | None = None

    @classmethod
    def parse(cls, options: Mapping[str, Any], path: Path) -> SplitOptions:
        """Check the names and fill in what a run by hand may leave out; raise CellgaugeError naming the option."""
        known = cls.__dataclass_fields__
        for name in options:
            if name not in known:
                raise CellgaugeError(f"unknown split option '{name}'{did_you_mean(name, known)}")
        for name in ("organism", "label"):
            if not options.get(name):
                raise CellgaugeError(f"{path}: the split options must name '{name}'")
        several = {
            name: _as_tuple(options.get(name, ())) for name in ("batch", "keep", "ensembl", "symbol", "test_conditions")
        }
        names = {name: options.get(name) or path.stem for name in ("dataset", "split")}
        return cls(**{**options, **several, **names, "control": as_names(options.get("control"))})

    @property
    def where(self) -> str:
        return f"dataset {self.dataset}, split {self.split}"


@dataclass(frozen=True)
class MadeSplit:
    """A split in memory, as it would be written, and `notes` on what was read in another way than it is written."""

    data: anndata.AnnData
    notes: list[str]


def make_split(source: str | Path, target: str | Path, options: Mapping[str, Any]) -> None:
    """Read the published h5ad `source` and write one split of it to `target`.

    Raises:
        CellgaugeError: see `read_split`.
    """
    wanted = SplitOptions.parse(options, Path(source))
    made = read_split(source, wanted)
    for note in made.notes:
        print(f"note: {wanted.where}: {note}", file=sys.stderr)
    try:
        write_split(target, made.data)
    except ContractError as error:
        raise ContractError(str(error).replace(f"split {wanted.split}", wanted.where, 1)) from None


def read_split(source: str | Path, options: Mapping[str, Any] | SplitOptions, *, sampled: bool = False) -> MadeSplit:
    """Read one split of the published h5ad `source`.

    Args:
        sampled: read counts and expression of the first and the last cells alone and leave the others empty, to check a file
            in seconds.

    Raises:
        CellgaugeError: an unknown organism or option, a missing column or layer, a matrix that is not raw counts, genes of
            another species, duplicate cell ids, missing labels, no cells, or a file that cannot be read.
    """
    source = Path(source)
    wanted = options if isinstance(options, SplitOptions) else SplitOptions.parse(options, source)
    species = _organism(wanted)
    with open_published(source) as file:
        notes: list[str] = []
        rows = _rows(file.obs, wanted, notes)
        obs = file.obs.iloc[rows]
        sampled = sampled and wanted.planted is None  # effects are planted into whole cells
        counts, genes = _matrix(file, wanted.counts, "counts", rows, wanted, sampled), file.genes(wanted.counts)
        var, named = _var(genes, wanted, species, notes)
        data = anndata.AnnData(X=_columns(counts, named), obs=_obs(obs, wanted, notes), var=var)
        if wanted.modality == "perturbation":
            if wanted.expression:
                data.layers["expression"] = _expression(file, rows, genes, named, wanted, sampled)
            data = _screen(data, obs, wanted, notes)
    try:
        data.X = as_counts(data.X, wanted.where, to_round=wanted.round)
    except ContractError as error:
        raise CellgaugeError(str(error)) from None
    data.uns |= {
        "dataset": wanted.dataset,
        "split": wanted.split,
        "organism": species.name,
        "source": wanted.source or source.name,
        "licence": wanted.licence,
        "source_sha256": "" if sampled else digest_of(source),
    }
    if notes:
        data.uns["notes"] = "\n".join(notes)
    return MadeSplit(data, notes)


def _organism(wanted: SplitOptions) -> Organism:
    try:
        return organism(wanted.organism)
    except CellgaugeError as error:
        raise CellgaugeError(f"{wanted.where}: {error}") from None


def _rows(obs: pd.DataFrame, wanted: SplitOptions, notes: list[str]) -> np.ndarray:
    """Return the positions of the split's cells."""
    chosen = np.ones(len(obs), dtype=bool)
    if wanted.split_by:
        value = as_text(wanted.value if wanted.value != "" else wanted.split)
        chosen &= _of_values(obs, wanted.split_by, [value], "split_by", wanted)
    for name, values in wanted.cells.items():
        chosen &= _of_values(obs, name, _as_list(values), "cells", wanted)
    if not chosen.any():
        raise CellgaugeError(f"{wanted.where}: no cell is left, `split_by` and `cells` choose none of {len(obs)}")
    labels = _label(obs, wanted)
    unlabelled = labels.missing & chosen
    words = f" (the text {', '.join(map(repr, labels.words))} counts as none)" if labels.words else ""
    if unlabelled.any() and wanted.missing_labels != "drop":
        raise CellgaugeError(
            f"{wanted.where}: {int(unlabelled.sum())} of {int(chosen.sum())} cells have no label in column"
            f" '{wanted.label}'{words}; set `missing_labels: drop` in the dataset's entry to leave them out"
        )
    if unlabelled.any():
        notes.append(f"{int(unlabelled.sum())} cells without a label in column '{wanted.label}'{words} are left out")
    rows = np.flatnonzero(chosen & ~unlabelled)
    if not len(rows):
        raise CellgaugeError(f"{wanted.where}: no cells are left, the file holds {len(obs)} and none has a label")
    return rows


def _of_values(obs: pd.DataFrame, name: str, values: Sequence[str], option: str, wanted: SplitOptions) -> np.ndarray:
    """Return which cells hold one of the values in a column, bool, shape (n_cells,)."""
    column = text_column(_column(obs, name, option, wanted), meant=values)
    chosen = np.isin(column.values, values)
    if not chosen.any():
        found = shorten(sorted(set(column.values[~column.missing])))
        shown = " or ".join(f"'{value}'" for value in values)
        raise CellgaugeError(f"{wanted.where}: no cell has {name} = {shown} (found: {found})")
    return chosen


def _label(obs: pd.DataFrame, wanted: SplitOptions) -> TextColumn:
    meant = wanted.control if wanted.modality == "perturbation" and wanted.planted is None else ()
    return text_column(_column(obs, wanted.label, "label", wanted), meant=meant)


def _column(frame: pd.DataFrame, name: str, role: str, wanted: SplitOptions) -> pd.Series:
    if name in frame:
        column = frame[name]
        if isinstance(column, pd.DataFrame):
            raise CellgaugeError(f"{wanted.where}: two columns are called '{name}', which is named for {role}")
        return column
    hint = did_you_mean(name, frame.columns, otherwise="")
    raise CellgaugeError(
        f"{wanted.where}: no column '{name}' for {role} (found: {shorten(sorted(map(str, frame.columns)))}){hint}"
    )


def _matrix(file: Published, key: str, role: str, rows: np.ndarray, wanted: SplitOptions, sampled: bool = False) -> Any:
    """Return the rows of a matrix, CSR, shape (n_cells, n_genes); `sampled`: all but the first and the last are empty."""
    if key not in file.matrices:
        found = shorten(file.matrices) or "none"
        raise CellgaugeError(
            f"{wanted.where}: no matrix '{key}' for {role} (found: {found}); name the one that holds them with `{role}` in the"
            " dataset's entry"
        )
    try:
        return _some_rows(file, key, rows) if sampled else file.rows(key, rows)
    except CellgaugeError as error:
        raise CellgaugeError(f"{wanted.where}: {error}") from None


def _some_rows(file: Published, key: str, rows: np.ndarray) -> Any:
    """Return the first and the last of the rows of a matrix, and empty rows for those between, CSR, (n_cells, n_genes)."""
    places = np.unique(np.r_[np.arange(len(rows))[:SAMPLED], np.arange(len(rows))[-SAMPLED:]])
    part = file.rows(key, rows[places])
    lengths = np.zeros(len(rows), dtype=np.int64)
    lengths[places] = np.diff(part.indptr)
    return csr_matrix((part.data, part.indices, np.r_[0, np.cumsum(lengths)]), shape=(len(rows), part.shape[1]))


def _expression(
    file: Published, rows: np.ndarray, genes: pd.DataFrame, named: np.ndarray, wanted: SplitOptions, sampled: bool
) -> Any:
    """Return the published log-normalised expression of the genes of the counts."""
    expression = _matrix(file, wanted.expression, "expression", rows, wanted, sampled)
    published = file.genes(wanted.expression).index
    if not published.equals(genes.index):
        places = published.get_indexer(genes.index) if published.is_unique else None
        if places is None or (places < 0).any():
            raise CellgaugeError(
                f"{wanted.where}: '{wanted.expression}' (expression) is not of the genes of '{wanted.counts}' (counts)"
            )
        expression = expression[:, places]
    return _columns(expression, named)


def _columns(matrix: Any, places: np.ndarray) -> Any:
    """Return columns (ascending positions) of a matrix; the matrix itself where they are all, which costs nothing."""
    return matrix if len(places) == matrix.shape[1] else matrix[:, places]


def _screen(data: anndata.AnnData, obs: pd.DataFrame, wanted: SplitOptions, notes: list[str]) -> anndata.AnnData:
    """Return `data` as a screen: conditions and partition in obs, log-normalised expression as a layer."""
    if wanted.planted is not None:
        data = plant_screen(data, wanted.where, **wanted.planted)
    names = _condition_names(data, wanted)
    written = names.names(data.obs["label"].astype(str))
    conditions = [written[label] for label in data.obs["label"].astype(str)]
    controls = [label for label, condition in written.items() if condition == CONTROL]
    if not any(map(names.is_all_control, controls)):
        found = shorten(sorted(written))
        raise CellgaugeError(
            f"{wanted.where}: no cell has the control condition '{' or '.join(wanted.control)}' (found: {found}); name it with"
            " `control` in the dataset's entry"
        )
    if undeclared := [label for label in controls if not names.is_all_control(label)]:
        raise CellgaugeError(
            f"{wanted.where}: '{undeclared[0]}' is a condition beside the control '{' or '.join(wanted.control)}'; if it is a"
            f" control too, add it to `control`: [{', '.join([*wanted.control, *undeclared])}]"
        )
    if wanted.planted is None:
        notes += _notes_on_conditions(written, names, wanted)
    partition, held_out = _held_out(conditions, obs, names, wanted)
    data.obs["label"] = pd.Categorical(conditions)
    data.obs["partition"] = pd.Categorical([partition.get(condition, "") for condition in conditions])
    data.obs["withheld"] = in_second_half(data.obs_names.to_numpy()) & (data.obs["label"] == CONTROL).to_numpy()
    data.uns["strata"] = json.dumps(held_out, sort_keys=True)
    if wanted.planted is None:
        about = {"control": list(names.control), "separator": names.separator, "pool_guides": names.pool_guides}
        data.uns["condition_names"] = json.dumps(about, sort_keys=True)
    counts = as_counts(data.X, wanted.where, to_round=wanted.round)
    published = data.layers.get("expression")
    data.layers["expression"] = (
        log_normalised(counts) if published is None else as_expression(published, wanted.where, counts)
    )
    return data


def _condition_names(data: anndata.AnnData, wanted: SplitOptions) -> ConditionNames:
    """Return how the screen names its conditions; effects that were planted are named as cellgauge does."""
    if wanted.planted is not None:
        return ConditionNames(separator="+")
    genes = frozenset([*data.var_names, *data.var["feature_name"]]) - {""}
    names = ConditionNames(wanted.control, wanted.separator.strip() or wanted.separator, wanted.pool_guides, genes)
    return names.recognised(data.obs["label"].astype(str).unique())


def _notes_on_conditions(written: Mapping[str, str], names: ConditionNames, wanted: SplitOptions) -> list[str]:
    """Return notes on conditions; raise CellgaugeError where most of their names were not understood."""
    notes = []
    if names.separator != "+" and not wanted.separator:
        notes.append(
            f"conditions are read as combinations with '{names.separator}' between genes (`separator` says otherwise)"
        )
    unknown = UnknownTargets.of(dict.fromkeys(written.values()), names.genes)
    return notes + unknown.check(wanted.where, names, written, declared=bool(wanted.separator))


def _held_out(
    conditions: Sequence[str], obs: pd.DataFrame, written: ConditionNames, wanted: SplitOptions
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the partition of each condition, and the stratum of each test condition."""
    names = [condition for condition in dict.fromkeys(conditions) if condition != CONTROL]
    if wanted.test_conditions:
        listed = {written.name(name) for name in wanted.test_conditions} - {CONTROL}
        sets = {targets(name) for name in listed}
        partition = {name: "test" if targets(name) in sets else "train" for name in names}
        without_cells = {name for name in listed if targets(name) not in set(map(targets, names))}
        return partition, strata(partition | dict.fromkeys(without_cells, "test"))
    if not wanted.partition:
        return simulation_split(names, seed=wanted.partition_seed)
    of_cell = text_column(_column(obs, wanted.partition, "partition", wanted)).values
    perturbed = [(c, part) for c, part in zip(conditions, of_cell, strict=True) if c != CONTROL]
    unknown = sorted({part for _, part in perturbed} - set(PARTITIONS))
    if unknown:
        found = shorten([f"'{part}'" if part == "" else part for part in unknown])
        raise CellgaugeError(
            f"{wanted.where}: column '{wanted.partition}' must hold {', '.join(PARTITIONS)}, not {found}"
            f"{' (missing)' if '' in unknown else ''}; only controls need none"
        )
    found: dict[frozenset[str], set[str]] = {}
    for condition, part in perturbed:
        found.setdefault(targets(condition), set()).add(part)
    # as cz-benchmarks: a condition with one test cell is a test condition
    partition = {c: next(part for part in reversed(PARTITIONS) if part in found[targets(c)]) for c in names}
    if "test" not in partition.values():
        raise CellgaugeError(f"{wanted.where}: column '{wanted.partition}' names no test condition")
    return partition, strata(partition)


def _obs(obs: pd.DataFrame, wanted: SplitOptions, notes: list[str]) -> pd.DataFrame:
    columns = {"label": _label(obs, wanted).values}
    notes += _label(obs, wanted).notes(wanted.label)
    if wanted.donor:
        columns["donor"] = _text(obs, wanted.donor, "donor", wanted, notes)
    if wanted.batch:
        columns["batch"] = _batches(obs, wanted, notes)
    for name in wanted.keep:
        if name in obs and name not in columns:
            columns[name] = _text(obs, name, "keep", wanted, notes)
    cells = ids(obs.index)
    if (cells == "").any():
        raise CellgaugeError(f"{wanted.where}: {int((cells == '').sum())} cells have no id in the index of obs")
    index = pd.Index(cells, name=None, dtype=object)
    return pd.DataFrame({name: pd.Categorical(values) for name, values in columns.items()}, index=index)


def _text(obs: pd.DataFrame, name: str, role: str, wanted: SplitOptions, notes: list[str]) -> np.ndarray:
    """Return a column as text, "" where a value is missing, and add notes on it; str, shape (n_cells,)."""
    column = text_column(_column(obs, name, role, wanted))
    if role != "keep":
        notes += column.notes(name)
        if missing := int(column.missing.sum()):
            notes.append(f"{missing} of {len(obs)} cells have no {role} in column '{name}'")
    return column.values


def _batches(obs: pd.DataFrame, wanted: SplitOptions, notes: list[str]) -> np.ndarray:
    """Return the batch of each cell, columns joined with "|": "" where one is missing; a wholly empty one is left out."""
    parts = [_text(obs, name, "batch", wanted, notes) for name in wanted.batch]
    parts = [part for part in parts if (part != "").any()] or parts[:1]
    joined = np.asarray(["|".join(values) for values in zip(*parts, strict=True)], dtype=object)
    joined[np.logical_or.reduce([part == "" for part in parts])] = ""
    return joined


def _var(
    var: pd.DataFrame, wanted: SplitOptions, species: Organism, notes: list[str]
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the table of genes, and which of the published genes (positions, ascending) it lists.

    Its index holds Ensembl ids (without version) where the data have them, `feature_name` symbols. A gene without one of the
    two is called by the other; a gene without any name is left out.
    """
    symbols = _gene_names(var, wanted.symbol or ("index",), "symbol", wanted, notes)
    if wanted.ensembl:
        published = _gene_names(var, wanted.ensembl, "ensembl", wanted, notes)
        names = np.asarray([ENSEMBL_VERSION.sub(r"\1", name) for name in published], dtype=object)
        prefix = species.ensembl_prefix
        if prefix and not any(name.startswith(prefix) for name in names):
            raise CellgaugeError(
                f"{wanted.where}: no gene id of column {' or '.join(wanted.ensembl)} starts with {prefix}, as those of"
                f" {species.name} do (found: {shorten(list(names[:3]))})"
            )
    else:
        names = symbols
    if why := contradiction([*names, *symbols], species):
        raise CellgaugeError(f"{wanted.where}: `organism` says {species.name}, but {why}; correct `organism`")
    names, symbols = np.where(names == "", symbols, names), np.where(symbols == "", names, symbols)
    named = np.flatnonzero(names != "")
    if not len(named):
        raise CellgaugeError(
            f"{wanted.where}: no gene has a name; name their columns with `columns.ensembl` and `symbol`"
        )
    if len(named) < len(names):
        notes.append(f"{len(names) - len(named)} of {len(names)} genes have no id and no symbol and are left out")
    names, symbols = names[named], symbols[named]
    repeated = pd.Index(names).duplicated()
    if repeated.any():
        raise CellgaugeError(
            f"{wanted.where}: gene ids must be unique, '{names[repeated][0]}' appears more than once; name a column of"
            " unique ids with `columns.ensembl`, or add up the counts of such genes in the file"
        )
    frame = pd.DataFrame({"feature_name": symbols}, index=pd.Index(names, name=None, dtype=object))
    if wanted.orthologues:
        keys = frame["feature_name"] if wanted.orthologue_key == "symbol" else frame.index.to_series()
        try:
            hub = wanted.orthologue_hub or hub_of([table["columns"] for table in wanted.orthologues])
            frame["orthologue"] = shared_names(keys, wanted.orthologues, hub, species.name)
        except CellgaugeError as error:
            raise CellgaugeError(f"{wanted.where}: {error}") from None
    return frame, named


def _gene_names(
    var: pd.DataFrame, columns: Sequence[str], role: str, wanted: SplitOptions, notes: list[str]
) -> np.ndarray:
    """Return the first of `columns` that var has ("index" is its index) as text, "" where a gene has none; shape (n_genes,)."""
    there = next((name for name in columns if name == "index" or name in var), columns[0])
    column = text_column(var.index if there == "index" else _column(var, there, role, wanted))
    if missing := int(column.missing.sum()):
        what = "id" if role == "ensembl" else "symbol"
        notes.append(
            f"{missing} of {len(var)} genes have no {what} in {there}; they are called by their other name where they have one"
        )
    return column.values


def _as_tuple(names: str | Sequence[str]) -> tuple[str, ...]:
    return ((names,) if names else ()) if isinstance(names, str) else tuple(names)


def _as_list(values: Any) -> list[str]:
    return [as_text(value) for value in (values if isinstance(values, list | tuple) else [values])]
