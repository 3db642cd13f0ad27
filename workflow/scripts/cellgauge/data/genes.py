"""Names of genes: Ensembl ids without their version, and one-to-one orthologues across species."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellgauge.core.errors import CellgaugeError, reading
from cellgauge.data.organisms import organism

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


ENSEMBL_VERSION = re.compile(r"^(ENS[A-Z]*G\d+)\.\d+$")


def without_version(gene: str) -> str:
    """Return an Ensembl id without its version, and any other name as it is."""
    return ENSEMBL_VERSION.sub(r"\1", gene)


def hub_of(tables: Sequence[Mapping[str, str | int]]) -> str:
    """Return the organism by whose names orthologues are called: human, or the first of the alphabet that all tables have.

    Args:
        tables: the column of each organism, of every table. CellgaugeError is raised where no organism is in all of them.
    """
    shared = set.intersection(*({organism(name).name for name in columns} for columns in tables))
    if not shared:
        raise CellgaugeError("no organism has a column in every orthologue table, so they cannot be joined")
    return "human" if "human" in shared else min(shared)


def shared_names(genes: pd.Series, tables: Sequence[Mapping[str, Any]], hub: str, species: str) -> np.ndarray:
    """Return the name that each gene shares with its one-to-one orthologues in the other species: that of the hub's gene.

    Each species is matched with the hub alone, so that a set of species shares the genes that are one-to-one in each of
    them, whatever other species the tables hold. A gene that stands in two different pairs, be one of them without a gene
    of the other species, is not one-to-one and is left out.

    Args:
        genes: names of one species' genes as the tables write them, str, shape (n_genes,).
        tables: `path`, a csv, and `columns`, the column of each organism: its name, or (in a csv without a header) its
            position from 0. Further columns are ignored.
        hub: the organism that stands in every table (`hub_of`).
        species: the canonical name of the genes' species.

    Returns:
        str, shape (n_genes,); "" for a gene without a one-to-one orthologue.

    Raises:
        CellgaugeError: no table has the species, or one lacks a column.
    """
    import pandas as pd

    known = [{organism(name).name for name in table["columns"]} for table in tables]
    tables = [table for table, names in zip(tables, known, strict=True) if species in names]
    if not tables:
        names = ", ".join(sorted(set().union(*known)))
        raise CellgaugeError(f"the orthologue table names no column for {species} (it has {names})")
    pairs = pd.concat([_one_to_one(table, hub, species, genes) for table in tables]).drop_duplicates()
    pairs = pairs[~pairs["species"].duplicated(keep=False)]
    names = genes.map(pairs.set_index("species")["hub"]).fillna("")
    names[names.duplicated(keep=False)] = ""  # two genes of the data under one name
    return names.to_numpy()


def _one_to_one(table: Mapping[str, Any], hub: str, species: str, genes: pd.Series) -> pd.DataFrame:
    """Return the columns `hub` and `species` of a table; for the hub itself its genes with an orthologue in any species."""
    import pandas as pd

    from cellgauge.data.tables import first_lines

    columns = {organism(name).name: column for name, column in table["columns"].items()}
    header = None if any(isinstance(column, int) for column in columns.values()) else 0
    with reading(f"the orthologue table {table['path']} cannot be read"):
        first_lines(Path(table["path"]))
        rows = pd.read_csv(table["path"], dtype=str, header=header)
    if missing := [column for column in columns.values() if column not in rows]:
        names = ", ".join(map(str, rows.columns))
        raise CellgaugeError(f"the orthologue table {table['path']} has no column '{missing[0]}' (found: {names})")
    _check_species(genes, rows, columns, species, table["path"])
    others = [species] if species != hub else [name for name in columns if name != hub]
    parts = []
    for other in others:
        pairs = rows[[columns[hub], columns[other]]].set_axis(["hub", "species"], axis=1)
        pairs = pairs.apply(lambda names: names.str.replace(ENSEMBL_VERSION, r"\1", regex=True)).drop_duplicates()
        several = [pairs[side].duplicated(keep=False) & pairs[side].notna() for side in pairs]
        pairs = pairs[~pd.concat(several, axis=1).any(axis=1)].dropna()
        parts.append(pairs if species != hub else pairs.assign(species=pairs["hub"]))
    return pd.concat(parts)


def _check_species(
    genes: pd.Series, table: pd.DataFrame, columns: Mapping[str, str | int], species: str, table_path: str
) -> None:
    """Raise CellgaugeError where another species' column of a table of orthologues knows more than twice as many genes."""
    known = {name: int(genes.isin(table[column]).sum()) for name, column in columns.items()}
    best = max(known, key=lambda name: known[name])
    if known[best] > 2 * known[species] and known[species]:
        raise CellgaugeError(
            f"the genes look like those of {best}, not of {species}: the orthologue table {table_path} knows {known[best]} of"
            f" {len(genes)} in its column '{columns[best]}', {known[species]} in '{columns[species]}'; correct `organism`"
        )
