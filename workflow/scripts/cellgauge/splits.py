"""Make the splits of a dataset: from an h5ad as its authors published it to the split contract.

The options are a dataset's entry in config/datasets.yaml, as `Grid.split_options` flattens it; config/README.md explains
each key. A fault is one sentence that names the dataset, the column and what was found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellgauge.contracts import as_counts, as_expression, log_normalised, open_h5, write_split
from cellgauge.errors import CellgaugeError, ContractError, did_you_mean
from cellgauge.genes import ENSEMBL_VERSION, hub_of, shared_names
from cellgauge.organisms import Organism, organism
from cellgauge.screens import CONTROL, PARTITIONS, condition_name, simulation_split, strata, targets

if TYPE_CHECKING:
    import anndata
    import h5py
    import numpy as np
    import pandas as pd
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class SplitOptions:
    """What a dataset's entry says of one split. Columns are names in obs or var of the published file.

    Attributes:
        label: the column of cell types. `missing_labels` says what to do with cells without one: "error" or "drop".
        donor, batch: columns; several batch columns are joined with "|".
        keep: further columns of obs to carry over under their own names where the file has them (such as assay).
        counts: where raw counts lie: "X", "raw/X" or "layers/<name>".
        ensembl, symbol: columns of var, or "index" for its index; the first that is there is taken. Empty where the
            data have none.
        split_by, value: take the cells whose column `split_by` equals `value`.
        orthologues: tables of one-to-one orthologues, each its `path` and the column of each organism in `columns`
            (`genes.shared_names`), matched by "symbol" or "ensembl" (`orthologue_key`). The names are those of
            `orthologue_hub`, an organism of every table; by default human, or else the first in the alphabet.
        modality: "expression", or "perturbation" for a screen, whose `label` is the column of conditions. Then also:
        control: the control's condition. expression: where log-normalised expression lies; computed from the counts
            where empty. partition: the column with train, val and test; without it conditions are held out as GEARS
            does (`partition_seed`), or as `test_conditions` lists them.
        planted: make a semi-synthetic screen of these cells (`cellgauge.planting`), with these options.
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
    source: str = ""
    licence: str = ""
    orthologues: Sequence[Mapping[str, Any]] = ()
    orthologue_key: str = "symbol"
    orthologue_hub: str = ""
    modality: str = "expression"
    control: str = "ctrl"
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
        return cls(**{**options, **several, **names})

    @property
    def where(self) -> str:
        return f"dataset {self.dataset}, split {self.split}"


def make_split(source: str | Path, target: str | Path, options: Mapping[str, Any]) -> None:
    """Read the published h5ad `source` and write one split of it to `target`.

    Raises:
        CellgaugeError: an unknown organism or option, a missing column or layer, a matrix that is not raw counts,
            duplicate cell ids, missing labels, no cells, or a file that cannot be read.
    """
    import anndata

    source = Path(source)
    wanted = SplitOptions.parse(options, source)
    species = _organism(wanted)
    with open_h5(source) as file:
        obs = _frame(file, "obs", wanted)
        rows = _rows(obs, wanted)
        obs = obs.iloc[rows]
        counts, var = _matrix(file, wanted.counts, "counts", rows, wanted)
        data = anndata.AnnData(X=counts, obs=_obs(obs, wanted), var=_var(var, wanted, species))
        if wanted.modality == "perturbation":
            if wanted.expression:
                data.layers["expression"] = _matrix(file, wanted.expression, "expression", rows, wanted)[0]
            data = _screen(data, obs, wanted)
    data.uns |= {
        "dataset": wanted.dataset,
        "split": wanted.split,
        "organism": species.name,
        "source": wanted.source or source.name,
        "licence": wanted.licence,
        "source_sha256": _sha256(source),
    }
    try:
        write_split(target, data)
    except ContractError as error:
        raise ContractError(str(error).replace(f"split {wanted.split}", wanted.where, 1)) from None


def _organism(wanted: SplitOptions) -> Organism:
    try:
        return organism(wanted.organism)
    except CellgaugeError as error:
        raise CellgaugeError(f"{wanted.where}: {error}") from None


def _frame(file: h5py.File, key: str, wanted: SplitOptions) -> pd.DataFrame:
    from anndata.io import read_elem

    try:
        return read_elem(file[key])
    except Exception as error:  # whatever h5py or anndata raise on a damaged file
        raise CellgaugeError(f"{wanted.where}: {key} of {Path(file.filename).name} cannot be read ({error})") from None


