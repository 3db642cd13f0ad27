"""The adapters that need no checkpoint."""

import json
import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import tiny
import yaml
from scipy.spatial.distance import cdist

from cellgauge.core.errors import CellgaugeError
from cellgauge.data.make_split import make_split
from cellgauge.files.embedding import Embedding
from cellgauge.files.split import Split
from cellgauge.models.base import adapter_names, embed_files, traits
from cellgauge.plan.sources import SCRIPTS
from cellgauge.tasks.run import score_files


@pytest.fixture
def human(tmp_path):
    return tiny.split_file(tmp_path)


@pytest.fixture
def species(tmp_path):
    table = tiny.orthologue_table(tmp_path / "orthologues.csv")
    columns = {"orthologues": tiny.orthologues(table)}
    return [tiny.split_file(tmp_path, organism=name, seed=n, **columns) for n, name in enumerate(("human", "mouse"))]


def embed(adapter, splits, folder, weights=None, **options):
    splits = splits if isinstance(splits, list) else [splits]
    embed_files(adapter, splits, folder / "e.h5ad", weights=weights, options=options)
    found = Embedding.read(folder / "e.h5ad")
    assert found.matrix.shape == found.shape  # read while the file is there: the next embedding takes its place
    return found


def test_linear_is_the_references_pca(human, tmp_path):
    import scanpy

    data = anndata.read_h5ad(human)
    scanpy.pp.normalize_total(data)
    scanpy.pp.log1p(data)
    scanpy.pp.highly_variable_genes(data, n_top_genes=40)
    data = data[:, data.var["highly_variable"]].copy()
    scanpy.pp.pca(data, n_comps=10, random_state=42)
    found = embed("linear", human, tmp_path, n_top_genes=40, n_components=10)
    np.testing.assert_array_equal(found.matrix, data.obsm["X_pca"])
    assert found.uns["reference_on_counts"] and found.uns["fitted_on_split"] and not found.uns["common_units"]


def test_linear_on_fewer_cells_than_components(tmp_path):
    found = embed("linear", tiny.split_file(tmp_path, n_cells=12), tmp_path)
    assert found.matrix.shape == (12, 11)


def test_hvg_is_sparse_expression_made_dense(human, tmp_path):
    found = embed("hvg", human, tmp_path, n_top_genes=20)
    assert found.matrix.shape == (120, 20) and (found.matrix >= 0).all()


@pytest.mark.parametrize("adapter", ["pca_joint", "harmony_species"])
def test_joint_models_embed_all_cells_in_the_order_of_the_splits(species, tmp_path, adapter):
    found = embed(adapter, species, tmp_path, n_components=10)
    assert found.matrix.shape == (240, 10)
    assert found.uns["split"] == "human+mouse" and json.loads(found.uns["splits"]) == ["human", "mouse"]
    assert found.uns["organism"] == "human+mouse" and found.spans == ("human", "mouse")
    human, mouse = (Split.open(path) for path in species)
    np.testing.assert_array_equal(found.rows_of(mouse), found.matrix[120:])
    # the same types of both species meet: a mouse cell's nearest human cell has mostly its label
    nearest = cdist(found.rows_of(mouse), found.rows_of(human)).argmin(axis=1)
    assert (human.column("label")[nearest] == mouse.column("label")).mean() > 0.8


def test_joint_models_say_that_orthologues_are_missing(tmp_path):
    splits = [tiny.split_file(tmp_path, organism=name) for name in ("human", "mouse")]
    with pytest.raises(CellgaugeError, match="split human of tiny has no column 'orthologue'"):
        embed("pca_joint", splits, tmp_path)


