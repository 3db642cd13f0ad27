"""Deployed as Snakemake's users expect: a module, snakedeploy, a storage, containers, and every way that the README names."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from project import ROOT, Project, make_project

STAND_IN_CONDA = ROOT / "tests/conda/bin"
BIN = Path(sys.executable).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SPLIT = "results/splits/tiny/human.h5ad"
PUBLISHED_ROWS = "results/published/others.tsv"
TIMED = ("runtime.csv", "runtime.parquet")


def spans(text: str) -> list[str]:
    """Return the spans of code in the sentences of a page."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def sentence(done: subprocess.CompletedProcess) -> str:
    """Return the last line of a run that ended before it began."""
    assert done.returncode, done.stdout
    return done.stdout.strip().splitlines()[-1]


# --- a storage -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def on_s3(s3_server, tmp_path_factory) -> Project:
    """A project whose cells, orthologues and embeddings are objects of a server; its scores of the split human, run here."""
    project = make_project(tmp_path_factory.mktemp("plain") / "project")
    for name in ("published/human.h5ad", "published/orthologues.csv", "mine/human.npz"):
        s3_server.put("cells", name, (project.folder / name).read_bytes())
    config = project.config
    config["run"] |= {"models": ["theirs"], "datasets": ["tiny/human"], "tasks": ["clustering"], "published": []}
    config["models"]["theirs"] = {"adapter": "precomputed", "path": "s3://cells/mine/{split}.npz"}
    config["datasets"]["tiny"]["orthologues"]["url"] = "s3://cells/published/orthologues.csv"
    config["datasets"]["tiny"]["splits"]["human"]["url"] = "s3://cells/published/human.h5ad"
    project.configure(config)
    project.run("--", "results/tables/scores.csv", AWS_ENDPOINT_URL=s3_server.url)
    return project


def run_in_storage(
    project: Project, folder: Path, provider: str, prefix: str, *, ledger: bool = False, **environment: str
):
    """Run a copy of a project with its files in a storage; nothing of the run may lie in its folder but the ledger."""
    folder.mkdir()
    for name in ("workflow", "config"):
        shutil.copytree(project.folder / name, folder / name)
    for name in ("Snakefile", "tiny.yaml"):
        shutil.copy2(project.folder / name, folder)
    if ledger:
        (folder / "resources").mkdir()
        shutil.copy2(project.folder / "resources/checksums.yaml", folder / "resources")
    copy = Project(folder)
    flags = (
        "--default-storage-provider",
        provider,
        "--default-storage-prefix",
        prefix,
        "--",
        "results/tables/scores.csv",
    )
    done = copy.run(*flags, **environment)
    given = {"workflow", "config", "Snakefile", "tiny.yaml", ".snakemake", ".cache", ".config", ".local"}
    assert {path.name for path in folder.iterdir()} - given <= {"resources"}
    assert {path.name for path in folder.glob("resources/[a-z]*")} <= {"checksums.yaml"}
    return done


def check_tables(expected: Path, tables: Path) -> None:
    """Fail unless all tables but those of times are the same to the byte, and these have the same rows."""
    import pandas as pd

    names = {path.name for path in expected.iterdir()}
    assert names == {path.name for path in tables.iterdir()} and names > {*TIMED[:1], "scores.csv", "models.csv"}
    for name in names - {*TIMED}:
        assert (expected / name).read_bytes() == (tables / name).read_bytes(), name
    costs, here = (pd.read_csv(folder / "runtime.csv") for folder in (tables, expected))
    of_job = [column for column in here if column not in ("seconds", "cpu_seconds", "max_rss_mb")]
    pd.testing.assert_frame_equal(costs[of_job], here[of_job])
    assert len(here) and set(here.loc[here["stage"] == "embed", "device"]) == {"cpu"}


