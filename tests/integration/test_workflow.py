"""The workflow on tiny data: everything once, then only what changed."""

import copy
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import yaml
from project import CONFIG, PUBLISHED, ROOT, TABLES
from warm_python import warm_python

pytestmark = pytest.mark.xdist_group("workflow")

GOLDEN = ROOT / "tests/golden/tiny_scores.csv"
KEY = ["task", "model", "dataset", "split", "classifier", "metric", "subset", "condition", "profile", "seed", "fold"]


def stages(planned):
    """Return the planned outputs without the tables and the report, which follow whatever else runs."""
    return {path for path in planned if not path.startswith(PUBLISHED)}


def of_model(paths, model):
    return all(f"/{model}/" in path for path in paths)


OF_A_SPLIT = 1 + 1 + 1 + 2  # embedding and picture, neighbors for clustering, scores of two tasks
OF_BOTH = 1 + 1  # neighbors and scores of cross_species


# --- one run ---------------------------------------------------------------------------------------------------------


def test_every_cell_of_the_grid_has_rows(finished_project):
    table = finished_project.table()
    scored = set(map(tuple, table.loc[table["status"] == "ok", ["task", "model"]].drop_duplicates().to_numpy()))
    everything = {(task, model) for task in CONFIG["run"]["tasks"] for model in CONFIG["run"]["models"]}
    joint = {
        ("clustering", "pca_joint"),
        ("label_prediction", "pca_joint"),
    }  # what spans a set has no score of one split
    assert everything - scored == {("cross_species", "linear"), *joint}
    lacking = table[(table["task"] == "cross_species") & (table["model"] == "linear")]
    assert lacking["status"].tolist() == ["not_applicable"] and "each split separately" in lacking["reason"].iloc[0]
    assert set(table["profile"]) == {"reference", "corrected", ""}


def test_controls_bracket_the_linear_baseline(finished_project):
    table = finished_project.table()
    best = table[(table["fold"] == "") & (table["status"] == "ok") & table["classifier"].isin(["", "mean"])]
    best = best.assign(value=pd.to_numeric(best["value"]))
    for metric in ("ari", "nmi", "silhouette", "f1", "accuracy", "auroc"):
        mean = best[best["metric"] == metric].groupby("model")["value"].mean()
        assert mean["oracle"] >= mean["linear"] - 1e-9, metric
        assert mean["linear"] > mean["random"], metric


def test_what_is_published(finished_project):
    results = finished_project.folder / "results"
    assert json.loads((results / "czbenchmarks.json").read_text())["task_results"]
    names = {path.name for path in (results / "tables").iterdir()}
    assert {
        f"{t}.{kind}" for t in ("scores", "summary", "runtime", "models", "datasets") for kind in ("csv", "parquet")
    } <= names
    assert {"leaderboard.md", "leaderboard.tex", "leaderboard.csv"} <= names
    assert (results / "figures/summary.tiny.corrected.svg").is_file()


def test_values_of_others_stand_beside_ours_and_apart_from_them(finished_project):
    beside = finished_project.table("anchors").set_index("model")
    assert beside["verdict"].to_dict() == {"linear": "outside", "oracle": "within"}
    assert set(beside["source"]) == {"others"} and set(finished_project.table()["source"]) == {""}
    assert finished_project.table("published")["value"].tolist() == [-0.4, 1.0]


def test_an_edited_entry_of_published_values_is_imported_again_alone(project):
    config = copy.deepcopy(project.config)
    config["published"]["others"]["left_out"] = [{"model": "oracle", "reason": "too good"}]
    project.configure(config)
    planned = project.planned()
    assert "results/published/others.tsv" in planned and stages(planned) == set()