@pytest.mark.parametrize("adapter", ["random", "shuffled", "oracle", "harmony", "harmony_species"])
def test_seeds_change_stochastic_models_and_repeat(species, tmp_path, adapter):
    splits = species if adapter == "harmony_species" else species[0]
    first, again, other = (embed(adapter, splits, tmp_path, seed=seed).matrix for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert adapter.startswith("harmony") or not np.array_equal(first, other)


def test_random_differs_between_splits(species, tmp_path):
    human, mouse = (embed("random", path, tmp_path).matrix for path in species)
    assert not np.allclose(human, mouse)


def test_shuffled_has_the_rows_of_linear(human, tmp_path):
    linear = embed("linear", human, tmp_path).matrix
    shuffled = embed("shuffled", human, tmp_path).matrix
    assert not np.array_equal(linear, shuffled)
    np.testing.assert_array_equal(np.sort(linear[:, 0]), np.sort(shuffled[:, 0]))


def test_oracle_puts_a_label_in_one_place_in_every_species(species, tmp_path):
    human, mouse = (embed("oracle", path, tmp_path) for path in species)
    labels = [Split.open(path).column("label") for path in species]
    nearest = cdist(mouse.matrix, human.matrix).argmin(axis=1)
    assert (labels[0][nearest] == labels[1]).all()


def test_scvi_is_trained_in_place(human, tmp_path):
    found = embed("scvi_trained", human, tmp_path, max_epochs=2, n_latent=5, device="cpu")
    assert found.matrix.shape == (120, 5) and np.isfinite(found.matrix).all()
    assert found.uns["epochs"] == 2 and found.uns["batches"] == 4 and found.uns["device"] == "cpu"
    again = embed("scvi_trained", human, tmp_path, max_epochs=2, n_latent=5, device="cpu")
    np.testing.assert_array_equal(found.matrix, again.matrix)


def batch_effects(tmp_path, n_batches=3):
    """Return a split whose technical batches differ in depth and in the expression of a third of the genes."""
    data = tiny.published(n_cells=300)
    generator = np.random.default_rng(3)
    batch = generator.integers(n_batches, size=data.n_obs)
    counts = data.X.toarray()
    for n in range(1, n_batches):
        counts[batch == n] *= generator.choice([1, 1, 4], size=data.n_vars)
    data.X = counts
    data.obs["run"] = pd.Categorical([f"run{n}" for n in batch])
    data.write_h5ad(tmp_path / "runs.h5ad")
    make_split(tmp_path / "runs.h5ad", tmp_path / "split.h5ad", tiny.options(batch="run"))
    return tmp_path / "split.h5ad"


def test_harmony_mixes_the_batches_of_a_split_and_keeps_its_labels(tmp_path):
    path = batch_effects(tmp_path)
    split = Split.open(path)
    mixing = {}
    for adapter in ("linear", "harmony"):
        found = embed(adapter, path, tmp_path, n_components=10)
        nearest = np.argsort(cdist(found.matrix, found.matrix), axis=1)[:, 1:16]
        same = {c: (split.column(c)[nearest] == split.column(c)[:, None]).mean() for c in ("batch", "label")}
        mixing[adapter] = same
    assert mixing["linear"]["batch"] > 0.8 > 0.5 > mixing["harmony"]["batch"]
    assert mixing["harmony"]["label"] > 0.8
    assert found.uns["batches"] == 3


@pytest.mark.parametrize(
    ("batch", "options", "words"),
    [
        ("assay", {}, "'batch' has one value"),
        ("", {}, "'batch', which the split does not have"),
        ("donor_id", {"batch_key": "dnoor"}, "'dnoor', which the split does not have"),
    ],
)
def test_harmony_without_batches_is_not_applicable_and_scores_say_why(tmp_path, batch, options, words):
    path = tiny.split_file(tmp_path, batch=batch)
    found = embed("harmony", path, tmp_path, **options)
    assert np.isnan(found.matrix).all() and words in found.uns["not_applicable"]
    scores = list(score_files("clustering", [tmp_path / "e.h5ad"], [path]))
    assert {s.status for s in scores} == {"not_applicable"} and all(words in s.reason for s in scores)


def test_scvi_takes_the_batch_that_it_is_given(human, tmp_path):
    few = {"max_epochs": 1, "n_latent": 3, "device": "cpu"}
    known = {key: embed("scvi_trained", human, tmp_path, batch_key=key, **few) for key in ("batch", "", "donor")}
    assert {key: found.uns["batches"] for key, found in known.items()} == {"batch": 4, "": 1, "donor": 4}
    assert not np.array_equal(known["batch"].matrix, known[""].matrix)


def test_provenance(human, tmp_path):
    uns = embed("random", human, tmp_path, seed=7).uns
    assert {"model", "adapter", "dataset", "split", "params", "seed", "device", "wall_seconds", "cpu_seconds"} <= set(
        uns
    )
    assert uns["seed"] == 7 and uns["peak_memory_mb"] > 10 and "numpy" in json.loads(uns["versions"])


@pytest.mark.parametrize(
    ("adapter", "options", "words"),
    [
        ("lineer", {}, "unknown adapter 'lineer', did you mean 'linear'"),
        ("linear", {"n_component": 3}, "adapter 'linear': unknown option 'n_component', did you mean 'n_components'"),
        ("scvi_trained", {"device": "cuda"}, "device 'cuda' is not available here"),
    ],
)
def test_wrong_names_are_one_sentence(human, tmp_path, adapter, options, words):
    if "device" in options and pytest.importorskip("torch").cuda.is_available():
        pytest.skip("this machine has the device that the test wants to be missing")
    with pytest.raises(CellgaugeError, match=words):
        embed(adapter, human, tmp_path, **options)


def test_a_model_per_split_refuses_two(species, tmp_path):
    with pytest.raises(CellgaugeError, match="'linear' embeds one split at a time, 2 were given"):
        embed("linear", species, tmp_path)


# --- precomputed -----------------------------------------------------------------------------------------------------


def save(folder, form, matrix, ids, index_name="cell"):
    path = folder / f"mine.{form}"
    if form == "npy":
        np.save(path, matrix)
        return path
    frame = pd.DataFrame(
        matrix, index=pd.Index(ids, name=index_name), columns=[f"d{i}" for i in range(matrix.shape[1])]
    )
    if form == "npz":
        np.savez(path, embedding=matrix, cells=np.asarray(ids, dtype=str))
    elif form in ("csv", "tsv"):
        frame.to_csv(path, sep={"csv": ",", "tsv": "\t"}[form])
    elif form == "parquet":
        frame.to_parquet(path)
    elif form == "h5ad":
        anndata.AnnData(obs=pd.DataFrame(index=ids), obsm={"X_mine": matrix}).write_h5ad(path)
    return path


@pytest.mark.parametrize("form", ["npz", "csv", "tsv", "parquet", "h5ad"])
def test_precomputed_rows_are_aligned_by_cell_id(human, tmp_path, form):
    cells = Split.open(human).cells
    matrix = np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32)
    order = np.random.default_rng(1).permutation(120)
    extra = np.concatenate([matrix[order][:-1], np.ones((1, 3), np.float32)])
    ids = [*cells[order][:-1], "a cell of nobody"]
    found = embed("precomputed", human, tmp_path, weights=save(tmp_path, form, extra, ids)).matrix
    lost = order[-1]
    assert np.isnan(found[lost]).all()
    np.testing.assert_allclose(np.delete(found, lost, 0), np.delete(matrix, lost, 0), rtol=1e-6)


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("index_name", ["cell", None])
def test_numeric_looking_cell_ids_stay_text(tmp_path, form, index_name):
    data = tiny.published()
    data.obs_names = [f"{i:04d}" for i in range(120)]
    data.write_h5ad(tmp_path / "p.h5ad")
    from cellgauge.data.make_split import make_split

    make_split(tmp_path / "p.h5ad", tmp_path / "s.h5ad", tiny.options())
    matrix = np.arange(240, dtype=np.float32).reshape(120, 2) / 8
    found = embed(
        "precomputed", tmp_path / "s.h5ad", tmp_path, weights=save(tmp_path, form, matrix, data.obs_names, index_name)
    )
    np.testing.assert_array_equal(found.matrix, matrix)