@pytest.mark.skipif(not shutil.which("rsync"), reason="rsync, which the storage plugin fs calls, is not installed")
def test_files_in_a_storage_of_files_give_the_same_tables(on_s3, s3_server, tmp_path):
    """What an earlier run has put there is fetched; scores and tables are made anew."""
    for name in ("results", "benchmarks", "resources"):
        shutil.copytree(on_s3.folder / name, tmp_path / "store" / name)
    for name in ("scores", "tables"):
        shutil.rmtree(tmp_path / "store/results" / name)
    place = {"ledger": True, "AWS_ENDPOINT_URL": s3_server.url}  # of the server that the ledger names
    done = run_in_storage(on_s3, tmp_path / "project", "fs", str(tmp_path / "store"), **place)
    assert re.search(r"^total +2$", done.stdout, re.MULTILINE), done.stdout
    check_tables(on_s3.folder / "results/tables", tmp_path / "store/results/tables")


def test_files_in_s3_give_the_same_tables(on_s3, s3_server, tmp_path):
    keys = {"SNAKEMAKE_STORAGE_S3_ACCESS_KEY": "test", "SNAKEMAKE_STORAGE_S3_SECRET_KEY": "test"}
    place = {"SNAKEMAKE_STORAGE_S3_ENDPOINT_URL": s3_server.url, "AWS_ENDPOINT_URL": s3_server.url}
    run_in_storage(on_s3, tmp_path / "project", "s3", "s3://runs/tiny", **keys, **place)
    for key in s3_server.keys("runs"):
        if key.startswith("tiny/results/tables/"):
            (tmp_path / "tables" / Path(key).name).parent.mkdir(exist_ok=True)
            (tmp_path / "tables" / Path(key).name).write_bytes(s3_server.get("runs", key))
    check_tables(on_s3.folder / "results/tables", tmp_path / "tables")


# --- a module, snakedeploy -------------------------------------------------------------------------------------------


def test_the_workflow_is_a_module(fresh_project, tmp_path):
    """The importer's configuration is laid over the catalogue; rules, their `all` and their places follow the importer."""
    fresh_project.show_details()
    importer = tmp_path / "importer"
    importer.mkdir()
    for name in ("published", "mine", "tiny.yaml"):
        shutil.move(fresh_project.folder / name, importer / name)
    snakefile = f"""
configfile: "tiny.yaml"
module cellgauge:
    snakefile: "{fresh_project.folder}/workflow/Snakefile"
    config: config
    prefix: "bench"
use rule * from cellgauge as cellgauge_*
"""
    (importer / "Snakefile").write_text(snakefile)
    text = Project(importer).run("--dry-run").stdout
    assert re.search(r"^cellgauge_score +20$", text, re.MULTILINE) and "rule cellgauge_all:" in text
    assert f"output: bench/{SPLIT}" in text and "log: bench/logs/split/tiny/human.log" in text
    scripts = re.findall(r"input: (\S+split_dataset.py), published/human.h5ad", text)
    assert scripts == [f"{fresh_project.folder}/workflow/scripts/split_dataset.py"]
    (importer / "Snakefile").write_text(snakefile.replace(" as cellgauge_*", "").replace('    prefix: "bench"\n', ""))
    assert re.search(
        rf"^rule split:\n.*\n +output: {SPLIT}$", Project(importer).run("--dry-run", "--", SPLIT).stdout, re.MULTILINE
    )


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=cellgauge", "-c", "user.email=cellgauge@example.org")
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.mark.skipif(
    not (BIN / "snakedeploy").exists(), reason="snakedeploy is not installed: it is in requirements-dev.lock"
)
def test_snakedeploy(fresh_project, tmp_path):
    """What the catalogue of workflows tells people to type; git finds github.com in a folder here.

    A new version whose code means the same re-runs nothing.
    """
    hosted = tmp_path / "github.com/lab/cellgauge"
    hosted.mkdir(parents=True)
    for name in ("workflow", "config", "profiles", "Snakefile"):
        shutil.move(fresh_project.folder / name, hosted / name)
    git(hosted, "init", "--quiet")
    git(hosted, "add", ".")
    git(hosted, "commit", "--quiet", "--message", "first")
    git(hosted, "tag", "v1")
    environment = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_VALUE_0": "https://github.com/",
        "XDG_CACHE_HOME": str(tmp_path),
    }
    environment |= {"GIT_CONFIG_KEY_0": f"url.file://{tmp_path}/github.com/.insteadOf"}
    command = [
        BIN / "snakedeploy",
        "deploy-workflow",
        "https://github.com/lab/cellgauge",
        fresh_project.folder,
        "--tag",
        "v1",
    ]
    subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True)
    snakefile = fresh_project.folder / "workflow/Snakefile"
    assert 'github("lab/cellgauge", path="workflow/Snakefile", tag="v1")' in snakefile.read_text()
    done = fresh_project.run("--", PUBLISHED_ROWS, real=True, **environment)
    assert (fresh_project.folder / PUBLISHED_ROWS).is_file() and "total" in done.stdout
    script = hosted / "workflow/scripts/import_published.py"
    script.write_text(f"# a comment\n{script.read_text()}")
    git(hosted, "commit", "--quiet", "--all", "--message", "second")
    git(hosted, "tag", "v2")
    snakefile.write_text(snakefile.read_text().replace('"v1"', '"v2"'))
    assert "Nothing to be done" in fresh_project.run("--dry-run", "--", PUBLISHED_ROWS, **environment).stdout
    clone = fresh_project.folder / ".snakemake/cellgauge/workflow/scripts/import_published.py"
    assert clone.read_text().startswith("# a comment")


