"""A plug-in's name is known to nobody but the plug-in: the rest asks for its constants, or for what the catalogue says."""

import ast
from pathlib import Path

import pytest

from cellgauge import models, predictors, tasks
from cellgauge.core.plugins import module_names
from cellgauge.plan.sources import SCRIPTS

PACKAGES = {"models": models, "predictors": predictors, "tasks": tasks}
ALSO = {"perturbation", "precomputed"}  # the name of a modality, and of a kind of models, too
THEIRS = {
    "results/to_czbenchmarks.py",
    "results/czbenchmarks.py",
    "results/published.py",
}  # cz-benchmarks' names of its tasks are partly ours
OTHERWISE = {  # the name means something else there
    ("models/uce/__init__.py", "additive"),  # a kind of padding
    ("inference/checkpoints.py", "scvi"),  # a library
}


def texts(path: Path) -> set[str]:
    """The texts of a module that are no docstrings."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_other_file_holds_the_name_of_a_plug_in(package):
    names, library = {*module_names(PACKAGES[package])} - ALSO, SCRIPTS / "cellgauge"
    assert names
    held = {
        (str(path.relative_to(library)), name)
        for path in library.rglob("*.py")
        for name in names & texts(path)
        if name not in (path.stem, path.parent.name) and str(path.relative_to(library)) not in THEIRS
    }
    assert held <= OTHERWISE


def test_rules_and_templates_hold_no_name_of_a_plug_in():
    names = {name for package in PACKAGES.values() for name in module_names(package)} - ALSO
    workflow = SCRIPTS.parent
    files = [*workflow.glob("rules/*.smk"), *workflow.glob("scripts/cellgauge/report/templates/*.html")]
    assert files
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not {name for name in names if f'"{name}"' in text or f"'{name}'" in text}, path