def test_rows_in_order_only_when_told_so_and_counts_match(human, tmp_path):
    matrix = np.arange(240, dtype=np.float32).reshape(120, 2) / 8
    path = save(tmp_path, "npy", matrix, [])
    np.testing.assert_array_equal(embed("precomputed", human, tmp_path, weights=path, align="row").matrix, matrix)
    with pytest.raises(CellgaugeError, match="holds no cell ids; add them, or set `align: row`"):
        embed("precomputed", human, tmp_path, weights=path)
    path = save(tmp_path, "npy", matrix[:-1], [])
    with pytest.raises(CellgaugeError, match="it has 119 rows, split human has 120 cells"):
        embed("precomputed", human, tmp_path, weights=path, align="row")


def test_rows_in_order_are_verified(human, tmp_path):
    labels = Split.open(human).column("label")
    obs = pd.DataFrame({"cell_type": labels}, index=[f"other{i}" for i in range(120)])
    matrix = np.ones((120, 2), np.float32)
    path = tmp_path / "mine.h5ad"
    anndata.AnnData(obs=obs, obsm={"emb": matrix}).write_h5ad(path)
    embed("precomputed", human, tmp_path, weights=path, align="row", verify={"cell_type": "label"})
    obs["cell_type"] = np.roll(labels, 1)
    anndata.AnnData(obs=obs, obsm={"emb": matrix}).write_h5ad(path)
    with pytest.raises(
        CellgaugeError, match=r"its rows are not the cells of split human, \d+ of 120 differ in 'cell_type'"
    ):
        embed("precomputed", human, tmp_path, weights=path, align="row", verify={"cell_type": "label"})


