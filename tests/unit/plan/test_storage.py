"""Where files lie with a storage: what a job is told, what is looked for, and why a score is missing."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import configuration

from cellgauge.plan.grid import Grid
from cellgauge.plan.inputs import Inputs
from cellgauge.plan.on_error import NOT_RUN, failures
from cellgauge.plan.paths import UsersFile, is_remote, local
from cellgauge.plan.storage import Places


class Flagged(str):
    """A path as Snakemake's modifier returns it."""


class Stored:
    """An object of a storage, here a folder."""

    def __init__(self, path: Path, copy: Path) -> None:
        self.path, self.copy = path, copy

    def exists(self) -> bool:
        return self.path.exists()

    def mtime(self) -> float:
        return self.path.stat().st_mtime

    def retrieve_object(self) -> None:
        shutil.copy2(self.path, self.copy)


@pytest.fixture
def places(tmp_path) -> Places:
    def modify(path: str) -> Flagged:
        copy = tmp_path / "copies" / path
        flagged = Flagged(copy)
        flagged.flags = {"storage_object": Stored(tmp_path / "store" / path, copy)}
        return flagged

    return Places(modify)


def put(folder: Path, path: str, text: str = "x") -> None:
    (folder / "store" / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / "store" / path).write_text(text)


def test_a_file_is_fetched_once_and_only_if_it_is_there(places, tmp_path):
    put(tmp_path, "results/a.tsv", "first")
    assert places.stored and places.exists("results/a.tsv") and not Path(places.at("results/a.tsv")).exists()
    assert places.mtime("results/a.tsv") > 0 and places.mtime("results/b.tsv") == float("-inf")
    assert places.fetch("results/a.tsv").read_text() == "first"
    put(tmp_path, "results/a.tsv", "second")
    assert places.fetch("results/a.tsv").read_text() == "first"
    assert not places.fetch("results/b.tsv").exists() and not places.exists("results/b.tsv")


def test_without_a_storage_a_path_is_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = Places()
    assert not places.stored and places.at("results/a.tsv") == "results/a.tsv" and not places.exists("results/a.tsv")
    Path("a.tsv").touch()
    assert places.exists("a.tsv") and places.fetch("a.tsv") == Path("a.tsv") and places.mtime("a.tsv") > 0


@given(
    st.sampled_from(["", "file://", "~/", "s3://b/", "https://h/"]), st.from_regex(r"\A[a-z]{1,8}(/[a-z]{1,8}){0,2}\Z")
)
def test_what_is_not_fetched_is_the_users_and_stays_where_it_is(scheme, path):
    url = f"{scheme}{'/' if scheme == 'file://' else ''}{path}"
    assert isinstance(local(url, "folder"), UsersFile) == (not is_remote(url))
    inputs = Inputs.__new__(Inputs)
    inputs.places = Places(lambda path: f"elsewhere/{path}")
    assert inputs.at(local(url, "folder")).startswith("elsewhere/") == is_remote(url)


SPECIES = {
    "models": {
        "uce_4l": {"new_species": {"gorilla": {"proteins": "mine/gorilla.pt", "genes": "https://h.org/gorilla.fa.gz"}}},
        "theirs": {"adapter": "precomputed", "path": "https://h.org/{split}.csv"},
        "mine": {"adapter": "precomputed", "path": "mine/{split}.csv"},
    },
    "run": {
        "models": ["uce_4l", "theirs", "mine", "pca_joint"],
        "datasets": ["spermatogenesis"],
        "tasks": ["clustering"],
    },
}