def test_a_run_of_its_own_folder_shares_what_was_computed(project):
    flags = ("--config", "results=runs/first", "name=First run")
    planned = project.planned(*flags)
    assert stages({path: why for path, why in planned.items() if not path.startswith("runs/first/")}) == set()
    project.run(*flags)
    first, shared = project.folder / "runs/first", project.folder / "results"
    assert {path.name for path in first.iterdir()} >= {"provenance.json", "report.html", "czbenchmarks.json", "figures"}
    about = json.loads((first / "provenance.json").read_text())
    assert about["name"] == "First run" and set(about["data"]) == {"tiny/human", "tiny/mouse"}
    assert all(len(entry["sha256"]) == 64 for entry in about["data"].values())
    assert all(len(each["sha256"]) == 64 for each in about["models"]["mine"]["files"])
    assert about["packages_of_models"]["linear"]["numpy"]
    assert (
        "First run" in (first / "report.html").read_text()
        and about["config_digest"][:6] in (first / "report.html").read_text()
    )
    for table in (shared / "tables").iterdir():
        if table.name != "scores.parquet":  # its metadata name the run
            assert table.read_bytes() == (first / "tables" / table.name).read_bytes(), table.name
    assert project.planned(*flags) == {} and project.planned() == {}


def test_a_small_run_twice_gives_the_same_bytes(fresh_project):
    """Once as users run it and once with the warm Python of the tests."""
    config = fresh_project.config
    config["run"] |= {"models": ["linear", "random"], "datasets": ["tiny/human"], "tasks": ["clustering"]}
    fresh_project.configure(config)
    results, first = fresh_project.folder / "results", fresh_project.folder / "first"
    targets = (*TABLES, "results/czbenchmarks.json")
    fresh_project.run(*targets, real=True)
    results.rename(first)
    fresh_project.run(*targets)
    names = {
        path.relative_to(first) for path in first.rglob("*") if path.suffix in (".csv", ".json", ".parquet", ".tsv")
    }
    cost = {"runtime.csv", "runtime.parquet", "provenance.json"}
    for name in sorted(names):
        if name.name not in cost:
            assert (first / name).read_bytes() == (results / name).read_bytes(), name
    one, other = (json.loads((folder / "provenance.json").read_text()) for folder in (first, results))
    assert one.pop("made") and other.pop("made") and one == other


def test_snakemakes_own_report(finished_project, tmp_path):
    finished_project.run("--report", str(tmp_path / "own.html"))
    text = (tmp_path / "own.html").read_text()
    for said in ("All results on one page", "Every mean with its 95 % interval", "Drawn from", "Figures", "Tables"):
        assert said in text


def test_golden_table(finished_project):
    """The scores of the tiny run are those of the day when they were looked at.

    Leiden and the exact metrics repeat to the digit on one machine; other BLAS kernels move logistic regression and PCA,
    and with them a label of 120 cells, by a per cent or two.
    """
    found = finished_project.table()
    found = found[found["status"] == "ok"].set_index(KEY)["value"].astype(float)
    if os.environ.get("CELLGAUGE_WRITE_GOLDEN"):
        found.reset_index().to_csv(GOLDEN, index=False)
    golden = pd.read_csv(GOLDEN, keep_default_na=False, dtype=dict.fromkeys(KEY, str)).set_index(KEY)["value"]
    assert sorted(found.index) == sorted(golden.index)
    apart = (found - golden).abs() / golden.abs().clip(lower=1)
    assert apart.max() < 0.05, apart[apart >= 0.05]
    assert (apart > 1e-6).mean() < 0.1


def test_report_shows_names_as_text(finished_project):
    page = (finished_project.folder / "results/report.html").read_text()
    assert "<script>alert('mine')" not in page and "linear" in page


def test_every_job_left_a_log_and_its_cost(finished_project):
    scores = {p.relative_to("results/scores").with_suffix("") for p in _files(finished_project, "results/scores")}
    logs = {p.relative_to("logs/score").with_suffix("") for p in _files(finished_project, "logs/score")}
    costs = {p.relative_to("benchmarks/score").with_suffix("") for p in _files(finished_project, "benchmarks/score")}
    assert scores and scores == logs == costs
    kept, logs, costs = (
        {
            path.relative_to(f"{folder}/neighbors").with_suffix("")
            for path in _files(finished_project, f"{folder}/neighbors")
        }
        for folder in ("results", "logs", "benchmarks")
    )
    assert kept and kept == logs == costs and kept < scores
    runtime = finished_project.table("runtime")
    assert set(runtime["stage"]) == {"embed", "neighbors", "score"} and (runtime["seconds"] > 0).all()
    assert set(runtime.loc[runtime["stage"] == "embed", "device"]) == {"cpu"} and set(runtime["max_gpu_mb"]) == {""}


