"""score_task.py as a user runs it: files in, rows out, no heavy library, no second wasted."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tiny
from warm_python import warm_python

from cellgauge.files.embedding import write_embedding
from cellgauge.files.score import read_scores
from cellgauge.files.split import Split

SCRIPT = Path(__file__).resolve().parents[2] / "workflow" / "scripts" / "score_task.py"
SEARCH = SCRIPT.with_name("find_neighbors.py")
HEAVY = ("scanpy", "jax", "torch", "pandas", "anndata", "matplotlib", "numba", "umap")


@pytest.fixture
def files(tmp_path):
    """A split and an embedding of it per species; `files(organism, edit)` lets `edit` change the rows first."""

    def make(organism="human", edit=None, **changes):
        path = tiny.split_file(tmp_path, organism=organism, **changes)
        split = Split.open(path)
        codes = np.unique(split.column("label"), return_inverse=True)[1]
        matrix = 2 * np.eye(3)[codes] + np.random.default_rng(0).normal(size=(len(codes), 3))
        if edit:
            edit(matrix)
        output = tmp_path / f"embedding_{organism}.h5ad"
        uns = {"model": "none", "dataset": split.dataset, "split": split.name, "shared_space": True}
        write_embedding(output, matrix, split.cells, [split], uns)
        return output, path

    return make


def command(task, files, output, **options):
    embeddings, splits = zip(*files, strict=True)
    arguments = [task, "--embeddings", *embeddings, "--splits", *splits, "--output", output]
    if options:
        arguments += ["--options", tiny.as_json(options)]
    return list(map(str, arguments))


def run(task, files, output, neighbors=(), python=None, **options):
    arguments = [*command(task, files, output, **options), "--neighbors", *map(str, neighbors)]
    result = subprocess.run([python or warm_python(), str(SCRIPT), *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return read_scores(output)


def search(task, files, output, **options):
    arguments = command(task, files, output, **options)
    return subprocess.run([warm_python(), str(SEARCH), *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("task", ["clustering", "label_prediction", "cross_species"])
def test_scorers_load_no_heavy_library(task, files, tmp_path):
    given = [files("human"), files("mouse")] if task == "cross_species" else [files()]
    code = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')\n"
    code += f"print(sorted(set({HEAVY!r}) & set(sys.modules)), 'sklearn' in sys.modules)"
    arguments = [str(SCRIPT), *command(task, given, tmp_path / "scores.tsv")]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parent)}
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment)
    assert result.stdout.strip() == f"[] {task != 'clustering'}", result.stderr


@pytest.mark.parametrize("task", ["clustering", "label_prediction", "cross_species"])
def test_a_trivial_job_costs_little_more_than_its_imports(task, files, tmp_path):
    """Label prediction has nothing to fit: all cells but nine are of one type."""
    if task == "label_prediction":
        given = [files(n_cells=27)]
    else:
        given = [files("human"), files("mouse")] if task == "cross_species" else [files()]
    libraries = "h5py, numpy, scipy.sparse" + ", sklearn.linear_model" * (task == "cross_species")
    imports = min(_cpu("-c", f"import {libraries}") for _ in range(3))
    job = min(_cpu(str(SCRIPT), *command(task, given, tmp_path / "scores.tsv")) for _ in range(2))
    assert job < 4 * imports


def _cpu(*arguments):
    """Return the CPU seconds of a Python process."""
    process = subprocess.Popen([sys.executable, *arguments])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


def test_cells_without_an_embedding_are_left_out_and_counted(files, tmp_path):
    def edit(matrix):
        matrix[5:25] = np.nan

    rows = run("clustering", [files(edit=edit)], tmp_path / "scores.tsv", profiles=["reference"])
    values = {row.metric: row.value for row in rows}
    assert (values["n_cells"], values["n_unembedded"]) == (100, 20)
    assert values["ari"] > 0.1
    assert {(row.task, row.model, row.dataset, row.split) for row in rows} == {("clustering", "none", "tiny", "human")}


def test_what_cannot_be_scored_is_a_row_per_profile_with_its_reason(files, tmp_path):
    rows = run("label_prediction", [files(n_cells=27)], tmp_path / "scores.tsv")
    assert [(row.profile, row.status) for row in rows] == [
        ("reference", "not_applicable"),
        ("corrected", "not_applicable"),
    ]
    assert rows[0].reason == "0 of 3 labels have at least 10 cells, and a prediction needs two"
    rows = run("cross_species", [files()], tmp_path / "scores.tsv")
    assert {row.reason for row in rows} == {"all 120 cells are of one species, human"}


def test_a_row_has_the_same_value_every_time(files, tmp_path):
    """In two new processes: forks of one process share the seed of its hashes."""
    given, options = [files()], {"n_trees": 5, "seed": 7, "python": sys.executable}
    first, second = (run("label_prediction", given, tmp_path / "scores.tsv", **options) for _ in range(2))
    assert first == second


def test_a_wrong_option_is_one_clear_sentence(files, tmp_path):
    arguments = command("clustering", [files()], tmp_path / "scores.tsv", metrics=["purity"])
    result = subprocess.run([warm_python(), str(SCRIPT), *arguments], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.strip() == "error: clustering: unknown metric 'purity'; there are ari, nmi, ami, silhouette"
    assert not (tmp_path / "scores.tsv").exists()


# --- neighbors that are kept ----------------------------------------------------------------------------------------

SEARCHED = {"clustering": {}, "cross_species": {"profiles": ["reference", "corrected"]}}


@pytest.mark.parametrize("task", SEARCHED)
def test_scores_from_kept_neighbors_are_the_same(task, files, tmp_path):
    def unembed(matrix):
        matrix[[3, 50]] = np.nan

    given = [files("human", unembed, n_cells=100), files("mouse")] if task == "cross_species" else [files(edit=unembed)]
    kept = tmp_path / "kept.npz"
    assert search(task, given, kept, **SEARCHED[task]).returncode == 0
    expected = run(task, given, tmp_path / "scores.tsv")
    assert run(task, given, tmp_path / "scores.tsv", [kept]) == expected
    assert {score.value for score in expected if score.metric == "n_unembedded"} == {2.0}
    matrices = [h5py.File(path, "r+") for path, _ in given]
    for file in matrices:  # what was found suffices: the embedding is not looked at again
        file["X"][:] = 0
        file.close()
    assert run(task, given, tmp_path / "scores.tsv", [kept]) == expected
    assert run(task, given, tmp_path / "scores.tsv") != expected


def test_what_cannot_be_scored_leaves_a_file_and_its_reason_to_the_scores(files, tmp_path):
    given, kept = [files()], tmp_path / "kept.npz"  # one species
    assert search("cross_species", given, kept, profiles=["reference"]).returncode == 0
    (row,) = run("cross_species", given, tmp_path / "scores.tsv", [kept], profiles=["reference"])
    assert row.status == "not_applicable" and "of one species" in row.reason


def test_a_wrong_search_is_one_clear_sentence(files, tmp_path):
    given, kept = [files()], tmp_path / "kept.npz"
    for task, options, words in (
        ("perturbation", {}, "task perturbation keeps no neighbors"),
        ("clustering", {"n_nieghbors": 9}, "unknown parameter 'n_nieghbors', did you mean 'n_neighbors'?"),
        ("label_prediction", {}, "task label_prediction keeps no neighbors"),
    ):
        done = search(task, given, kept, **options)
        assert done.returncode == 1 and words in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1 and not kept.exists()
    assert search("clustering", given, kept).returncode == 0
    arguments = [
        str(SCRIPT),
        *command("clustering", [files("mouse")], tmp_path / "scores.tsv"),
        "--neighbors",
        str(kept),
    ]
    done = subprocess.run([warm_python(), *arguments], capture_output=True, text=True)
    assert done.returncode == 1 and "these neighbors are for" in done.stderr and done.stderr.count("\n") == 1
