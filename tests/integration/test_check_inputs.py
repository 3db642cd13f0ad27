"""What a user mistypes, or hands in broken, is one sentence before the first job: through the commands that users type."""

import re
import subprocess
import sys

import numpy as np
import pytest
from project import TABLES
from warm_python import warm_python

CLEAN = ("Traceback", "common.smk", "Exception", ".smk")


def check(project, *arguments, python=""):
    """Run what `make check` runs in the folder of a project."""
    command = [python or warm_python(), "workflow/scripts/check_inputs.py", *arguments]
    return subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)


def errors(text):
    """Return the sentences of a command's output, which must hold nothing of the workflow's insides."""
    assert not [word for word in CLEAN if word in text], text
    return re.findall(r"^(?:error: |  )((?:the configuration|dataset|models?|datasets|run|published)\b.*)$", text, re.M)


def configured(project, change):
    config = project.config
    config["run"] |= {"models": ["linear", "mine"], "tasks": ["clustering"], "published": []}
    change(config)
    project.configure(config)


def wrong_path(config):
    config["models"]["mine"]["path"] = "mien/{split}.npz"


def wrong_atlas(config):
    config["datasets"]["tiny"]["splits"]["human"]["url"] = "published/humans.h5ad"


def wrong_weights(config):
    config["models"]["mine"] = {"adapter": "uce", "weights": "my_checkpoint"}


def placeholder(config):
    config["models"]["mine"]["path"] = "mine/{tissue}.npz"


def wrong_column(config):
    config["datasets"]["tiny"]["columns"]["label"] = "celltype"


def unknown_model(config):
    config["run"]["models"] = ["liner"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            wrong_path,
            "models.mine.path: no file 'mien/human.npz' (and 1 more), there is no folder 'mien', did you mean",
        ),
        (wrong_atlas, "datasets.tiny: no file 'published/humans.h5ad', did you mean 'human.h5ad'?"),
        (wrong_weights, "models.mine.weights: no file 'my_checkpoint'; correct the path"),
        (
            placeholder,
            "models.mine.path: no placeholder '{tissue}' in 'mine/{tissue}.npz', {dataset} and {split} are",
        ),
        (wrong_column, "dataset tiny, split human: no column 'celltype' for label"),
        (unknown_model, "run.models: no model 'liner', did you mean 'linear'?"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_mistake_is_said_once_before_the_first_job(change, sentence, fresh_project):
    configured(fresh_project, change)
    for _ in range(2):  # the folder is not left locked
        done = fresh_project.run(check=False)
        assert done.returncode != 0 and "locked" not in done.stdout
        assert len([line for line in errors(done.stdout) if line.startswith(sentence)]) == 1, done.stdout
    assert not (fresh_project.folder / "logs").exists()
    told = check(fresh_project, "--configfile", "tiny.yaml")
    assert told.returncode == 1 and told.stderr.count(sentence) == 1
    assert not [word for word in CLEAN if word in told.stderr]


def test_a_file_that_no_target_needs_may_be_missing(fresh_project):
    """The ids of the cells come from the split, before there is an embedding."""
    configured(fresh_project, wrong_path)
    fresh_project.run("--", "results/splits/tiny/human.h5ad")
    assert (fresh_project.folder / "results/splits/tiny/human.h5ad").is_file()


def test_the_start_of_a_run_opens_embeddings(fresh_project):
    configured(fresh_project, lambda config: None)
    file = fresh_project.folder / "mine/human.npz"
    arrays = dict(np.load(file))
    np.savez(file, embedding=arrays["embedding"], cells=np.repeat(arrays["cells"][:1], len(arrays["cells"])))
    done = fresh_project.run(check=False)
    assert done.returncode != 0 and not (fresh_project.folder / "logs").exists()
    assert len([line for line in errors(done.stdout) if "mine/human.npz: cell id" in line]) == 1
    told = check(fresh_project, "--configfile", "tiny.yaml")
    assert told.returncode == 1 and "mine/human.npz: cell id" in told.stderr
    assert "tiny/human" in told.stdout and "mine on tiny/mouse" in told.stdout

    # a run that makes what it can says it too, and goes on
    done = fresh_project.run("--keep-going", *TABLES, check=False)
    assert done.returncode != 0 and "warning: models.mine: mine/human.npz: cell id" in done.stdout
    assert "1 of 4 scores are missing" in done.stdout and "ok" in set(fresh_project.table()["status"])


def test_what_has_been_made_needs_its_file_no_more(project):
    config = project.config
    project.run("--dry-run")
    for name in ("human", "mouse"):
        (project.folder / f"mine/{name}.npz").unlink()
    assert "Nothing to be done" in project.run().stdout
    config["models"]["mine"]["path"] = "elsewhere/{split}.npz"
    project.configure(config)
    done = project.run(check=False)
    assert done.returncode != 0 and errors(done.stdout)[0].startswith("models.mine.path: no file 'elsewhere/human.npz'")


def test_the_check_answers_for_broken_yaml_and_a_misplaced_target(fresh_project):
    (fresh_project.folder / "broken.yaml").write_text("models:\n  m: {adapter: precomputed, path: {dataset}.csv}\n")
    for arguments, sentence in (
        (["broken.yaml"], "broken.yaml, line 2: not YAML"),
        (
            ["tiny.yaml", "results/splits/tiny/human.h5ad"],
            "'results/splits/tiny/human.h5ad' comes after --configfile",
        ),
    ):
        told = check(fresh_project, "--configfile", *arguments, python=sys.executable)
        assert told.returncode == 1 and len(told.stderr.splitlines()) == 1 and sentence in told.stderr