def _files(project, folder):
    return [path.relative_to(project.folder) for path in (project.folder / folder).rglob("*") if path.is_file()]


def test_nothing_is_written_outside_its_folders(finished_project):
    places = {path.relative_to(finished_project.folder).parts[0] for path in finished_project.folder.rglob("*")}
    made = {"results", "logs", "benchmarks", ".snakemake"}
    given = {"workflow", "config", "profiles", "Snakefile", "published", "mine", "tiny.yaml"}
    assert places - given - {".cache", ".config", ".local"} == made  # HOME is the project's folder in tests


# --- the next run ----------------------------------------------------------------------------------------------------


def test_a_second_run_has_nothing_to_do(project):
    assert project.planned() == {}
    assert "Nothing to be done" in project.run().stdout


def test_touching_files_and_reordering_keys_re_runs_nothing(project):
    for path in (project.folder / "workflow").rglob("*.py"):
        os.utime(path)
    for path in (*(project.folder / "config").iterdir(), project.folder / "Snakefile"):
        os.utime(path)
    config = project.config
    project.configure({kind: dict(reversed(entries.items())) for kind, entries in reversed(config.items())})
    assert project.planned() == {}


def test_editing_a_models_entry_re_runs_that_model_alone(project):
    config = project.config
    config["models"]["random"] = {"params": {"n_dims": 7}}
    project.configure(config)
    planned = project.planned()
    again = stages(planned)
    assert {p for p in again if "embeddings" in p} == {
        f"results/embeddings/random/tiny/{s}.h5ad" for s in ("human", "mouse")
    }
    assert of_model(again, "random") and len(again) == 2 * OF_A_SPLIT + OF_BOTH
    assert "Params have changed" in planned["results/embeddings/random/tiny/human.h5ad"]


