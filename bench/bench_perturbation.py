"""Time a screen of Norman's size through predict, truth and score, as the workflow runs them: whole processes, CPU and memory.

    .venv/bin/python bench/bench_perturbation.py [--cells 100000] [--genes 5000] [--models no_change additive ceiling]

The screen is synthetic: sparse counts, Norman's 283 conditions with GEARS' 116 held out, a fifth of the genes shifted in
each. Goal: all of a model's scores, the truth included, within 180 CPU seconds and 4,000 MB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_scorers import ROOT, SCRIPTS, Cost, run

GOAL_SECONDS, GOAL_MB = 180, 4000

LISTED = ROOT / "tests/golden/gears_splits/norman_conditions.txt"

MAKE = """
import json, sys
import anndata, numpy as np, pandas as pd
from scipy.sparse import csr_matrix, vstack
sys.path.insert(0, sys.argv[4])
from cellgauge.files.split import write_split
from cellgauge.screens.screen import simulation_split, targets
n_cells, n_genes = int(sys.argv[1]), int(sys.argv[2])
names = open(sys.argv[5]).read().split()
partition, held_out = simulation_split(names)
symbols = sorted({g for n in names for g in targets(n)})
symbols += [f"G{i}" for i in range(n_genes - len(symbols))]
generator = np.random.default_rng(0)
conditions = np.asarray((["ctrl"] * 23 + names) * (n_cells // (len(names) + 23) + 1), dtype=object)[:n_cells]
base = generator.gamma(0.3, 0.6, n_genes).astype(np.float32)
shift = {g: (generator.normal(0, 0.5, n_genes) * (generator.random(n_genes) < 0.2)).astype(np.float32) for g in symbols[:105]}
rate = {n: base * np.exp(sum((shift[g] for g in targets(n)), np.zeros(n_genes, np.float32))) for n in {"ctrl", *names}}
blocks = []
for start in range(0, n_cells, 2000):
    part = conditions[start:start + 2000]
    rates = np.stack([rate[n] for n in part]) * generator.gamma(5, 0.2, (len(part), 1)).astype(np.float32)
    blocks.append(csr_matrix(generator.poisson(rates).astype(np.float32)))
counts = vstack(blocks, format="csr")
expression = counts.copy()
totals = np.asarray(counts.sum(axis=1)).ravel()
expression.data = np.log1p(counts.data / np.repeat(totals, np.diff(counts.indptr)) * 1e3).astype(np.float32)
obs = pd.DataFrame(
    {"label": pd.Categorical(conditions), "partition": pd.Categorical([partition.get(c, "") for c in conditions])},
    index=[f"cell{i}" for i in range(n_cells)],
)
var = pd.DataFrame({"feature_name": symbols}, index=symbols)
data = anndata.AnnData(counts, obs, var, layers={"expression": expression})
data.uns = {"dataset": "synthetic", "split": "k562", "organism": "human", "strata": json.dumps(held_out)}
write_split(sys.argv[3], data)
print(f"{n_cells} cells x {n_genes} genes, density {counts.nnz / n_cells / n_genes:.3f}, {len(held_out)} test conditions")
"""


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--cells", type=int, default=100_000)
    cli.add_argument("--genes", type=int, default=5000)
    cli.add_argument("--models", nargs="+", default=["no_change", "additive", "linear_responses", "ceiling"])
    args = cli.parse_args()
    missed = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        split, truth = str(folder / "split.h5ad"), str(folder / "truth.h5ad")
        sizes = (str(args.cells), str(args.genes))
        subprocess.run([sys.executable, "-c", MAKE, *sizes, split, str(SCRIPTS), str(LISTED)], check=True)
        print("| job | CPU s | wall s | peak MB |\n|---|---|---|---|")

        def job(what: str, *command: str) -> Cost:
            began = time.perf_counter()
            cost = run([sys.executable, str(SCRIPTS / command[0]), *command[1:]])
            wall = time.perf_counter() - began
            print(f"| {what} | {cost.cpu:.1f} | {wall:.1f} | {cost.memory_mb:,.0f} |", flush=True)
            return cost

        once = job("truth", "measure_truth.py", split, "--output", truth)
        for model in args.models:
            prediction, scores = str(folder / f"{model}.h5ad"), str(folder / f"{model}.tsv")
            jobs = [
                once,
                job(f"predict: {model}", "predict_responses.py", model, "--split", split, "--output", prediction),
                job(
                    f"score: {model}", "score_task.py", "perturbation", "--predictions", prediction, "--truth", truth,
                    "--options", json.dumps({"profiles": ["reference", "corrected"]}), "--output", scores,
                ),
            ]  # fmt: skip
            seconds, memory = sum(cost.cpu for cost in jobs), max(cost.memory_mb for cost in jobs)
            if seconds > GOAL_SECONDS or memory > GOAL_MB:
                missed.append(
                    f"{model}: {seconds:.0f} CPU s (goal {GOAL_SECONDS}), {memory:,.0f} MB (goal {GOAL_MB:,})"
                )
    if missed:
        raise SystemExit("goals missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
