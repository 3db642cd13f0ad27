"""The catalogue describes every task and every metric that a task yields."""

from pathlib import Path

import numpy as np
import pytest
import tiny
import yaml

from cellgauge import tasks
from cellgauge.core.plugins import module_names
from cellgauge.data.make_split import make_split
from cellgauge.files.embedding import Embedding, write_embedding
from cellgauge.files.split import Split
from cellgauge.predictors.base import predict_files
from cellgauge.results.catalogue import facts_beside, is_beside
from cellgauge.tasks.cells import gather
from cellgauge.tasks.clustering import neighbors as neighbors_of_clustering
from cellgauge.tasks.run import score_files
from cellgauge.tasks.traits import task_traits

CATALOGUE = yaml.safe_load((Path(__file__).resolve().parents[2] / "config" / "tasks.yaml").read_text(encoding="utf-8"))[
    "tasks"
]
DESCRIBED = {
    task: {
        metric + end: about
        for metric, facts in entry["metrics"].items()
        for end, about in {"": facts, **facts_beside(facts)}.items()
    }
    for task, entry in CATALOGUE.items()
}
TASKS = ("clustering", "label_prediction", "cross_species", "perturbation")


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    """All rows of a task, both profiles, on two small species that mix."""
    folder = tmp_path_factory.mktemp("tiny")
    splits = [tiny.split_file(folder, organism=organism, n_cells=120) for organism in ("human", "mouse")]
    embeddings = []
    for path in splits:
        split = Split.open(path)
        embeddings.append(folder / f"embedding_{split.name}.h5ad")
        codes = np.unique(split.column("label"), return_inverse=True)[1]
        matrix = 2 * np.eye(3)[codes] + np.random.default_rng(0).normal(size=(len(codes), 3))
        uns = {"model": "none", "dataset": split.dataset, "split": split.name, "shared_space": True}
        write_embedding(embeddings[-1], matrix, split.cells, [split], uns)

    def of(task):
        several = task_traits(task).scope == "dataset"
        files = embeddings[: 1 + several], splits[: 1 + several]
        return list(score_files(task, *files))

    return {task: of(task) for task in TASKS[:-1]} | {"perturbation": _of_responses(folder)}


def _of_responses(folder):
    """All rows of a baseline that predicts only some conditions of a small screen."""
    tiny.screen().write_h5ad(folder / "published.h5ad")
    make_split(folder / "published.h5ad", folder / "screen.h5ad", tiny.screen_options())
    predict_files("additive", folder / "screen.h5ad", folder / "prediction.h5ad")
    return list(score_files("perturbation", [folder / "prediction.h5ad"], [folder / "screen.h5ad"]))


def test_the_device_reaches_the_task(tmp_path, monkeypatch):
    """PyTorch's CPU device stands in for the GPU that is asked for."""
    path = tiny.split_file(tmp_path, organism="human", n_cells=120)
    split, asked = Split.open(path), []
    matrix = np.random.default_rng(0).normal(size=(len(split.cells), 3))
    uns = {"model": "none", "dataset": split.dataset, "split": split.name}
    write_embedding(tmp_path / "embedding.h5ad", matrix, split.cells, [split], uns)
    monkeypatch.setattr("cellgauge.tasks.run.scoring_device", lambda *args: asked.append(args) or "cpu")
    search = neighbors_of_clustering.nearest_neighbors
    monkeypatch.setattr(
        neighbors_of_clustering, "nearest_neighbors", lambda *args, **how: asked.append(how) or search(*args, **how)
    )
    assert list(score_files("clustering", [tmp_path / "embedding.h5ad"], [path], device="cuda"))
    assert [asked[0], asked[1]["device"]] == [("cuda", 120), "cpu"]


def test_rows_of_several_files_are_in_memory_once(tmp_path):
    kinds = (("human", "human"), ("mouse", "mouse"), ("mouse", "another"))
    splits = [Split.open(tiny.split_file(tmp_path, organism=kind, split=name, n_cells=50)) for kind, name in kinds]
    matrix = np.random.default_rng(0).normal(size=(150, 3)).astype(np.float32)
    own, joined = tmp_path / "own.h5ad", tmp_path / "joined.h5ad"
    about = {"model": "none", "dataset": "tiny"}
    write_embedding(own, matrix[:50], splits[0].cells, splits[:1], about | {"split": "human"})
    others = np.concatenate([split.cells for split in splits[1:]])
    write_embedding(joined, matrix[50:], others, splits[1:], about | {"split": "all"})
    embeddings = [Embedding.read(own), Embedding.read(joined)]
    cells = gather(embeddings, splits, ("label",))
    np.testing.assert_array_equal(cells.matrix, matrix)
    assert not any("matrix" in vars(embedding) for embedding in embeddings)


def test_every_task_is_described():
    assert set(CATALOGUE) == set(module_names(tasks))


@pytest.mark.parametrize("task", CATALOGUE)
def test_texts(task):
    entry = CATALOGUE[task]
    assert entry["title"]
    assert entry["description"]
    for metric in entry["metrics"].values():
        assert metric["description"].endswith(".")


@pytest.mark.parametrize("task", TASKS)
def test_every_metric_of_the_code_is_described_and_the_other_way_round(task, scores):
    yielded = {score.metric for score in scores[task] if score.metric}
    assert {name for name in yielded if not is_beside(name)} == set(CATALOGUE[task]["metrics"])
    assert yielded <= set(DESCRIBED[task])


@pytest.mark.parametrize("task", TASKS)
def test_values_lie_in_the_range_that_is_told(task, scores):
    for score in (score for score in scores[task] if score.status == "ok"):
        low, high = DESCRIBED[task][score.metric]["range"]
        assert low is None or score.value >= low, score
        assert high is None or score.value <= high, score


@pytest.mark.parametrize("task", TASKS)
def test_both_profiles_are_there_and_no_row_twice(task, scores):
    keys = [(s.profile, s.classifier, s.metric, s.subset, s.condition, s.seed, s.fold) for s in scores[task]]
    assert len(set(keys)) == len(keys)
    assert {s.profile for s in scores[task]} == {"reference", "corrected"}
