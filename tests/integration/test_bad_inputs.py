"""What users hand in by mistake: one sentence, a row with a reason, never a crash or a 0."""

import json
import subprocess

import numpy as np
import pandas as pd
import pytest
import tiny
import yaml
from project import TABLES
from servers import ObjectServer
from warm_python import warm_python

from cellgauge.files.embedding import write_embedding
from cellgauge.files.score import read_scores
from cellgauge.files.split import Split
from cellgauge.plan.sources import SCRIPTS

TASKS = ("clustering", "label_prediction", "cross_species")


def call(script, *arguments):
    command = [warm_python(), SCRIPTS / f"{script}.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def sentence(done):
    """Return the error of a script that failed as it should."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def score(folder, splits, task, matrix=None, **options):
    """Embed splits with noise (or `matrix`) and score them; return the rows."""
    files = []
    for number, path in enumerate(splits):
        split = Split.open(path)
        rows = matrix if matrix is not None else np.random.default_rng(number).normal(size=(len(split.cells), 5))
        files.append(folder / f"embedding{number}.h5ad")
        write_embedding(files[-1], rows, split.cells, [split], {"model": "m", "dataset": "tiny", "split": split.name})
    target = folder / f"{task}.tsv"
    if task == "label_prediction":
        options = {"n_trees": 5, **options}
    flags = ["--embeddings", *files, "--splits", *splits, "--output", target, "--options", json.dumps(options)]
    done = call("score_task", task, *flags)
    assert done.returncode == 0, done.stderr
    return read_scores(target)


def relabelled(folder, change, **sizes):
    """Return a split whose obs was changed before it was made."""
    data = tiny.published(**sizes)
    change(data)
    data.write_h5ad(folder / "published.h5ad")
    done = call(
        "split_dataset", folder / "published.h5ad", folder / "split.h5ad", "--options", json.dumps(tiny.options())
    )
    assert done.returncode == 0, done.stderr
    return folder / "split.h5ad"


# --- files -----------------------------------------------------------------------------------------------------------


def test_truncated_download(tmp_path):
    tiny.published().write_h5ad(tmp_path / "p.h5ad")
    (tmp_path / "cut.h5ad").write_bytes((tmp_path / "p.h5ad").read_bytes()[:5000])
    done = call("split_dataset", tmp_path / "cut.h5ad", tmp_path / "s.h5ad", "--options", json.dumps(tiny.options()))
    assert "cut.h5ad: not a readable h5ad file, truncated or corrupt" in sentence(done)


def test_damage_inside_an_h5ad(tmp_path):
    data = tiny.published(n_cells=3000)
    data.write_h5ad(tmp_path / "p.h5ad", compression="gzip")
    content = bytearray((tmp_path / "p.h5ad").read_bytes())
    middle = len(content) // 3
    content[middle : middle + 4000] = bytes(4000)
    (tmp_path / "p.h5ad").write_bytes(content)
    done = call("split_dataset", tmp_path / "p.h5ad", tmp_path / "s.h5ad", "--options", json.dumps(tiny.options()))
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert not (tmp_path / "s.h5ad").exists()


def test_nan_in_the_matrix(tmp_path):
    data = tiny.published()
    data.X.data[3] = np.nan
    data.write_h5ad(tmp_path / "p.h5ad")
    done = call("split_dataset", tmp_path / "p.h5ad", tmp_path / "s.h5ad", "--options", json.dumps(tiny.options()))
    assert "dataset tiny, split human: the matrix is not raw counts, 1 of" in sentence(done)


def test_scores_of_other_cells(tmp_path):
    split = tiny.split_file(tmp_path)
    (tmp_path / "other").mkdir()
    other = Split.open(tiny.split_file(tmp_path / "other", n_cells=90))
    write_embedding(tmp_path / "e.h5ad", np.ones((90, 2)), other.cells, [other], {"model": "m", "split": "human"})
    done = call(
        "score_task", "clustering", "--embeddings", tmp_path / "e.h5ad", "--splits", split, "--output", tmp_path / "t"
    )
    assert "its cells are not the cells of split human in their order (90 rows, expected 120)" in sentence(done)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["clusterin"], "unknown task 'clusterin', did you mean 'clustering'?"),
        (
            ["clustering", "--options", '{"resolutoin": 2}'],
            "unknown parameter 'resolutoin', did you mean 'resolution'?",
        ),
        (["clustering", "--options", '{"profiles": ["x"]}'], "unknown profile 'x'; there are reference, corrected"),
    ],
)
def test_wrong_words_on_the_command_line(tmp_path, arguments, words):
    done = call("score_task", *arguments, "--embeddings", "e", "--splits", "s", "--output", tmp_path / "t.tsv")
    assert words in sentence(done)


# --- cells -----------------------------------------------------------------------------------------------------------


def test_cells_that_were_not_embedded_are_left_out_and_counted(tmp_path):
    split = tiny.split_file(tmp_path)
    matrix = np.random.default_rng(0).normal(size=(120, 5))
    matrix[:7] = np.nan
    for task in ("clustering", "label_prediction"):
        counts = {(s.metric, s.profile): s.value for s in score(tmp_path, [split], task, matrix)}
        assert counts[("n_cells", "reference")] == 113 and counts[("n_unembedded", "corrected")] == 7


def test_cells_without_a_label_in_a_split_made_by_hand(tmp_path):
    data = Split.open(tiny.split_file(tmp_path)).to_anndata()
    data.obs.loc[data.obs_names[:4], "label"] = None
    data.write_h5ad(tmp_path / "hand.h5ad")
    split = Split.open(tmp_path / "hand.h5ad")
    write_embedding(tmp_path / "e.h5ad", np.ones((120, 2)), split.cells, [split], {"model": "m", "split": "human"})
    files = ["--embeddings", tmp_path / "e.h5ad", "--splits", tmp_path / "hand.h5ad", "--output", tmp_path / "t.tsv"]
    assert "4 cells have no label" in sentence(call("score_task", "clustering", *files))


def test_one_label(tmp_path):
    split = relabelled(
        tmp_path, lambda data: data.obs.__setitem__("cell_type", pd.Categorical(["T cell"] * data.n_obs))
    )
    rows = score(tmp_path, [split], "label_prediction")
    assert not [r for r in rows if r.metric == "f1" and r.status == "ok"]
    assert any(r.status == "not_applicable" and "label" in r.reason for r in rows)
    for row in score(tmp_path, [split], "clustering"):
        assert row.status == "ok" or row.reason


def test_classes_below_ten_cells(tmp_path):
    def rare(data):
        data.obs["cell_type"] = pd.Categorical([f"type{i % 40}" for i in range(data.n_obs)])

    rows = score(tmp_path, [relabelled(tmp_path, rare)], "label_prediction")
    assert any(r.status == "not_applicable" for r in rows)
    assert not [r for r in rows if r.metric == "f1" and r.status == "ok"]


def test_one_donor(tmp_path):
    split = relabelled(tmp_path, lambda data: data.obs.__setitem__("donor_id", pd.Categorical(["d"] * data.n_obs)))
    rows = score(tmp_path, [split], "label_prediction")
    donor = [r for r in rows if r.subset == "donor_folds"]
    assert donor and all(r.status == "not_applicable" and "one donor" in r.reason for r in donor)
    assert [r for r in rows if r.subset == "random_folds" and r.metric == "f1" and r.status == "ok"]


def test_fewer_cells_than_neighbors(tmp_path):
    split = tiny.split_file(tmp_path, n_cells=9)
    for task in ("clustering", "label_prediction"):
        for row in score(tmp_path, [split], task):
            assert row.status == "ok" or row.reason


def test_fewer_cells_than_the_references_neighborhood(tmp_path):
    splits = [tiny.split_file(tmp_path, organism=name, n_cells=60) for name in ("human", "mouse")]
    rows = {(r.profile, r.metric, r.subset): r for r in score(tmp_path, splits, "cross_species")}
    assert rows[("reference", "entropy_per_cell", "")].status == "not_applicable"
    assert rows[("corrected", "entropy_ratio", "")].status == "ok"


def test_species_without_a_shared_label(tmp_path):
    human = tiny.split_file(tmp_path)
    data = tiny.published(organism="mouse")
    data.obs["cell_type"] = pd.Categorical(["only in mice"] * data.n_obs)
    data.write_h5ad(tmp_path / "m.h5ad")
    options = json.dumps(tiny.options(organism="mouse", split="mouse"))
    assert call("split_dataset", tmp_path / "m.h5ad", tmp_path / "mouse.h5ad", "--options", options).returncode == 0
    rows = score(tmp_path, [human, tmp_path / "mouse.h5ad"], "cross_species")
    of_labels = [r for r in rows if r.metric in ("batch_silhouette", "bras", "entropy_ratio", "transfer_f1")]
    assert len(of_labels) == 4 and all(r.status == "not_applicable" and r.reason for r in of_labels)


def test_a_per_split_model_is_not_compared_across_species(tmp_path):
    splits = [tiny.split_file(tmp_path, organism=name) for name in ("human", "mouse")]
    for path in splits:
        call("embed_cells", "linear", "--split", path, "--output", path.with_suffix(".emb.h5ad"))
    files = [path.with_suffix(".emb.h5ad") for path in splits]
    done = call(
        "score_task", "cross_species", "--embeddings", *files, "--splits", *splits, "--output", tmp_path / "t.tsv"
    )
    assert done.returncode == 0, done.stderr
    assert all(
        r.status == "not_applicable" and "embedded separately" in r.reason for r in read_scores(tmp_path / "t.tsv")
    )


# --- through the workflow --------------------------------------------------------------------------------------------


def test_a_failed_download_stops_a_dataset_and_the_tables_say_so(fresh_project):
    config = fresh_project.config
    config["run"] |= {"models": ["random"], "tasks": ["clustering"]}
    with (
        ObjectServer() as server
    ):  # which lacks it: a server that does not answer is asked again for a quarter of a minute
        config["datasets"]["tiny"]["splits"]["human"]["url"] = url = server.url("/human.h5ad")
        fresh_project.configure(config)
        done = fresh_project.run("--keep-going", *TABLES, check=False)
        server.shutdown()
    assert done.returncode != 0
    table = fresh_project.table()
    human = table[table["split"] == "human"]
    assert human["status"].tolist() == ["failed"] and human["reason"].iloc[0].startswith(f"download: {url}")
    assert "ok" in set(table.loc[table["split"] == "mouse", "status"])

    # asked for one file, the run says why there is none, and does not speak of scores that nobody asked for
    config["datasets"]["tiny"]["columns"]["label"] = "no_such_column"
    fresh_project.configure(config)
    done = fresh_project.run("--keep-going", "--", "results/splits/tiny/mouse.h5ad", check=False)
    assert done.returncode != 0
    assert "failed: split: " in done.stdout and "scores are missing" not in done.stdout


def test_datasets_from_s3(fresh_project, s3_server):
    folder = fresh_project.folder
    for name in ("human.h5ad", "mouse.h5ad", "orthologues.csv"):
        s3_server.put("bucket", f"data/{name}", (folder / "published" / name).read_bytes())
    config = fresh_project.config
    config["run"] |= {"models": ["pca_joint", "random"], "tasks": ["cross_species"]}
    tiny_data = config["datasets"]["tiny"]
    tiny_data["orthologues"]["url"] = "s3://bucket/data/orthologues.csv"
    for name, split in tiny_data["splits"].items():
        split["url"] = f"s3://bucket/data/{name}.h5ad"
    fresh_project.configure(config)
    fresh_project.run(*TABLES, AWS_ENDPOINT_URL=s3_server.url)
    assert set(fresh_project.table().query("metric == 'entropy_per_cell'")["model"]) == {"pca_joint", "random"}
    ledger = yaml.safe_load((folder / "resources/checksums.yaml").read_text())
    entry = ledger[f"s3://bucket/data/human.h5ad from {s3_server.url}"]  # a mirror's sum is not that of the true object
    assert entry["size"] == (folder / "published/human.h5ad").stat().st_size

    # the object changes on the server: a new download is refused by the recorded sum
    s3_server.put("bucket", "data/human.h5ad", b"something else")
    (folder / "resources/datasets/tiny/human.h5ad").unlink()
    done = fresh_project.run("--forcerun", "split", *TABLES, check=False, AWS_ENDPOINT_URL=s3_server.url)
    assert done.returncode != 0 and "s3://bucket/data/human.h5ad" in done.stdout
