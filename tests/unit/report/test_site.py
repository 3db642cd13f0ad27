"""The site of several runs, what may be handed in, and the check of it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import made_up
import pandas as pd
import pyarrow.parquet
import pytest

from cellgauge.core.errors import CellgaugeError
from cellgauge.plan.sources import SCRIPTS
from cellgauge.report import render
from cellgauge.report.site import build_site
from cellgauge.results import provenance
from cellgauge.results.verify import verify

EVIL = "<script>window.hacked=1</script>"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of the demo's models, the second a day later, without one model and with a hostile title."""
    base = tmp_path_factory.mktemp("runs")
    folders = []
    for name, models in (("first", ["linear", "hvg", "random", "oracle"]), ("second", ["linear", "random", "oracle"])):
        config = made_up.configuration(
            {"run": {"models": models, "datasets": ["baron_pancreas"]}, "name": f"{name} run"}
        )
        config["models"]["linear"]["title"] = f"Linear {EVIL if name == 'second' else ''}"
        tables = made_up.write_tables(base / name, config)
        about = provenance.read(tables.parent / provenance.FILE)
        about["made"]["date"] = f"2026-11-2{len(folders)}T10:00:00+00:00"
        provenance.write(about, tables.parent / provenance.FILE)
        render(tables, tables.parent / "report.html")
        folders.append(shutil.copytree(tables.parent, base / "runs" / name))
    return folders


@pytest.fixture(scope="module")
def site(runs, tmp_path_factory):
    return build_site(runs[::-1], tmp_path_factory.mktemp("site")).parent


def test_the_index_lists_the_newest_run_first(site):
    text = (site / "index.html").read_text()
    assert text.index("second run") < text.index("first run")
    assert "21 Nov 2026" in text and "Baron pancreas" in text and "Adjusted Rand index" in text


def test_every_link_leads_to_a_file(site):
    for page in site.glob("*.html"):
        for address in re.findall(r'href="([^"#]+)"', page.read_text()):
            assert address == "data:," or (site / address).is_file(), (page.name, address)


def test_no_page_runs_or_fetches_anything(site):
    for page in site.glob("*.html"):
        text = page.read_text()
        assert "<script" not in text and EVIL not in text
        assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text


def test_what_changed_stands_in_the_changelog(site):
    text = (site / "changelog.html").read_text()
    assert "This is the first run." in text and "gone" in text and 'href="changes-second.html"' in text
    assert "run.models" in (site / "changes-second.html").read_text()


def test_two_runs_of_one_name_are_refused(runs, tmp_path):
    other = shutil.copytree(runs[0], tmp_path / "first")
    with pytest.raises(CellgaugeError, match="two runs lie in folders called 'first'"):
        build_site([runs[0], other], tmp_path / "site")


def test_runs_of_which_everything_failed_are_listed(tmp_path):
    folders = []
    for name in ("lost run", "second lost run"):
        config = made_up.configuration({"run": {"models": ["linear"], "datasets": ["baron_pancreas"]}, "name": name})
        made_up.write_tables(tmp_path / name, config, failed={"linear": "no disk"})
        folders.append((tmp_path / name / "results").rename(tmp_path / name / name))  # folders of a site differ in name
    page = build_site(folders, tmp_path / "site").read_text()
    assert all(f">{name}<" in page for name in ("lost run", "second lost run"))


def test_a_submission_is_two_files(runs, tmp_path):
    handed_in = tmp_path / "handed_in"
    handed_in.mkdir()
    shutil.copy(runs[0] / "provenance.json", handed_in)
    shutil.copy(runs[0] / "tables/scores.parquet", handed_in)
    run, faults = verify(handed_in)
    assert faults == [] and run.name == "first run"
    index = build_site([handed_in, runs[1]], tmp_path / "site").read_text()
    assert "report.html" in index and "handed_in/report.html" not in index


def spoiled(runs, tmp_path, change):
    """Return a submission whose rows `change` has edited; its metadata is kept."""
    folder = tmp_path / "spoiled"
    folder.mkdir()
    shutil.copy(runs[0] / "provenance.json", folder)
    table = pyarrow.parquet.read_table(runs[0] / "tables/scores.parquet")
    rows = table.to_pandas()
    new = pyarrow.Table.from_pandas(change(rows), preserve_index=False)
    pyarrow.parquet.write_table(new.replace_schema_metadata(table.schema.metadata), folder / "scores.parquet")
    return folder


def better(rows):
    chosen = (
        (rows["metric"] == "accuracy") & (rows["status"] == "ok") & rows["fold"].isna() & (rows["classifier"] == "knn")
    )
    return rows.assign(value=rows["value"].where(~chosen, 0.999))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (better, "are not the mean of their folds"),
        (lambda rows: rows.assign(value=rows["value"].where(rows["metric"] != "nmi", 1.2)), "outside the range of nmi"),
        (
            lambda rows: rows.assign(model=rows["model"].replace("hvg", "best")),
            "a model that the configuration .* lacks: best",
        ),
        (lambda rows: pd.concat([rows, rows.head(1)]), "1 rows appear more than once"),
        (lambda rows: rows.assign(status="fine"), "an unknown status"),
        (lambda rows: rows.assign(source="them"), "published values"),
    ],
)
def test_what_is_wrong_with_a_submission_is_said(runs, tmp_path, change, words):
    faults = verify(spoiled(runs, tmp_path, change))[1]
    assert any(re.search(words, fault) for fault in faults), faults


def test_a_provenance_of_another_run_is_noticed(runs, tmp_path):
    folder = spoiled(runs, tmp_path, lambda rows: rows)
    about = provenance.read(folder / "provenance.json")
    provenance.write({**about, "seeds": [7]}, folder / "provenance.json")
    assert verify(folder)[1] == [
        "the provenance in scores.parquet is not that of provenance.json (it differs in seeds)"
    ]


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"format": 1, "config": 3}'])
def test_what_is_no_provenance_is_one_sentence(tmp_path, text):
    path = tmp_path / "provenance.json"
    path.write_text(text)
    with pytest.raises(CellgaugeError, match="not the provenance of a run"):
        provenance.read(path)


def test_the_scripts_say_what_they_made(runs, tmp_path):
    def run(*words):
        done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=True)
        return done.stdout

    page = tmp_path / "changes.html"
    said = run(SCRIPTS / "compare_runs.py", *runs, "--output", page)
    assert "in both runs" in said and str(page) in said and Path(page).is_file()
    assert "no errors" in run(SCRIPTS / "verify_run.py", runs[0])
    assert "index.html" in run(SCRIPTS / "build_site.py", *runs, "--output", tmp_path / "site")