def test_what_the_catalogue_of_workflows_reads():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))["usage"]
    assert usage["software-stack-deployment"] == {"conda": True, "apptainer": True} and usage["report"] is True
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    assert (ROOT / "workflow/Snakefile").is_file() and (ROOT / "config/README.md").is_file()
    assert yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))["run"]


# --- containers ------------------------------------------------------------------------------------------------------

APPTAINER = """#!{python}
import pathlib, subprocess, sys
if sys.argv[1:] == ["--version"]:
    print("apptainer version 1.3.0")
else:  # exec FLAGS IMAGE bash -c COMMAND, run where nothing but the image's python is
    pathlib.Path("{log}").open("a").write(" ".join(sys.argv[1:-3]) + "\\n")
    sys.exit(subprocess.run(sys.argv[-3:]).returncode)
"""


def test_jobs_run_in_the_image_of_their_environment_or_not_at_all(fresh_project, tmp_path):
    """Without an image they would run on the host, unsaid; the stand-in for apptainer says which image a job asks for."""
    tool = tmp_path / "bin/apptainer"
    tool.parent.mkdir()
    tool.write_text(APPTAINER.format(python=sys.executable, log=tmp_path / "images.txt"))
    tool.chmod(0o755)
    search = {"PATH": f"{tool.parent}{os.pathsep}{os.environ['PATH']}"}
    flags = ("--sdm", "apptainer", "--directory", str(fresh_project.folder), "--", SPLIT)
    done = fresh_project.run(*flags, check=False, **search)
    assert re.fullmatch(
        r"error: --sdm apptainer: there is no image .*\.sif \(and \d more\); make them with .*", sentence(done)
    )
    images = fresh_project.folder / "resources/images"
    images.mkdir(parents=True)
    for environment in (fresh_project.folder / "workflow/envs").glob("*.yaml"):
        (images / f"{environment.stem}.sif").touch()
    fresh_project.run(*flags, **search)
    (job,) = (tmp_path / "images.txt").read_text().splitlines()
    assert job.endswith(" resources/images/data.sif") and f"--bind {fresh_project.folder}" in job
    assert (fresh_project.folder / SPLIT).is_file()


def test_containerize_takes_the_environments_of_the_run(fresh_project):
    """Also of models with jobs of several splits and with species of the user's, whose rules choose by wildcard."""
    search = {"PATH": f"{STAND_IN_CONDA}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}"}
    config = fresh_project.config
    sources = {"proteins": "https://example.org/p.pt", "genes": "https://example.org/g.fa.gz"}
    config["models"]["uce_4l"] = {"splits_per_job": 2, "new_species": {"gorilla": sources}}
    config["run"] |= {"models": ["linear", "uce_4l"], "datasets": ["tiny"], "tasks": ["clustering"], "published": []}
    fresh_project.configure(config)
    text = fresh_project.run("--containerize", **search).stdout
    environments = re.findall(r"^#   source: .*/?envs/(\w+)\.yaml$", text, re.MULTILINE)
    assert environments == ["baselines", "data", "publish", "score", "uce"] and "FROM " in text


