"""Geneformer's tokens: a cell's genes, ranked by count divided by the gene's median in the training corpus.

Files: three pickled dictionaries, as published (only strings and numbers are read):

    token_dictionary*.pkl         {gene or special token: id}
    gene_median_dictionary*.pkl   {gene: median of its nonzero counts per 10,000}
    ensembl_mapping_dict*.pkl     {Ensembl id or symbol, in upper case: gene}
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.genes import without_version
from cellgauge.files.split import Split
from cellgauge.inference.checkpoints import CheckpointError, find_file, read_pickled_dict
from cellgauge.inference.run import Record

TARGET_SUM = 10_000
SPECIAL = ("<pad>", "<cls>", "<eos>")


@dataclass(frozen=True)
class Dictionaries:
    """The model's dictionaries of genes.

    Attributes:
        tokens: the id of each gene and special token.
        medians: the median of each gene with a token.
        genes: the gene of each id or symbol, in upper case.
    """

    tokens: Mapping[str, int]
    medians: Mapping[str, float]
    genes: Mapping[str, str]


def read_dictionaries(folder: Path) -> Dictionaries:
    """Read the dictionaries in `folder` or its subfolders; raise CheckpointError if they do not fit together."""

    def read(name: str, values: type | tuple[type, ...]) -> tuple[Path, dict]:
        path = find_file(folder, name, f"*/{name}")
        return path, read_pickled_dict(path, values)

    path, tokens = read("token_dictionary*.pkl", int)
    missing = [name for name in SPECIAL if name not in tokens]
    if missing or min(tokens.values()) < 0:
        fault = f"it lacks {', '.join(missing)}" if missing else "it has a negative id"
        raise CheckpointError(f"{path}: not the dictionary of a Geneformer with special tokens ({fault})")
    genes = [name for name in tokens if not name.startswith("<")]
    path, medians = read("gene_median_dictionary*.pkl", (int, float))
    wrong = next((gene for gene in genes if not 0 < medians.get(gene, 0) < float("inf")), None)
    if wrong is not None:
        raise CheckpointError(
            f"{path}: the median of gene '{wrong}' is {medians.get(wrong)}, not a positive number; fetch the files again"
        )
    _, mapping = read("ensembl_mapping_dict*.pkl", str)
    known = {gene: float(medians[gene]) for gene in genes}
    return Dictionaries(tokens, known, {name: gene for name, gene in mapping.items() if gene in known})


class Ranker:
    """Tokenizer of one split's cells. Columns of the same gene are summed.

    Attributes:
        matched: number of the split's columns whose gene has a token.
    """

    def __init__(self, cells: Split, dictionaries: Dictionaries, max_length: int) -> None:
        genes = [dictionaries.genes.get(without_version(name.upper()), "") for name in cells.genes]
        self._columns = np.flatnonzero(np.asarray(genes) != "")
        self.matched = len(self._columns)
        genes = [genes[column] for column in self._columns]
        # the official order, which breaks ties: genes with one column first
        n_columns = Counter(genes)
        order = {gene: index for index, gene in enumerate(sorted(n_columns, key=lambda gene: n_columns[gene] > 1))}
        self._gene_of_column = np.asarray([order[gene] for gene in genes], dtype=np.int64)
        self._tokens = np.asarray([dictionaries.tokens[gene] for gene in order], dtype=np.int64)
        self._inverse_medians = 1.0 / np.asarray([dictionaries.medians[gene] for gene in order])
        self._cls, self._eos = dictionaries.tokens["<cls>"], dictionaries.tokens["<eos>"]
        self._max_genes = max_length - 2
        self._totals = _stored_totals(cells.whole)

    def tokenize(self, counts: csr_matrix, cells: Sequence[str]) -> Iterator[Record | None]:
        """Yield (ids,), int64, <cls> first and <eos> last, for each row of `counts` (n, n_genes); None if no gene is known."""
        if self._totals is None:
            totals = np.asarray(counts.sum(axis=1)).ravel()
        else:
            totals = np.asarray([self._totals[cell] for cell in cells])
        known = counts[:, self._columns]
        parts = (known.data, self._gene_of_column[known.indices], known.indptr)
        summed = csr_matrix(parts, (len(cells), len(self._tokens)))
        summed.sum_duplicates()
        # single precision and this order of products as in the official code: rounding decides nearly equal ranks
        scales = np.repeat(1.0 / np.where(totals > 0, totals, totals.dtype.type(1)), np.diff(summed.indptr))
        values = summed.data * scales * TARGET_SUM * self._inverse_medians[summed.indices]
        for start, stop in zip(summed.indptr, summed.indptr[1:], strict=False):
            if start == stop:
                yield None
                continue
            ranked = summed.indices[start:stop][descending(values[start:stop])[: self._max_genes]]
            tokens = np.empty(len(ranked) + 2, dtype=np.int64)
            tokens[0], tokens[1:-1], tokens[-1] = self._cls, self._tokens[ranked], self._eos
            yield Record((tokens,), len(tokens))


def descending(values: np.ndarray) -> np.ndarray:
    """Return the positions of `values` from the largest to the smallest, equal ones in their order, shape (n,).

    That is `np.argsort(-values, kind="stable")`, several times as fast: numpy's default sort uses vector instructions, and
    equal values, which it leaves in any order, are few.
    """
    order = np.argsort(-values)
    ordered = values[order]
    same = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(same):
        ties = np.union1d(same, same + 1)
        # runs of equal values keep their places; positions ascend in each
        run = np.cumsum(np.append(0, ordered[ties][1:] != ordered[ties][:-1]))
        order[ties] = np.sort(run * len(values) + order[ties]) % len(values)
    return order


def _stored_totals(cells: Split) -> dict[str, np.floating] | None:
    """Return each cell's total count from the obs column n_counts if there is one: it may include genes that the data lack."""
    if "n_counts" not in cells.columns:
        return None
    totals = cells.numbers("n_counts")
    wrong = ~(np.isfinite(totals) & (totals > 0))
    if wrong.any():
        raise CellgaugeError(
            f"split {cells.name} of {cells.dataset}: obs column 'n_counts' must hold positive total counts, but it has"
            f" {totals[wrong][0]}; correct the column, or remove it to use sums of counts"
        )
    return dict(zip(cells.cells, totals, strict=True))
