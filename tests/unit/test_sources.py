"""The import closure that re-runs the right jobs."""

import subprocess
import sys

import pytest

from cellgauge.sources import SCRIPTS, package_data, script, sources


def names(*modules):
    return {path.split("workflow/scripts/")[-1] for path in sources(*modules)}


def test_an_adapter_brings_what_it_imports_and_no_other_adapter():
    found = names("embed_cells", "cellgauge.models.linear")
    assert {"embed_cells.py", "cellgauge/contracts.py", "cellgauge/models/base.py", "cellgauge/expression.py"} <= found
    assert "cellgauge/models/linear.py" in found
    assert not {"cellgauge/models/hvg.py", "cellgauge/grid.py", "cellgauge/tasks/clustering.py"} & found


def test_imports_inside_functions_count():
    assert "cellgauge/models/pca_joint.py" in names("cellgauge.models.harmony_species")


def test_a_task_brings_no_adapter():
    assert not any(path.startswith("cellgauge/models") for path in names("score_task", "cellgauge.tasks.clustering"))


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


def test_templates_are_found():
    found = {path.split("cellgauge/report/")[-1] for path in package_data("cellgauge.report")}
    assert "assets/report.css" in found and not any(path.endswith(".py") for path in found)


def test_unknown_modules_are_errors():
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        sources("no_such_module")
    with pytest.raises(ModuleNotFoundError, match="no_such_script"):
        script("no_such_script")


def test_paths_are_relative_in_the_checkout_and_whole_elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(SCRIPTS.parents[1])
    assert script("embed_cells") == "workflow/scripts/embed_cells.py"
    monkeypatch.chdir(tmp_path)
    assert script("embed_cells") == str(SCRIPTS / "embed_cells.py")