def test_an_image_is_built_from_the_lock_of_its_environment():
    """What the Dockerfile takes for pins are those of the environment, and the lock that `make` names has them."""
    dockerfile = (ROOT / "workflow/containers/Dockerfile").read_text(encoding="utf-8")
    pattern = shlex.split(re.search(r"grep -oP ('[^']+')", dockerfile)[1])[0]
    command = ["make", "--dry-run", "--always-make", "images"]
    text = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    built = dict(re.findall(r"ENVIRONMENT=(\w+) [^\n]*\\\n\s+--build-arg LOCK=(\S+)", text))
    assert set(built) == {path.stem for path in (ROOT / "workflow/envs").glob("*.yaml")}
    for name, lock in built.items():
        path = ROOT / f"workflow/envs/{name}.yaml"
        pins = subprocess.run(["grep", "-oP", pattern, path], check=True, capture_output=True, text=True).stdout.split()
        (section,) = (
            each["pip"] for each in yaml.safe_load(path.read_text())["dependencies"] if isinstance(each, dict)
        )
        assert pins == section and {*pins} <= {*(ROOT / lock).read_text().split()}, name
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[-3:] == ["*", "!requirements*.lock", "!workflow/envs/*.yaml"]


# --- the ways that the README names ----------------------------------------------------------------------------------


def test_pip(tmp_path):
    """The line installs what is here already: `make setup` types it too."""
    (line,) = (span for span in spans(README) if span.startswith("pip install"))
    assert line == "pip install --requirement requirements-base.lock"
    command = [
        sys.executable,
        "-m",
        *shlex.split(line),
        "--no-deps",
        "--no-index",
        "--dry-run",
        "--disable-pip-version-check",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Would install" not in done.stdout, done.stdout + done.stderr


@pytest.mark.network
@pytest.mark.skipif(not (BIN / "uv").exists(), reason="uv is not installed: it is in requirements-dev.lock")
def test_uv_and_an_environment_with_snakemake_alone(tmp_path, unavailable):
    """Planning needs no package but Snakemake; uv's line of the README with this one for all of the lock's."""
    (line,) = (span for span in spans(README) if span.startswith("uv run"))
    (pin,) = re.findall(r"^snakemake==\S+$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    words = shlex.split(
        line.replace("--with-requirements requirements-base.lock", f"--with {pin} --python {sys.executable}")
    )
    words += [
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--dry-run",
        "--quiet",
        "rules",
        "--",
        "results/splits/baron_pancreas/human.h5ad",
    ]
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [BIN / words[0], *words[1:]], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    text = done.stdout + done.stderr
    if done.returncode and re.search(r"Failed to fetch|not found in the package registry|tunnel|dns error", text):
        unavailable(text.strip().splitlines()[-1])
    assert done.returncode == 0 and re.search(r"^total +3$", text, re.MULTILINE), text


def test_another_working_directory(fresh_project, tmp_path):
    fresh_project.show_details()
    (line,) = (span for span in spans(README) if "--directory" in span)
    words = shlex.split(line.replace("/path/to/cellgauge", str(fresh_project.folder)))
    shutil.move(fresh_project.folder / "published", tmp_path / "my_run/published")
    shutil.move(fresh_project.folder / "mine", tmp_path / "my_run/mine")
    command = [sys.executable, "-m", *words, "--configfile", fresh_project.folder / "tiny.yaml", "--dry-run"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert f"output: {SPLIT}" in done.stdout
    assert f"input: {fresh_project.folder}/workflow/scripts/split_dataset.py, published/human.h5ad" in done.stdout


def test_the_page_about_deployment_names_what_is_tested_here():
    page = (ROOT / "docs/deployment.md").read_text(encoding="utf-8")
    text = " ".join(page.split())
    for words in (
        "module cellgauge:",
        "use rule * from cellgauge",
        "snakedeploy deploy-workflow",
        "--default-storage-provider fs",
    ):
        assert words in text
