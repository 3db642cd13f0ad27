"""Names of genes: Ensembl ids without their version, and one-to-one orthologues across species."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cellgauge.errors import CellgaugeError
from cellgauge.organisms import organism

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


ENSEMBL_VERSION = re.compile(r"^(ENS[A-Z]*G\d+)\.\d+$")


def without_version(gene: str) -> str:
    """Return an Ensembl id without its version, and any other name as it is."""
    return ENSEMBL_VERSION.sub(r"\1", gene)


def shared_names(genes: pd.Series, table_path: str, columns: Mapping[str, str], species: str) -> np.ndarray:
    """Return the name that each gene shares with its one-to-one orthologues in the other species.

    The shared name is the gene's name in the organism that comes first in the alphabet. Rows that lack a gene in some
    organism, and genes that stand in more than one row, are not one-to-one and are left out.

    Args:
        genes: names of one species' genes as the table writes them, str, shape (n_genes,).
        table_path: a csv with one column of gene names per organism; further columns are ignored.
        columns: the column of each organism.
        species: the canonical name of the genes' species.

    Returns:
        str, shape (n_genes,); "" for a gene without a one-to-one orthologue.

    Raises:
        CellgaugeError: the table lacks the species or a column, or knows none of the genes.
    """
    import pandas as pd

    names = dict(sorted((organism(name).name, column) for name, column in columns.items()))
    if species not in names:
        raise CellgaugeError(
            f"the orthologue table names no column for {species} (it has {', '.join(names) or 'none'})"
        )
    table = pd.read_csv(table_path, dtype=str)
    for column in names.values():
        if column not in table:
            raise CellgaugeError(
                f"the orthologue table {table_path} has no column '{column}' (found: {', '.join(table.columns)})"
            )
    table = table[list(names.values())].dropna().drop_duplicates()
    repeated = pd.concat([table[column].duplicated(keep=False) for column in table], axis=1).any(axis=1)
    table = table[~repeated]
    first = next(iter(names.values()))
    shared = pd.Series(table[first].to_numpy(), index=table[names[species]].to_numpy())
    _check_species(genes, table, names, species, table_path)
    found = genes.map(shared).fillna("")
    found[found.duplicated(keep=False)] = ""  # two genes of the data under one name
    if not (found != "").any():
        raise CellgaugeError(
            f"the orthologue table knows none of {len(genes)} genes such as {', '.join(map(str, genes[:3]))}"
            f" in its column '{names[species]}' for {species}"
        )
    return found.to_numpy()


def _check_species(
    genes: pd.Series, table: pd.DataFrame, columns: Mapping[str, str], species: str, table_path: str
) -> None:
    """Raise CellgaugeError where another species' column of a table of orthologues knows more than twice as many genes."""
    known = {name: int(genes.isin(table[column]).sum()) for name, column in columns.items()}
    best = max(known, key=lambda name: known[name])
    if known[best] > 2 * known[species] and known[species]:
        raise CellgaugeError(
            f"the genes look like those of {best}, not of {species}: the orthologue table {table_path} knows {known[best]} of"
            f" {len(genes)} in its column '{columns[best]}', {known[species]} in '{columns[species]}'; correct `organism`"
        )
