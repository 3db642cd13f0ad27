"""A project on tiny data: a copy of the workflow that tests may edit, run once and copied for each test."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tiny
import yaml
from warm_python import warm_python

from cellgauge.plan.sources import SCRIPTS

ROOT = SCRIPTS.parents[1]

CONFIG = {
    "run": {
        "models": ["linear", "pca_joint", "random", "oracle", "mine"],
        "datasets": ["tiny"],
        "tasks": ["clustering", "label_prediction", "cross_species"],
        "published": ["others"],
    },
    "models": {
        "linear": {"params": {"n_top_genes": 40, "n_components": 10}},
        "pca_joint": {"params": {"n_top_genes": 40, "n_components": 10}},
        "mine": {
            "adapter": "precomputed",
            "path": "mine/{split}.npz",
            "shared_space": True,
            "title": "<script>alert('mine')</script>",
        },
    },
    "datasets": {
        "tiny": {
            "modality": "expression",
            "columns": {
                "label": "cell_type",
                "donor": "donor_id",
                "batch": "donor_id",
                "ensembl": "index",
                "symbol": "feature_name",
            },
            "orthologues": {"url": "published/orthologues.csv", "columns": {"human": "human", "mouse": "mouse"}},
            "splits": {name: {"organism": name, "url": f"published/{name}.h5ad"} for name in ("human", "mouse")},
        }
    },
    "published": {
        "others": {
            "title": "Others",
            "url": "published/others.json",
            "format": "vcp",
            "models": {"BASELINE-v1": "linear", "ORACLE-v1": "oracle"},
            "datasets": {"{split}_tiny": "tiny/{split}"},
        }
    },
}
OTHERS = [
    {
        "task_key": "clustering",
        "model_key": model,
        "dataset_keys": ["human_tiny"],
        "metrics": [{"metric_key": "adjusted_rand_index", "params": {}, "value": value}],
    }
    for model, value in (("BASELINE-v1", -0.4), ("ORACLE-v1", 1.0))
]
"""What others are said to have published of the tiny data: one value that ours cannot be, and one that it must be."""


PUBLISHED = (
    "results/provenance.json",
    "results/manifest",
    "results/published",
    "results/tables",
    "results/report",
    "results/figures",
    "results/czbenchmarks",
)
"""What is made anew whatever else runs."""

TABLES = ("--", "results/tables/scores.csv")
"""The target of a run without report, exports and figures."""


@dataclass
class Project:
    """A folder with the workflow, its data and a configuration; `run` calls Snakemake in it."""

    folder: Path

    @property
    def config(self) -> dict:
        return yaml.safe_load((self.folder / "tiny.yaml").read_text())

    def configure(self, config: dict) -> None:
        (self.folder / "tiny.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def show_details(self) -> None:
        """Take the rules' messages away, so that Snakemake prints input, output and resources of a job instead."""
        for path in (*(self.folder / "workflow/rules").iterdir(), self.folder / "workflow/Snakefile"):
            rules = path.read_text(encoding="utf-8")
            path.write_text(re.sub(r"^ +message:\n +f?\".*\"\n", "", rules, flags=re.MULTILINE), encoding="utf-8")

    def run(
        self, *flags: str, check: bool = True, before: Sequence[str] = (), real: bool = False, **environment: str
    ) -> subprocess.CompletedProcess:
        """Run Snakemake in the folder.

        Args:
            before: a command that is to run it, such as one that sets limits; implies `real`.
            real: start a Python for Snakemake and for each job, as users do, and not fork one that has imported its libraries.
        """
        python = sys.executable if real or before else warm_python()
        command = [*before, python, "-m", "snakemake", "--cores", "2", "--configfile", "tiny.yaml", *flags]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, "HOME": str(self.folder), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(done.stdout)
        return done

    def planned(self, *flags: str) -> dict[str, str]:
        """Return the outputs that a dry run would make, each with Snakemake's reason."""
        command = "from cellgauge.plan.planned import planned_jobs; print(json.dumps(planned_jobs(sys.argv[1:])))"
        done = subprocess.run(
            [warm_python(), "-c", f"import json, sys; {command}", "--cores", "2", "--configfile", "tiny.yaml", *flags],
            cwd=self.folder,
            env={**os.environ, "HOME": str(self.folder), "PYTHONPATH": str(self.folder / "workflow/scripts")},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise AssertionError(done.stderr)
        return {output: reason for _, _, outputs, reason in json.loads(done.stdout) for output in outputs}

    def table(self, name: str = "scores"):
        import pandas as pd

        return pd.read_csv(self.folder / f"results/tables/{name}.csv", keep_default_na=False)


def make_project(folder: Path, config: dict = CONFIG) -> Project:
    """Copy the workflow, with what Python has compiled of it, to `folder` and publish tiny data there."""
    for name in ("workflow", "config", "profiles"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy2(ROOT / "Snakefile", folder)
    (folder / "published").mkdir()
    (folder / "mine").mkdir()
    (folder / "published/others.json").write_text(json.dumps(OTHERS))
    tiny.orthologue_table(folder / "published/orthologues.csv")
    for number, name in enumerate(("human", "mouse")):
        data = tiny.published(organism=name, seed=number)
        data.write_h5ad(folder / f"published/{name}.h5ad")
        rows = np.random.default_rng(number).normal(size=(data.n_obs, 5)).astype(np.float32)
        np.savez(folder / f"mine/{name}.npz", embedding=rows, cells=np.asarray(data.obs_names, dtype=str))
    project = Project(folder)
    project.configure(config)
    return project
