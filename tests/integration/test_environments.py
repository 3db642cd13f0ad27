"""Environments of models under `--sdm conda`: each has its own packages and none of Snakemake's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

STAND_IN = Path(__file__).parents[1] / "conda" / "bin"
PROBE = """\
import argparse, importlib.util, json, pathlib, sys
import six
cli = argparse.ArgumentParser()
cli.add_argument("adapter")
for flag in ("--split", "--set", "--model", "--options", "--output"):
    cli.add_argument(flag)
cli.add_argument("--weights", nargs="*")
args = cli.parse_args()
foreign = ("numpy", "pandas", "anndata", "snakemake", "yaml", "torch")
found = [name for name in foreign if importlib.util.find_spec(name)]
from cellgauge.core.errors import CellgaugeError  # our own code comes with the script
facts = {"six": six.__version__, "prefix": sys.prefix, "path": sys.path, "foreign": found}
pathlib.Path(args.output).write_text(json.dumps(facts))
"""
PYTHON = ".".join(map(str, sys.version_info[:2]))


def environment(*lines: str) -> str:
    return f"channels: [conda-forge, nodefaults]\ndependencies:\n  - python={PYTHON}\n  - pip\n" + "".join(lines)


@pytest.mark.network
@pytest.mark.xdist_group("workflow")
def test_models_run_in_environments_of_their_own(project):
    """The embed rule itself, with a script that says where it runs; its splits are there already."""
    versions = {"one": "1.16.0", "two": "1.17.0"}
    config = project.config
    for name, version in versions.items():
        text = environment(f"  - pip:\n      - six=={version}\n")
        (project.folder / f"workflow/envs/{name}.yaml").write_text(text)
        config["models"][name] = {"adapter": "random", "env": name}
    project.configure(config)
    (project.folder / "workflow/scripts/embed_cells.py").write_text(PROBE)
    results = [f"results/embeddings/{name}/tiny/human.h5ad" for name in versions]
    flags = ("--sdm", "conda", "--conda-prefix", "conda", "--rerun-triggers", "mtime", "--allowed-rules", "embed", "--")
    search = os.pathsep.join([str(STAND_IN), str(Path(sys.executable).parent), os.environ["PATH"]])
    # what a caller's PYTHONPATH holds must not come in either
    done = project.run(*flags, *results, real=True, PATH=search, PYTHONPATH=str(project.folder / "published"))
    found = [json.loads((project.folder / path).read_text()) for path in results]
    assert [facts["six"] for facts in found] == list(versions.values()), done.stdout
    assert len({facts["prefix"] for facts in found}) == 2
    for facts in found:
        assert facts["foreign"] == [] and facts["prefix"].startswith(str(project.folder / "conda"))
        outside = [path for path in facts["path"] if "site-packages" in path and not path.startswith(facts["prefix"])]
        assert outside == [] and str(project.folder / "published") not in facts["path"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (environment("  - samtools=1.2\n"), "makes python and pip packages alone, not 'samtools=1.2'"),
        ("dependencies:\n  - python=3.99\n", "no python3.99 is installed here"),
    ],
)
def test_the_stand_in_refuses_what_it_cannot_make(tmp_path, text, words):
    (tmp_path / "env.yaml").write_text(text)
    command = [sys.executable, STAND_IN / "conda", "env", "create", "--quiet", "--file", tmp_path / "env.yaml"]
    done = subprocess.run([*command, "--prefix", tmp_path / "env"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and words in done.stderr and not (tmp_path / "env").exists()
