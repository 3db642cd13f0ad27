"""Pictures of embeddings: the same cells for every model, apart where the embedding is apart."""

import csv

import numpy as np
import pytest
import tiny

from cellgauge.core.errors import ContractError
from cellgauge.files.embedding import write_embedding
from cellgauge.files.split import Split
from cellgauge.results.umap import COLUMNS, N_CELLS, lay_out, sample, umap


def test_groups_that_lie_apart_are_drawn_apart():
    generator = np.random.default_rng(0)
    codes = np.repeat(np.arange(3), 50)
    places = umap((20 * np.eye(3)[codes] + generator.normal(size=(150, 3))).astype(np.float32), 42)
    assert places.min() == 0 and places.max() == 1
    middles = np.array([places[codes == code].mean(axis=0) for code in range(3)])
    own = np.linalg.norm(places - middles[codes], axis=1).mean()
    apart = min(np.linalg.norm(middles[a] - middles[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert apart > 3 * own


@pytest.mark.parametrize("shape", [(3, 1), (4, 9), (40, 2)])
def test_small_matrices_are_drawn(shape):
    matrix = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    assert np.isfinite(umap(matrix, 42)).all()
    np.testing.assert_array_equal(umap(matrix, 42), umap(matrix, 42))


def test_a_sample_is_the_same_for_every_model_and_whole_where_cells_are_few():
    assert sample(7, 42).tolist() == list(range(7))
    assert len(sample(5000, 42)) == N_CELLS == len(set(sample(5000, 42)))
    np.testing.assert_array_equal(sample(5000, 42), np.sort(sample(5000, 42)))


def test_files(tmp_path):
    path = tiny.split_file(tmp_path)
    split = Split.open(path)
    matrix = np.random.default_rng(2).normal(size=(len(split.cells), 4))
    matrix[5] = np.nan
    uns = {"model": "m", "dataset": split.dataset, "split": split.name}
    write_embedding(tmp_path / "e.h5ad", matrix, split.cells, [split], uns)
    lay_out([tmp_path / "e.h5ad"], [path], tmp_path / "out.tsv")
    with (tmp_path / "out.tsv").open() as file:
        rows = list(csv.DictReader((line for line in file if not line.startswith("#")), delimiter="\t"))
    assert tuple(rows[0]) == COLUMNS and len(rows) == len(split.cells) - 1
    assert split.cells[5] not in {row["cell"] for row in rows}
    assert (
        dict(zip(split.cells, split.column("label"), strict=True)).items()
        >= {r["cell"]: r["label"] for r in rows}.items()
    )
    other = tiny.split_file(tmp_path, organism="mouse")
    with pytest.raises(ContractError, match="no embedding given for split mouse"):
        lay_out([tmp_path / "e.h5ad"], [other], tmp_path / "no.tsv")
    assert not (tmp_path / "no.tsv").exists()
