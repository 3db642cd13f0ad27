"""Measure what Snakemake costs before and between the jobs, beside a plain workflow of as many.

    .venv/bin/python bench/bench_workflow.py [--repeats 3]

Two goals: the dry run of config/full.yaml takes at most 1.5 times the CPU time of a plain workflow with as many jobs,
whose rules hold constants where ours hold functions (medians of runs in turn); and in a run on made-up cells Snakemake
itself takes at most .1 CPU seconds a job, planning included. CPU is user + system time. Fails when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "helpers"), str(ROOT / "workflow" / "scripts")]

MOST_TIMES, MOST_SECONDS = 1.5, 0.1
RULES = {  # name -> constant inputs, result
    "download": (["script.py"], "objects/{split}"),
    "download_weights": (["script.py"], "weights/{model}"),
    "split": (["script.py", "objects/{split}"], "splits/{split}"),
    "embed": (["script.py", "splits/{split}", "weights/{model}"], "embeddings/{model}/{split}"),
    "layout": (["script.py", "embeddings/{model}/{split}", "splits/{split}"], "layouts/{model}/{split}"),
    "neighbors": (["script.py", "embeddings/{model}/{split}", "splits/{split}"], "neighbors/{model}/{split}"),
    "score": (
        ["script.py", "embeddings/{model}/{split}", "splits/{split}", "neighbors/{model}/{split}"],
        "scores/{task}/{model}/{split}",
    ),
}
RULE = """
rule {name}:
    input: {inputs!r}
    output: {output!r}
    log: "logs/{name}/{stem}.log"
    benchmark: "benchmarks/{name}/{stem}.tsv"
    conda: "env.yaml"
    threads: 1
    resources: gpu=0, mem_mb=1000
    params: code="digest", options='{{{{"seed": 1}}}}'
    shell: "cp {{input[0]:q}} {{output:q}} {{params.code:q}} {{params.options:q}} > {{log:q}} 2>&1"
"""
ITSELF = """
import json, resource, sys
from snakemake.cli import main
try: main(sys.argv[2:])
except SystemExit as end: assert not end.code, end.code
usage = resource.getrusage(resource.RUSAGE_SELF)
open(sys.argv[1], "w").write(json.dumps(usage.ru_utime + usage.ru_stime))
"""
"""Runs Snakemake and writes what it took itself: jobs are shell commands, processes of their own."""


def write_plain(folder: Path, jobs: dict[str, int]) -> None:
    """Write a workflow of about as many jobs of each rule; scores make up the difference to the whole number."""
    splits = [f"s{number}" for number in range(jobs["split"])]
    models = [f"m{number}" for number in range(-(-jobs["embed"] // len(splits)))]
    pairs = list(product(models, splits))[: jobs["embed"]]
    others = 2 * len(splits) + len(models) + 3 * len(pairs) + 2  # of every rule but scores: tables and `all` too
    scores = [f"scores/{task}/{model}/{split}" for task in "abcd" for model, split in pairs][: jobs["total"] - others]
    results = {
        name: [f"{name}/{model}/{split}" for model, split in pairs] for name in ("embeddings", "layouts", "neighbors")
    }
    text = "wildcard_constraints: model=r'm\\d+', split=r's\\d+', task='[a-d]'\n"
    text += f"rule all:\n    input: {results['embeddings'] + scores!r}, 'tables'\n"
    text += f"rule tables:\n    input: 'script.py', {scores + results['layouts'] + results['neighbors']!r}\n"
    text += "    output: 'tables'\n    log: 'logs/tables.log'\n    shell: 'cp {input[0]} {output} > {log}'\n"
    for name, (inputs, output) in RULES.items():
        text += RULE.format(name=name, inputs=inputs, output=output, stem=output.partition("/")[2])
    (folder / "Snakefile").write_text(text, encoding="utf-8")
    (folder / "script.py").touch()
    (folder / "env.yaml").write_text("dependencies: [python]\n", encoding="utf-8")


def dry_run(folder: Path, *flags: str) -> tuple[float, dict[str, int]]:
    """Return the CPU seconds of a dry run, and its number of jobs by rule."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "snakemake", "--dry-run", *flags]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    counts = {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)}
    return seconds, counts


def own_share(folder: Path) -> tuple[float, int]:
    """Return the CPU seconds that Snakemake itself takes in a run on made-up cells, and the number of its jobs."""
    from project import CONFIG, make_project

    models = [*CONFIG["run"]["models"], "hvg", "shuffled", "linear_50"]
    config = {**CONFIG, "run": {**CONFIG["run"], "models": models}}
    config["models"] = {**CONFIG["models"], "linear_50": {"adapter": "linear", "params": {"n_components": 9}}}
    project = make_project(folder / "project", config)
    flags = ["--cores", "2", "--configfile", "tiny.yaml"]
    n_jobs = dry_run(project.folder, *flags[2:])[1]["total"]
    result = folder / "seconds.json"
    subprocess.run(
        [sys.executable, "-c", ITSELF, str(result), *flags], cwd=project.folder, capture_output=True, check=True
    )
    return json.loads(result.read_text()), n_jobs


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--repeats", type=int, default=3)
    args = cli.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        empty, plain = Path(scratch, "empty"), Path(scratch, "plain")
        empty.mkdir(), plain.mkdir()
        full = ["--snakefile", str(ROOT / "Snakefile"), "--configfile", str(ROOT / "config/full.yaml")]
        jobs = dry_run(empty, *full)[1]
        write_plain(plain, jobs)
        pairs = [(dry_run(plain)[0], dry_run(empty, *full)[0]) for _ in range(args.repeats)]
        assert dry_run(plain)[1]["total"] == jobs["total"]
        theirs, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
        print(
            f"dry run of {jobs['total']} jobs: {ours:.1f} CPU s, a plain workflow's {theirs:.1f}: {ours / theirs:.2f} times"
        )
        seconds, n_jobs = own_share(Path(scratch))
        print(f"Snakemake's share in a run of {n_jobs} jobs: {seconds:.1f} CPU s, {seconds / n_jobs:.3f} a job")
    if ours / theirs > MOST_TIMES or seconds / n_jobs > MOST_SECONDS:
        sys.exit(f"error: a goal was missed: at most {MOST_TIMES} times, and {MOST_SECONDS} CPU s a job")


if __name__ == "__main__":
    main()
