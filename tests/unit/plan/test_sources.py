"""What re-runs the right jobs: the import closure of a job, and the digests of what its files mean."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from cellgauge.plan.sources import SCRIPTS, closure, code, script, syntax_digest

PYTHONS = sorted(Path.home().glob(".pyenv/versions/3.1[123].*/bin/python"))


def names(*modules):
    return {path.relative_to(SCRIPTS).as_posix() for path in closure(*modules)}


def test_an_adapter_brings_what_it_imports_and_no_other_adapter():
    found = names("embed_cells", "cellgauge.models.linear")
    assert {
        "embed_cells.py",
        "cellgauge/files/split.py",
        "cellgauge/models/base.py",
        "cellgauge/data/expression.py",
    } <= found
    assert "cellgauge/models/linear.py" in found
    assert not {"cellgauge/models/hvg.py", "cellgauge/plan/grid.py", "cellgauge/tasks/clustering/scores.py"} & found


def test_imports_inside_functions_count():
    assert "cellgauge/models/scgpt/network.py" in names("cellgauge.models.scgpt")


def test_a_task_brings_no_adapter():
    assert not any(
        path.startswith("cellgauge/models") for path in names("score_task", "cellgauge.tasks.clustering.scores")
    )


def test_the_closure_holds_every_project_module_that_python_really_imports():
    code = (
        "import sys; sys.argv = ['score_task.py', '--help']; import runpy\n"
        "try: runpy.run_path(sys.path[0] + '/score_task.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print(*[m.__file__ for n, m in sys.modules.items() if n.startswith('cellgauge')], sep='\\n')"
    )
    environment = {"PYTHONPATH": str(SCRIPTS), "PATH": "/usr/bin"}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\n{code}"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    imported = {line.split("workflow/scripts/")[-1] for line in done.stdout.splitlines() if line.endswith(".py")}
    assert imported and imported <= names("score_task")


def test_what_is_imported_for_type_checking_alone_is_no_part_of_a_job(tmp_path, monkeypatch):
    monkeypatch.setattr("cellgauge.plan.sources.SCRIPTS", tmp_path)
    (tmp_path / "job.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import helper\n")
    (tmp_path / "helper.py").write_text("VALUE = 1\n")
    assert closure.__wrapped__("job") == (tmp_path / "job.py",)


def test_templates_count_by_their_content():
    files = code("render_report", data="cellgauge.report")
    assert "report/assets/report.css" in files and "report/__init__.py" in files
    assert "report/assets/report.css" not in code("render_report")


def digest_of(text):
    return syntax_digest(ast.parse(text))


BEFORE = '''
"""A module."""
from __future__ import annotations
LEVEL = 0.05
"""What the constant is."""
def double(value: float) -> float:
    """Return twice the value."""
    # a comment
    return 2 * value
'''
SAME = {
    "a comment": BEFORE.replace("# a comment", "# another"),
    "a docstring": BEFORE.replace("Return twice the value.", "Return the value, doubled."),
    "no docstring": BEFORE.replace('    """Return twice the value."""\n', ""),
    "a constant's text": BEFORE.replace("What the constant is.", "The level."),
    "formatting": BEFORE.replace("return 2 * value", "return (\n        2\n        * value\n    )"),
    "imports of types": BEFORE.replace("LEVEL", "if TYPE_CHECKING:\n    import numpy\nLEVEL", 1),
}
OTHER = {
    "a number": BEFORE.replace("2 *", "3 *"),
    "a constant": BEFORE.replace("0.05", "0.01"),
    "a type of number": BEFORE.replace("2 *", "2.0 *"),
    "a name": BEFORE.replace("double", "twice"),
    "a statement": BEFORE.replace("    return", "    value += 1\n    return"),
}


@pytest.mark.parametrize("edit", SAME)
def test_what_changes_no_meaning_changes_no_digest(edit):
    assert SAME[edit] != BEFORE and digest_of(SAME[edit]) == digest_of(BEFORE)


@pytest.mark.parametrize("edit", OTHER)
def test_what_changes_the_meaning_changes_the_digest(edit):
    assert OTHER[edit] != BEFORE and digest_of(OTHER[edit]) != digest_of(BEFORE)


@pytest.mark.skipif(len(PYTHONS) < 2, reason="one release of Python is here: nothing to compare digests between")
def test_digests_are_the_same_under_all_releases_of_python():
    program = (
        f"import ast, sys; sys.path.insert(0, {str(SCRIPTS)!r}); from cellgauge.plan.sources import SCRIPTS, syntax_digest\n"
        "print([syntax_digest(ast.parse(path.read_text())) for path in sorted(SCRIPTS.rglob('*.py'))])"
    )
    answers = {
        subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout for python in PYTHONS
    }
    assert len(answers) == 1


def test_unknown_modules_are_errors():
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        code("no_such_module")
    with pytest.raises(ModuleNotFoundError, match="no_such_script"):
        script("no_such_script")


def test_paths_are_relative_in_the_checkout_and_whole_elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(SCRIPTS.parents[1])
    assert script("embed_cells") == "workflow/scripts/embed_cells.py"
    monkeypatch.chdir(tmp_path)
    assert script("embed_cells") == str(SCRIPTS / "embed_cells.py")
