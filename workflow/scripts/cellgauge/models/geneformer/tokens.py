"""Geneformer's tokens: the genes of a cell, ranked by their counts relative to each gene's median over the corpus.

Files: three pickled dictionaries, as they are published (only their text and numbers are read):

    token_dictionary*.pkl         {gene or special token: id}
    gene_median_dictionary*.pkl   {gene: median of its non-zero counts per 10,000}
    ensembl_mapping_dict*.pkl     {Ensembl id or symbol, in capitals: gene}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.genes import without_version

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from scipy.sparse import csr_matrix

    from cellgauge.files.split import Split
    from cellgauge.inference.run import Record

TARGET_SUM = 10_000
SPECIAL = ("<pad>", "<cls>", "<eos>")


@dataclass(frozen=True)
class Dictionaries:
    """What the model knows of genes.

    Attributes:
        tokens: the id of each gene and special token.
        medians: of each gene that has a token.
        genes: the gene that a name stands for, of names in capitals.
    """

    tokens: Mapping[str, int]
    medians: Mapping[str, float]
    genes: Mapping[str, str]

    @property
    def n_genes(self) -> int:
        """Genes that have a token."""
        return len(self.medians)


def read_dictionaries(folder: Path) -> Dictionaries:
    """Read the dictionaries in `folder` or in a folder of it; raise CellgaugeError where they do not fit together."""
    from cellgauge.inference.checkpoints import CheckpointError, find_file, read_pickled_dict

    def read(name: str, values: type | tuple[type, ...]) -> tuple[Path, dict]:
        path = find_file(folder, name, f"*/{name}")
        return path, read_pickled_dict(path, values)

    path, tokens = read("token_dictionary*.pkl", int)
    lacking = [name for name in SPECIAL if name not in tokens]
    if lacking or min(tokens.values()) < 0:
        fault = f"lacks {', '.join(lacking)}" if lacking else "holds a negative id"
        raise CheckpointError(f"{path}: {fault}, so it is not the dictionary of a Geneformer with special tokens")
    genes = [name for name in tokens if not name.startswith("<")]
    path, medians = read("gene_median_dictionary*.pkl", (int, float))
    wrong = next((gene for gene in genes if not 0 < medians.get(gene, 0) < float("inf")), None)
    if wrong is not None:
        raise CheckpointError(f"{path}: gives gene '{wrong}' the median {medians.get(wrong)}; fetch the files again")
    _, mapping = read("ensembl_mapping_dict*.pkl", str)
    known = set(genes)
    return Dictionaries(
        tokens,
        {gene: float(medians[gene]) for gene in genes},
        {name: gene for name, gene in mapping.items() if gene in known},
    )


class Ranker:
    """The tokens of cells of one split. Columns that stand for one gene are summed.

    Attributes:
        matched: columns of the split that stand for a gene with a token.
    """

    def __init__(self, cells: Split, dictionaries: Dictionaries, max_length: int) -> None:
        import numpy as np

        genes = [dictionaries.genes.get(without_version(name.upper()), "") for name in cells.genes]
        self._columns = np.flatnonzero(np.asarray(genes) != "")
        self.matched = len(self._columns)
        genes = [genes[column] for column in self._columns]
        # the official order, which decides between equal ranks: genes of one column first
        times = Counter(genes)
        order = {gene: place for place, gene in enumerate(sorted(times, key=lambda gene: times[gene] > 1))}
        self._places = np.asarray([order[gene] for gene in genes], dtype=np.int64)
        self._tokens = np.asarray([dictionaries.tokens[gene] for gene in order], dtype=np.int64)
        self._inverse_medians = 1.0 / np.asarray([dictionaries.medians[gene] for gene in order])
        self._cls, self._eos = dictionaries.tokens["<cls>"], dictionaries.tokens["<eos>"]
        self._most = max_length - 2
        self._totals = _given_totals(cells)

    def tokenise(self, counts: csr_matrix, cells: Sequence[str]) -> Iterator[Record | None]:
        """Yield (ids,), int64, <cls> first and <eos> last, of each row of `counts` (n, n_genes); None without a known gene."""
        import numpy as np
        from scipy.sparse import csr_matrix

        from cellgauge.inference.run import Record

        if self._totals is None:
            totals = np.asarray(counts.sum(axis=1)).ravel()
        else:
            totals = np.asarray([self._totals[cell] for cell in cells])
        known = counts[:, self._columns]
        summed = csr_matrix((known.data, self._places[known.indices], known.indptr), (len(cells), len(self._tokens)))
        summed.sum_duplicates()
        for row, (start, stop) in enumerate(zip(summed.indptr, summed.indptr[1:], strict=False)):
            if start == stop:
                yield None
                continue
            places = summed.indices[start:stop]
            # single precision as in the official code, whose rounding decides between genes of nearly equal ranks
            values = (
                summed.data[start:stop] * (1.0 / totals[row : row + 1]) * TARGET_SUM * self._inverse_medians[places]
            )
            ranked = places[np.argsort(-values, kind="stable")[: self._most]]
            yield Record((np.concatenate(([self._cls], self._tokens[ranked], [self._eos])),), len(ranked) + 2)


def _given_totals(cells: Split) -> dict[str, np.floating] | None:
    """Return the total count of each cell where obs has a column n_counts: the data may lack genes that were counted."""
    import numpy as np

    if "n_counts" not in cells.columns:
        return None
    totals = cells.numbers("n_counts")
    if not (np.isfinite(totals) & (totals > 0)).all():
        raise CellgaugeError(
            f"split {cells.name} of {cells.dataset}: obs column 'n_counts' must be the total counts of cells, it holds"
            f" {totals[~(np.isfinite(totals) & (totals > 0))][0]}; mend it, or leave it out to have them summed"
        )
    return dict(zip(cells.cells, totals, strict=True))
