"""The documents as a site, and the notebook that reads the tables."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from cellgauge.plan.sources import SCRIPTS

ROOT = SCRIPTS.parents[1]
NOTEBOOK = ROOT / "docs/notebooks/read_scores.ipynb"


def build(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder), *options]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )


def test_the_site_is_built_and_leads_to_every_page(tmp_path):
    done = build(tmp_path)
    assert done.returncode == 0, done.stderr
    front = (tmp_path / "index.html").read_text(encoding="utf-8")
    for path in (ROOT / "docs").glob("*.md"):
        assert f'href="{path.stem}.html"' in front, f"mkdocs.yml does not name docs/{path.name}"
    for name in ("configuration.html", "contributing.html", "changes.html", "adr/index.html", NOTEBOOK.name):
        assert name in front
    assert (tmp_path / "notebooks" / NOTEBOOK.name).is_file()


def test_the_notebook_reads_a_run_and_ranks_its_models(demo, tmp_path, monkeypatch):
    monkeypatch.setenv("CELLGAUGE_TABLES", str(demo))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "clear the notebook's outputs"
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    ranked = next(
        o.data["text/plain"]
        for o in outputs
        if "text/plain" in o.get("data", {}) and "coverage" in o.data["text/plain"]
    )
    assert "tf_metazoa_precomputed" in ranked and "oracle" in ranked
    assert any("image/png" in output.get("data", {}) for output in outputs)