def _rows(obs: pd.DataFrame, wanted: SplitOptions) -> np.ndarray:
    """Return the positions of the split's cells."""
    import numpy as np

    chosen = np.ones(len(obs), dtype=bool)
    if wanted.split_by:
        groups = _column(obs, wanted.split_by, "split_by", wanted).astype(str)
        value = wanted.value or wanted.split
        chosen = (groups == value).to_numpy()
        if not chosen.any():
            found = _shorten(sorted(groups.unique()))
            raise CellgaugeError(f"{wanted.where}: no cell has {wanted.split_by} = '{value}' (found: {found})")
    labels = _column(obs, wanted.label, "label", wanted)
    unlabelled = (labels.isna() | (labels.astype(str).str.strip() == "")).to_numpy() & chosen
    if unlabelled.any() and wanted.missing_labels != "drop":
        raise CellgaugeError(
            f"{wanted.where}: {int(unlabelled.sum())} of {int(chosen.sum())} cells have no label in column"
            f" '{wanted.label}'; set `missing_labels: drop` in the dataset's entry to leave them out"
        )
    rows = np.flatnonzero(chosen & ~unlabelled)
    if not len(rows):
        raise CellgaugeError(f"{wanted.where}: no cells are left, the file holds {len(obs)} and none has a label")
    return rows


def _column(frame: pd.DataFrame, name: str, role: str, wanted: SplitOptions) -> pd.Series:
    if name in frame:
        return frame[name]
    hint = did_you_mean(name, frame.columns, otherwise="")
    raise CellgaugeError(
        f"{wanted.where}: no column '{name}' for {role} (found: {_shorten(sorted(map(str, frame.columns)))}){hint}"
    )


def _shorten(names: Sequence[str], most: int = 30) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _matrix(file: h5py.File, key: str, role: str, rows: np.ndarray, wanted: SplitOptions) -> tuple[Any, pd.DataFrame]:
    """Return the rows of a matrix (cells x genes) and the var that belongs to it."""
    from anndata.io import read_elem, sparse_dataset

    if key not in file:
        found = ["X", *(f"layers/{name}" for name in file.get("layers", {})), *(["raw/X"] if "raw" in file else [])]
        raise CellgaugeError(f"{wanted.where}: no matrix '{key}' for {role} (found: {', '.join(found)})")
    item = file[key]
    var = _frame(file, "raw/var" if key == "raw/X" else "var", wanted)
    whole = len(rows) == len(file["obs"][_index_name(file["obs"])])
    try:
        if hasattr(item, "keys"):
            # row by row from disk where a part is wanted: one tissue of an atlas must not cost the atlas's memory
            matrix = read_elem(item) if whole or "csc" in str(item.attrs.get("encoding-type")) else sparse_dataset(item)
            matrix = matrix if whole else matrix[rows]
        else:
            matrix = _sparse_rows(item, rows)
    except (OSError, ValueError, KeyError) as error:
        raise CellgaugeError(
            f"{wanted.where}: matrix '{key}' cannot be read, the file is truncated or corrupt ({error})"
        ) from None
    return matrix, var


def _sparse_rows(item: h5py.Dataset, rows: np.ndarray, at_once: int = 4096) -> csr_matrix:
    """Return rows (ascending) of a dense matrix as CSR, a block at a time: most of it is zeros, and all of it may not fit."""
    import numpy as np
    from scipy.sparse import csr_matrix, vstack

    blocks = []
    for start in range(0, item.shape[0], at_once):
        first, last = np.searchsorted(rows, (start, start + at_once))
        if last > first:
            blocks.append(csr_matrix(item[start : start + at_once][rows[first:last] - start]))
    return vstack(blocks, format="csr")


def _screen(data: anndata.AnnData, obs: pd.DataFrame, wanted: SplitOptions) -> anndata.AnnData:
    """Return `data` as a screen: conditions and partition in obs, log-normalised expression as a layer."""
    import pandas as pd

    if wanted.planted is not None:
        from cellgauge.planting import plant_screen

        data = plant_screen(data, wanted.where, **wanted.planted)
    conditions = [condition_name(str(label), wanted.control) for label in data.obs["label"]]
    if CONTROL not in conditions:
        found = _shorten(sorted(set(map(str, data.obs["label"]))))
        raise CellgaugeError(
            f"{wanted.where}: no cell has the control condition '{wanted.control}' (found: {found}); name it with"
            " `control` in the dataset's entry"
        )
    partition, held_out = _held_out(conditions, obs, wanted)
    data.obs["label"] = pd.Categorical(conditions)
    data.obs["partition"] = pd.Categorical([partition.get(condition, "") for condition in conditions])
    data.uns["strata"] = json.dumps(held_out, sort_keys=True)
    counts = as_counts(data.X, wanted.where)
    published = data.layers.get("expression")
    data.layers["expression"] = log_normalised(counts) if published is None else as_expression(published, wanted.where)
    return data