def test_the_plan_counts_the_jobs_of_snakemakes_own_dry_run(project):
    """In an empty folder, and where one model's options, another's code and one file have changed."""
    script = project.folder / "workflow/scripts/plan_run.py"

    def stages_of(folder):
        flags = ["--configfile", "tiny.yaml"]
        command = [warm_python(), str(script), *flags, "--cells", "500"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        jobs, _, costs = done.stdout.partition("\n\n")
        dry = [warm_python(), "-m", "snakemake", "--snakefile", str(project.folder / "Snakefile"), "--dry-run", *flags]
        text = subprocess.run(dry, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
        stats = re.findall(r"^(\w+) +(\d+)$", text.partition("Job stats:")[2].partition("\n\n")[0], re.MULTILINE)
        rows = [(line[:18].strip(), int(line[18:24]), line[26:46].strip()) for line in jobs.splitlines()[1:]]
        counts = Counter()
        for stage, n_jobs, _ in rows:
            counts[stage if stage != "all" else "total"] += n_jobs
        expected = {rule: int(n) for rule, n in stats if rule != "all"}
        assert counts == expected | {"total": expected["total"] - 1}  # `all` itself makes nothing
        priced = {stage: int(n) for stage, n in re.findall(r"^(split|embed|score) +(\d+) ", costs, re.MULTILINE)}
        assert priced == {stage: n for stage, n in counts.items() if stage in ("split", "embed", "score")}
        return {(stage, reason) for stage, _, reason in rows}

    empty = project.folder / "empty"
    empty.mkdir()
    for name in ("tiny.yaml", "published", "mine"):
        (empty / name).symlink_to(project.folder / name)
    assert {reason for _, reason in stages_of(empty)} == {"new", ""}
    config = project.config
    config["models"]["random"] = {"params": {"n_dims": 7}}
    project.configure(config)
    path = project.folder / "workflow/scripts/cellgauge/models/oracle.py"
    path.write_text(path.read_text() + "\nEDITED = True\n")
    embed = {reason for stage, reason in stages_of(project.folder) if stage == "embed"}
    assert embed == {"options changed", "code changed"}


def test_a_finished_run_has_no_plan(project):
    command = [warm_python(), str(project.folder / "workflow/scripts/plan_run.py"), "--configfile", "tiny.yaml"]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=True)
    assert done.stdout == "Nothing to do: every result is up to date.\n"


def test_a_dry_run_and_a_run_are_short_to_read(project, tmp_path):
    """At most a fifth of what the demo's dry run once printed, and one line a job beside its time."""
    command = [warm_python(), "-m", "snakemake", "--dry-run", "--configfile", "config/demo.yaml"]
    done = subprocess.run(
        [*command, "--directory", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "score " in done.stdout + done.stderr and len(done.stdout + done.stderr) <= 100_000
    (project.folder / "results/scores/clustering/random/tiny/human.tsv").unlink()
    text = project.run("--quiet", "reason", "host").stdout
    jobs = re.findall(r"^\[.*\]\nJob \d+: (.*)\n", text, re.MULTILINE)
    assert "Score clustering: random on tiny/human" in jobs and "Write the report" in jobs
    assert f"{len(jobs)} jobs: about" in text and "of the work; about" in text
    body = text.partition(" jobs: about")[2].splitlines()
    assert len([line for line in body if line]) <= 2 * len(jobs) + 9 + 3  # the forecast and the end


def test_editing_an_adapter_re_runs_its_model_alone(project):
    path = project.folder / "workflow/scripts/cellgauge/models/oracle.py"
    path.write_text(path.read_text() + "\nEDITED = True\n")
    planned = project.planned()
    assert of_model(stages(planned), "oracle") and len(stages(planned)) == 2 * OF_A_SPLIT + OF_BOTH
    assert "oracle.py" in planned["results/embeddings/oracle/tiny/human.h5ad"]


def test_editing_a_task_re_runs_its_scores_and_no_search(project):
    path = project.folder / "workflow/scripts/cellgauge/tasks/clustering/scores.py"
    path.write_text(path.read_text() + "\nEDITED = True\n")
    again = stages(project.planned())
    assert again and all(path.startswith("results/scores/clustering/") for path in again)


def test_editing_a_tasks_entry_re_runs_its_scores(project):
    config = project.config
    config["tasks"] = {"cross_species": {"params": {"n_neighbors": 50}}, "clustering": {"params": {"resolution": 2.0}}}
    project.configure(config)
    again = stages(project.planned())
    places = ("neighbors/cross_species", "scores/cross_species", "scores/clustering")  # those of clustering are kept
    assert {"/".join(path.split("/")[1:3]) for path in again} == set(places)


def test_kept_neighbors_are_read_again(project):
    config = project.config
    config["tasks"] = {"clustering": {"params": {"resolution": 2.0}}}
    project.configure(config)
    kept = project.folder / "results/neighbors/clustering/oracle/tiny/human.npz"
    before, table = kept.stat().st_mtime_ns, project.table()
    project.run("--", "results/scores/clustering/oracle/tiny/human.tsv")
    assert kept.stat().st_mtime_ns == before
    scores = pd.read_csv(project.folder / "results/scores/clustering/oracle/tiny/human.tsv", sep="\t")
    clusters = scores.query("metric == 'n_clusters' and profile == 'reference'")["value"].item()
    chosen = "task == 'clustering' and model == 'oracle' and split == 'human' and metric == 'n_clusters'"
    assert clusters > table.query(f"{chosen} and profile == 'reference'")["value"].astype(float).item()


def test_text_of_an_entry_reaches_the_tables_alone(project):
    config = project.config
    config["models"]["linear"]["title"] = "Another title"
    project.configure(config)
    planned = project.planned()
    assert stages(planned) == set() and "results/tables/models.csv" in planned
    assert "Params have changed" in planned["results/manifest.json"]
    assert "Another title" not in (project.folder / "results/manifest.json").read_text()  # a plan writes nothing


def test_adding_a_model_runs_only_it(project):
    config = project.config
    config["run"]["models"].append("hvg")
    project.configure(config)
    planned = project.planned()
    assert of_model(stages(planned), "hvg") and len(stages(planned)) == 2 * OF_A_SPLIT  # its species cannot be compared
    assert "results/tables/scores.csv" in planned


def test_naming_every_split_is_the_same_set_and_naming_one_is_another(project):
    config = project.config
    config["run"]["datasets"] = ["tiny/mouse", "tiny/human"]
    project.configure(config)
    assert stages(project.planned()) == set()
    config["datasets"]["tiny"]["splits"]["third"] = {"organism": "mouse", "url": "published/mouse.h5ad"}
    project.configure(config)
    pictures = {"results/layouts/pca_joint/tiny/human+mouse.tsv", "results/embeddings/pca_joint/tiny/human+mouse.h5ad"}
    planned = stages(project.planned())
    assert pictures <= planned  # another set than before: `all` has a third split now
    assert all(path.rpartition("/")[2].startswith("human+mouse.") for path in planned)
    project.run(*TABLES)
    table = project.table()
    of_set = table[table["task"] == "cross_species"]
    assert set(of_set["split"]) == {"human+mouse"} and set(of_set["species"]) == {"human+mouse"}
    assert set(project.table("summary").query("task == 'cross_species'")["set"]) == {"human+mouse"}
    assert (project.folder / "results/scores/cross_species/random/tiny/all.tsv").is_file()  # nothing wrote over it


def test_removing_a_model_makes_the_tables_anew(project):
    config = project.config
    config["run"]["models"].remove("mine")
    project.configure(config)
    assert stages(project.planned()) == set()
    project.run(*TABLES)
    assert "mine" not in set(project.table()["model"])


def test_a_changed_embedding_file_re_runs_its_split(project):
    path = project.folder / "mine/human.npz"
    with np.load(path) as arrays:
        np.savez(path, embedding=arrays["embedding"] * 2, cells=arrays["cells"])
    again = stages(project.planned())
    assert again == {
        "results/embeddings/mine/tiny/human.h5ad",
        "results/layouts/mine/tiny/human.tsv",
        "results/neighbors/clustering/mine/tiny/human.npz",
        "results/neighbors/cross_species/mine/tiny/all.npz",
        "results/scores/clustering/mine/tiny/human.tsv",
        "results/scores/label_prediction/mine/tiny/human.tsv",
        "results/scores/cross_species/mine/tiny/all.tsv",
    }


def test_forgetting_a_model_is_removing_its_folder(project):
    shutil.rmtree(project.folder / "results/embeddings/oracle")
    planned = stages(project.planned())
    assert of_model(planned, "oracle") and len(planned) == 2 * OF_A_SPLIT + OF_BOTH


def test_neighbors_may_be_removed_to_save_space(project):
    shutil.rmtree(project.folder / "results/neighbors")
    assert project.planned() == {}


def test_scores_that_are_removed_are_made_again(project):
    shutil.rmtree(project.folder / "results/scores/clustering/oracle")
    assert stages(project.planned()) == {f"results/scores/clustering/oracle/tiny/{s}.tsv" for s in ("human", "mouse")}


# --- when something fails --------------------------------------------------------------------------------------------


def test_a_failing_model_leaves_the_others_tables(project):
    before = project.table()
    (project.folder / "mine/human.npz").write_bytes(b"no longer an npz")
    done = project.run("--keep-going", check=False)
    assert done.returncode != 0
    assert "3 of 20 scores are missing" in done.stdout, done.stdout
    assert "  mine on tiny/human, mine on tiny/all: embed: mine/human.npz: cannot be read as npz" in done.stdout
    after = project.table()
    failed = after[after["status"] == "failed"]
    assert set(map(tuple, failed[["task", "model", "split"]].to_numpy())) == {
        ("clustering", "mine", "human"),
        ("label_prediction", "mine", "human"),
        ("cross_species", "mine", "all"),
    }
    assert failed["reason"].str.startswith("embed: mine/human.npz: cannot be read as npz").all()
    others = before["model"] != "mine"
    pd.testing.assert_frame_equal(
        before[others].sort_values(KEY).reset_index(drop=True),
        after[after["model"] != "mine"].sort_values(KEY).reset_index(drop=True),
    )
    assert (project.folder / "results/report.html").exists()
    # mended: the failed jobs run again, and the tables lose their failed rows
    shutil.copy2(project.folder / "mine/mouse.npz", project.folder / "mine/human.npz")
    done = project.run("--keep-going", check=False)
    assert "none of its 120 cell ids" in project.table().query("status == 'failed'")["reason"].iloc[0]


def test_tables_of_a_failed_run_are_made_anew(project):
    described = "a model's text " * 15_000  # longer than the 131,072 bytes that one argument of a command may have

    def descriptions():
        models = pd.read_csv(project.folder / "results/tables/models.csv", keep_default_na=False)
        return models.set_index("model")["description"]

    (project.folder / "mine/human.npz").write_bytes(b"no longer an npz")
    config = project.config
    config["models"]["linear"]["description"] = described
    project.configure(config)
    assert "3 of 20 scores are missing" in project.run("--keep-going", *TABLES, check=False).stdout
    assert descriptions()["linear"].strip() == described.strip() and "mine" in descriptions()
    config["run"]["models"].remove("mine")
    project.configure(config)
    project.run(*TABLES)
    assert set(project.table()["status"]) == {"ok", "not_applicable"}
    assert descriptions()["linear"].strip() == described.strip() and "mine" not in descriptions()
    assert (project.folder / "results/manifest.json").stat().st_size > 200_000
    assert project.planned(*TABLES) == {}


# --- mistakes in the configuration -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["run"].update(models=["lineer"]), "run.models: no model 'lineer', did you mean 'linear'?"),
        (
            lambda c: c["models"]["linear"].update(adaptor="x"),
            "models.linear: unknown key 'adaptor', did you mean 'adapter'?",
        ),
        (lambda c: c["datasets"]["tiny"]["splits"]["human"].update(organism="humann"), "did you mean 'human'"),
    ],
)
def test_a_mistake_stops_the_run_before_it_begins(project, change, words):
    config = copy.deepcopy(CONFIG)
    change(config)
    project.configure(config)
    done = project.run("--dry-run", check=False)
    assert done.returncode != 0 and words in done.stdout and "Traceback" not in done.stdout


def test_rules_pass_the_options_of_the_catalogue(finished_project):
    """What a job got is what the configuration says: read back from the embedding's provenance."""
    from cellgauge.files.embedding import Embedding

    uns = Embedding.read(finished_project.folder / "results/embeddings/linear/tiny/human.h5ad").uns
    assert json.loads(uns["params"]) == {"n_components": 10, "n_top_genes": 40}
    assert uns["model"] == "linear" and uns["seed"] == 42


def test_the_plan_of_the_full_benchmark_is_cheap_and_its_commands_are_short(fresh_project):
    """Everything that config/full.yaml selects, nothing made yet, beside the tiny project: a job costs no more among many."""

    def plan(*flags):
        command = [sys.executable, "-m", "snakemake", "--dry-run", "--printshellcmds", *flags]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, cwd=fresh_project.folder, capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        text = done.stdout + done.stderr
        return cpu, text, {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", text, re.MULTILINE)}

    few_cost, _, few = plan("--configfile", "tiny.yaml")
    many_cost, text, many = plan("--configfile", "config/full.yaml")
    assert many["total"] > 1000 and many["score"] > 800, many
    commands = re.findall(r"^Shell command: (.*)$", text, re.MULTILINE)
    assert len(commands) > 1000 and max(map(len, commands)) < 10_000
    assert many_cost / many["total"] < few_cost / few["total"], (many_cost, few_cost)


# --- on a cluster ----------------------------------------------------------------------------------------------------


def test_each_attempt_of_what_is_submitted_asks_for_more_memory_and_time(project, tmp_path):
    """With what the SLURM profile asks for beside the rules; its other keys need its plugin."""
    local = {"all", "manifest", "tables", "report", "exports", "figures"}
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text(encoding="utf-8"))
    asked = {key: profile[key] for key in ("default-resources", "set-resources")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(asked), encoding="utf-8")
    project.show_details()
    attempts = []
    for attempt in ("1", "2"):
        flags = ("--profile", str(tmp_path), "--dry-run", "--forceall", "--attempt", attempt)
        text = project.run(*flags).stdout
        jobs = re.findall(
            r"^rule (\w+):\n(?:    .*\n)*?    output: (.*)\n(?:    .*\n)*?    resources: (.*)$", text, re.M
        )
        attempts.append({output: (rule, facts) for rule, output, facts in jobs if rule not in local})
    first, second = attempts
    assert {rule for rule, _ in first.values()} >= {"split", "embed", "neighbors", "score", "layout"}
    for output, (rule, facts) in first.items():
        for name in ("mem_mb", "runtime"):
            before, after = (int(re.search(rf"\b{name}=(\d+)", text)[1]) for text in (facts, second[output][1]))
            assert after > before, (rule, name)