def test_a_pickle_in_an_npy_is_not_opened(human, tmp_path):
    path = tmp_path / "bomb.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(CellgaugeError, match="cannot be read as npy"):
        embed("precomputed", human, tmp_path, weights=path, align="row")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.pkl", b"", "unknown format '.pkl'; supported for embeddings: .npy"),
        ("x.h5ad", b"junk", "not a readable h5ad file"),
        ("x.csv", b"cell,a\nnobody,1\n", "none of its 1 cell ids"),
        ("x.csv", b"cell,a\nhuman-cell0,1\nhuman-cell0,2\n", "'human-cell0' appears more than once"),
        ("missing.npy", None, "no such file"),
    ],
)
def test_unusable_files_are_one_sentence(human, tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CellgaugeError, match=words):
        embed("precomputed", human, tmp_path, weights=tmp_path / name)


def test_which_matrix_is_asked_where_several_fit(human, tmp_path):
    cells = Split.open(human).cells
    obsm = {"X_a": np.ones((120, 2)), "X_b": np.zeros((120, 2))}
    anndata.AnnData(obs=pd.DataFrame(index=cells), obsm=obsm).write_h5ad(tmp_path / "two.h5ad")
    with pytest.raises(CellgaugeError, match=r"which matrix is the embedding\? Name it with `key`.*X_a, X_b"):
        embed("precomputed", human, tmp_path, weights=tmp_path / "two.h5ad")
    assert (embed("precomputed", human, tmp_path, weights=tmp_path / "two.h5ad", key="X_b").matrix == 0).all()


def test_script(human, tmp_path):
    command = [sys.executable, SCRIPTS / "embed_cells.py", "random", "--split", human, "--output", tmp_path / "o.h5ad"]
    subprocess.run([*command, "--model", "noise", "--options", '{"n_dims": 3}'], check=True)
    assert Embedding.read(tmp_path / "o.h5ad").uns["model"] == "noise"
    done = subprocess.run([*command, "--options", '{"n_dim": 3}'], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("error: adapter 'random': unknown option")


def test_what_is_fitted_to_the_scored_cells_says_so():
    """All baselines but the controls that look at no expression: `random` and `oracle`."""
    catalogue = yaml.safe_load((Path(__file__).parents[3] / "config/models.yaml").read_text(encoding="utf-8"))["models"]
    names = {entry["adapter"] for entry in catalogue.values()} & set(adapter_names())
    fitted = {name for name in names if traits(name).fitted_on_split}
    assert fitted == {"linear", "hvg", "pca_joint", "harmony", "harmony_species", "scvi_trained", "shuffled"}