def _held_out(
    conditions: Sequence[str], obs: pd.DataFrame, wanted: SplitOptions
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the partition of each condition, and the stratum of each test condition."""
    names = [condition for condition in dict.fromkeys(conditions) if condition != CONTROL]
    if wanted.test_conditions:
        listed = {condition_name(name, wanted.control) for name in wanted.test_conditions}
        sets = {targets(name) for name in listed}
        partition = {name: "test" if targets(name) in sets else "train" for name in names}
        without_cells = {name for name in listed if targets(name) not in set(map(targets, names))}
        return partition, strata(partition | dict.fromkeys(without_cells, "test"))
    if not wanted.partition:
        return simulation_split(names, seed=wanted.partition_seed)
    of_cell = _column(obs, wanted.partition, "partition", wanted).astype(str).str.strip().to_numpy()
    unknown = sorted(set(of_cell) - set(PARTITIONS))
    if unknown:
        raise CellgaugeError(
            f"{wanted.where}: column '{wanted.partition}' must hold {', '.join(PARTITIONS)}, not {_shorten(unknown)}"
        )
    found: dict[frozenset[str], set[str]] = {}
    for condition, part in zip(conditions, of_cell, strict=True):
        found.setdefault(targets(condition), set()).add(part)
    # as cz-benchmarks: a condition with one test cell is a test condition
    partition = {c: next(part for part in reversed(PARTITIONS) if part in found[targets(c)]) for c in names}
    if "test" not in partition.values():
        raise CellgaugeError(f"{wanted.where}: column '{wanted.partition}' names no test condition")
    return partition, strata(partition)


def _index_name(frame: h5py.Group) -> str:
    return frame.attrs.get("_index", "_index")


def _obs(obs: pd.DataFrame, wanted: SplitOptions) -> pd.DataFrame:
    import pandas as pd

    columns = {"label": _column(obs, wanted.label, "label", wanted)}
    if wanted.donor:
        columns["donor"] = _column(obs, wanted.donor, "donor", wanted)
    if wanted.batch:
        parts = [_column(obs, name, "batch", wanted).astype(str) for name in wanted.batch]
        columns["batch"] = parts[0].str.cat(parts[1:], sep="|") if len(parts) > 1 else parts[0]
    columns |= {name: obs[name] for name in wanted.keep if name in obs and name not in columns}
    index = pd.Index(obs.index.astype(str), name=None)
    return pd.DataFrame(
        {name: pd.Categorical(column.astype(str).to_numpy()) for name, column in columns.items()}, index=index
    )


def _var(var: pd.DataFrame, wanted: SplitOptions, species: Organism) -> pd.DataFrame:
    """Return var with Ensembl ids (without version) as index where the data have them, and symbols as `feature_name`."""
    import pandas as pd

    symbols = _gene_names(var, wanted.symbol or ("index",), "symbol", wanted)
    if wanted.ensembl:
        ids = _gene_names(var, wanted.ensembl, "ensembl", wanted).str.replace(ENSEMBL_VERSION, r"\1", regex=True)
        prefix = species.ensembl_prefix
        if prefix and not ids.str.startswith(prefix).any():
            raise CellgaugeError(
                f"{wanted.where}: no gene id of column {' or '.join(wanted.ensembl)} starts with {prefix}, as those of"
                f" {species.name} do (found: {_shorten(list(ids[:3]))})"
            )
    else:
        ids = symbols
    if ids.duplicated().any():
        raise CellgaugeError(
            f"{wanted.where}: gene ids must be unique, '{ids[ids.duplicated()].iloc[0]}' stands there more than once"
        )
    frame = pd.DataFrame({"feature_name": symbols.to_numpy()}, index=pd.Index(ids.to_numpy(), name=None))
    if wanted.orthologues:
        keys = frame["feature_name"] if wanted.orthologue_key == "symbol" else frame.index.to_series()
        try:
            hub = wanted.orthologue_hub or hub_of([table["columns"] for table in wanted.orthologues])
            frame["orthologue"] = shared_names(keys, wanted.orthologues, hub, species.name)
        except CellgaugeError as error:
            raise CellgaugeError(f"{wanted.where}: {error}") from None
    return frame


def _gene_names(var: pd.DataFrame, columns: Sequence[str], role: str, wanted: SplitOptions) -> pd.Series:
    """Return the first of `columns` that var has ("index" is its index), as str."""
    there = next((name for name in columns if name == "index" or name in var), columns[0])
    return var.index.to_series().astype(str) if there == "index" else _column(var, there, role, wanted).astype(str)


def _as_tuple(names: str | Sequence[str]) -> tuple[str, ...]:
    return ((names,) if names else ()) if isinstance(names, str) else tuple(names)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
