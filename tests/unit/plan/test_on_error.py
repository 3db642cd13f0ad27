"""Following a missing score back to the job that failed."""

import os

import pytest
from small_run import inputs

from cellgauge.plan import on_error as publish
from cellgauge.plan.manifest import catalogue
from cellgauge.plan.on_error import NOT_RUN, failures, publish_partial_results, report_failures, summary

SCORE = "results/scores/clustering/linear/pair/human.tsv"
BEGAN = 1000.0


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(publish, "BEGAN", BEGAN)

    def write(path, text="", age=0.0):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        os.utime(file, (BEGAN + 10 - age, BEGAN + 10 - age))

    return write


def reason():
    return failures(inputs()).get(SCORE, "")


def test_jobs_of_a_score_upstream_first():
    chosen = inputs()
    cell = next(cell for cell in chosen.grid.cells if cell.path == SCORE)
    assert list(chosen.jobs(cell)) == [
        ("download", "resources/datasets/pair/h.h5ad", "logs/download/pair/h.h5ad.log"),
        ("download", "resources/datasets/pair/o.csv", "logs/download/pair/o.csv.log"),
        ("split", "results/splits/pair/human.h5ad", "logs/split/pair/human.log"),
        ("embed", "results/embeddings/linear/pair/human.h5ad", "logs/embed/linear/pair/human.log"),
        (
            "neighbors",
            "results/neighbors/clustering/linear/pair/human.npz",
            "logs/neighbors/clustering/linear/pair/human.log",
        ),
        ("score", SCORE, "logs/score/clustering/linear/pair/human.log"),
    ]


def test_the_job_without_a_result_is_blamed(files):
    assert reason() == "the job was not run"
    files("logs/score/clustering/linear/pair/human.log", "Traceback ...\nValueError: bad\n")
    assert reason() == "score: ValueError: bad"
    files("logs/embed/linear/pair/human.log", "working\nerror: the checkpoint is\ttruncated\nmore noise\n")
    assert reason() == "embed: the checkpoint is truncated"
    files("results/embeddings/linear/pair/human.h5ad")
    assert reason() == "score: ValueError: bad"
    files(SCORE)
    assert reason() == ""


def test_a_score_of_an_earlier_run_counts_as_failed_when_its_embedding_failed_now(files):
    files(SCORE, age=100)
    assert reason() == ""
    files("logs/embed/linear/pair/human.log", "error: no memory\n")
    assert reason() == "embed: no memory"


def test_files_that_were_removed_to_save_space_are_no_failures(files):
    files(SCORE, age=100)
    files("logs/split/pair/human.log", age=200)
    files("logs/download/pair/h.h5ad.log", "done", age=300)
    assert reason() == ""


def test_a_killed_job_is_named(files):
    files("logs/embed/linear/pair/human.log", "")
    assert "embed: the job wrote nothing" in reason()


def test_summary_groups_by_reason():
    paths = [f"results/scores/clustering/m{i}/d/s.tsv" for i in range(5)]
    text = summary(dict.fromkeys(paths, "embed: no memory"), 9)
    assert text.splitlines()[:2] == [
        "5 of 9 scores are missing:",
        "  m0 on d/s, m1 on d/s, m2 on d/s and 2 more: embed: no memory",
    ]


def test_summary_points_elsewhere_when_no_job_of_the_missing_scores_failed():
    paths = [f"results/scores/clustering/m{i}/d/s.tsv" for i in range(2)]
    elsewhere = "The jobs of these scores did not fail: another job did, see its log above."
    assert summary(dict.fromkeys(paths, NOT_RUN), 9).splitlines()[:3] == [
        "2 of 9 scores are missing:",
        "  m0 on d/s, m1 on d/s: the job was not run",
        elsewhere,
    ]
    assert elsewhere not in summary({paths[0]: NOT_RUN, paths[1]: "embed: no memory"}, 9)


def test_summary_says_where_the_other_scores_are_only_when_they_are_there():
    failed = {"results/scores/clustering/m/d/s.tsv": "embed: no memory"}
    assert summary(failed, 9).splitlines()[-1].startswith("Tables and report have the other scores")
    assert summary(failed, 9, written=False).splitlines()[-1] == "Run the same command to try them again."
    assert summary({}, 9) == "No score is missing; another job failed, see its log above."


@pytest.mark.parametrize("broken", ["collect_tables.py", "render_report.py", "export_results.py"])
def test_what_failed_is_told_where_tables_cannot_be_written(files, tmp_path, monkeypatch, capsys, broken):
    for name in ("collect_tables.py", "render_report.py", "export_results.py"):
        files(f"scripts/{name}", "raise SystemExit('error: disk full')" if name == broken else "")
    files("results/tables/scores.csv")
    monkeypatch.setattr(publish, "SCRIPTS", tmp_path / "scripts")
    files("logs/download/pair/h.h5ad.log", "error: h.h5ad: no such object\n")
    publish_partial_results(inputs())
    said = capsys.readouterr().err
    assert "could not be written: error: disk full" in said
    assert "scores are missing:" in said and "download: h.h5ad: no such object" in said
    assert "Tables and report have" not in said
    assert (tmp_path / "results/tables/scores.csv").stat().st_mtime == publish.LONG_AGO


def test_what_failed_is_told_where_the_machine_cannot_write(files, tmp_path, monkeypatch, capsys):
    for name in ("collect_tables.py", "render_report.py", "export_results.py"):
        files(f"scripts/{name}")
    files("results/tables/scores.csv")

    def refuse(path, times):
        raise PermissionError(f"{path}: not yours")

    monkeypatch.setattr(publish, "SCRIPTS", tmp_path / "scripts")
    monkeypatch.setattr(publish.os, "utime", refuse)
    publish_partial_results(inputs())
    said = capsys.readouterr().err
    assert "could not be written: results/tables/scores.csv: not yours" in said
    assert "scores are missing:" in said and "Tables and report have" not in said


def test_a_script_that_dies_silently_is_named(files, tmp_path, monkeypatch, capsys):
    files("scripts/collect_tables.py", "raise SystemExit(3)")
    monkeypatch.setattr(publish, "SCRIPTS", tmp_path / "scripts")
    publish_partial_results(inputs())
    said = capsys.readouterr().err
    assert "could not be written: collect_tables.py ended with status 3" in said and "scores are missing:" in said


def test_a_long_catalogue_reaches_the_tables(files, tmp_path, monkeypatch):
    chosen = inputs()
    about = catalogue(chosen.grid)
    about["models"]["linear"]["description"] = "x" * 200_000
    monkeypatch.setattr("cellgauge.plan.inputs.catalogue", lambda _: about)
    publish_partial_results(chosen)
    assert "x" * 200_000 in (tmp_path / "results/tables/models.csv").read_text()


def test_a_run_without_tables_tells_each_reason_once_and_writes_nothing(files, tmp_path, capsys):
    files("logs/download/pair/h.h5ad.log", "error: h.h5ad: no such object\n")
    before = sorted(tmp_path.rglob("*"))
    report_failures(inputs())
    assert capsys.readouterr().err == "failed: download: h.h5ad: no such object\n"
    assert sorted(tmp_path.rglob("*")) == before