def test_params_hold_the_paths_of_local_copies(places, tmp_path):
    """Every path of ours in options and arguments is that of a copy; the user's files are where they were."""
    inputs = Inputs(Grid(configuration(SPECIES)), places)
    copies = str(tmp_path / "copies")

    def of(model, split="gorilla"):
        return SimpleNamespace(model=model, dataset="spermatogenesis", split=split, species="gorilla")

    assert inputs.weights_argument(of("theirs")) == [
        f"{copies}/resources/weights/theirs/spermatogenesis/gorilla/gorilla.csv"
    ]
    assert inputs.weights_argument(of("mine")) == ["mine/gorilla.csv"]
    assert inputs.weights_argument(of("uce_4l")) == [inputs.weights_folder(of("uce_4l"))]
    assert inputs.weights_folder(of("uce_4l")).startswith(f"{copies}/resources/weights/")
    assert json.loads(inputs.model_options(of("uce_4l")))["species_files"] == {
        "gorilla": f"{copies}/resources/species/uce_4l/gorilla"
    }
    sources = json.loads(inputs.species_options(of("uce_4l")))
    assert sources["proteins"] == "mine/gorilla.pt" and sources["genes"].startswith(copies)
    tables = json.loads(inputs.split_options(of("", "human")))["orthologues"]
    assert tables and all(table["path"].startswith(copies) for table in tables)
    # while what Snakemake itself is told holds none, nor the manifest, which is the same wherever it lies
    manifest = json.loads(inputs.manifest())
    files = (
        *manifest["scores"],
        *manifest["layouts"],
        *inputs.weights(of("uce_4l")),
        *inputs.orthologues(of("", "human")),
        *inputs.costs(),
        *inputs.scores(),
    )
    assert files and not [path for path in files if path.startswith(copies)]


def test_only_from_a_storage_the_tables_ask_for_costs(places):
    config = configuration({"run": {"models": ["linear"], "datasets": ["baron_pancreas"], "tasks": ["clustering"]}})
    grid = Grid(config)
    costs = set(Inputs(grid, places).costs())
    assert Inputs(grid).costs() == []
    assert costs == {
        *(
            f"benchmarks/{rule}/linear/baron_pancreas/{split}.tsv"
            for rule in ("embed",)
            for split in ("human", "mouse")
        ),
        *(
            f"benchmarks/{rule}/clustering/linear/baron_pancreas/{split}.tsv"
            for rule in ("neighbors", "score")
            for split in ("human", "mouse")
        ),
        *(
            f"results/{kind}/baron_pancreas/{split}.h5ad"
            for kind in ("embeddings/linear", "splits")
            for split in ("human", "mouse")
        ),
    }


def test_a_score_in_the_storage_is_not_missing_and_its_jobs_log_is_read_from_there(places, tmp_path, monkeypatch):
    monkeypatch.setattr("cellgauge.plan.on_error.BEGAN", 0)
    config = configuration({"run": {"models": ["linear"], "datasets": ["baron_pancreas"], "tasks": ["clustering"]}})
    inputs = Inputs(Grid(config), places)
    _, mouse = sorted(inputs.scores())
    for cell in inputs.grid.cells:
        for _, result, _ in inputs.jobs(cell):
            if "human" in result:
                put(tmp_path, result)
    assert failures(inputs) == {mouse: NOT_RUN}
    put(tmp_path, "logs/embed/linear/baron_pancreas/mouse.log", "error: the file holds no cells\n")
    assert failures(inputs) == {mouse: "embed: the file holds no cells"}


def test_images_are_those_of_the_runs_environments(tmp_path, monkeypatch):
    from cellgauge.core.errors import CellgaugeError
    from cellgauge.plan import config as settings

    monkeypatch.chdir(tmp_path)
    config = settings.completed(
        {"run": {"models": ["linear"], "datasets": ["baron_pancreas"], "tasks": ["clustering"]}}
    )
    inputs = Inputs(Grid(config))
    with pytest.raises(CellgaugeError, match=r"no image resources/images/baselines.sif \(and 3 more\).*make images"):
        inputs.check_images(with_conda=False)
    with pytest.raises(CellgaugeError, match="one of apptainer and conda"):
        inputs.check_images(with_conda=True)
    Path("resources/images").mkdir(parents=True)
    for name in ("baselines", "data", "publish", "score"):
        Path(f"resources/images/{name}.sif").touch()
    inputs.check_images(with_conda=False)
    config["run"]["images"] = "docker://registry.example/cellgauge-{env}:1"
    inputs = Inputs(Grid(config))
    inputs.check_images(with_conda=False)
    assert inputs.image("../envs/score.yaml") == "docker://registry.example/cellgauge-score:1"
