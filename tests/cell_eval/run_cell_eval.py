"""Score predicted cells with cell-eval; runs in its own environment, which knows nothing of cellgauge.

    python run_cell_eval.py --real REAL.h5ad --predicted PREDICTED.h5ad --output OUT.json

Both files hold log-normalized cells of the same genes, obs["target"] with "control" among them. Its test is taken without the
correction for continuity, which scanpy and cellgauge leave out; everything else is the package as it is.
"""

from __future__ import annotations

import argparse
import functools
import json
import tempfile
from importlib.metadata import version
from pathlib import Path

METRICS = {
    "pearson_delta", "mse", "mse_delta", "discrimination_score_l1", "discrimination_score_l2", "discrimination_score_cosine",
    "de_spearman_lfc_sig", "de_direction_match", "de_sig_genes_recall", "de_nsig_counts", "pr_auc",
}  # fmt: skip


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("real", "predicted", "output"):
        cli.add_argument(f"--{name}", required=True)
    args = cli.parse_args()
    import pdex._math as tests

    from cell_eval import MetricsEvaluator
    from cell_eval.metrics import metrics_registry

    for name in ("mannwhitneyu_sparse", "mannwhitneyu_columns"):
        setattr(tests, name, functools.partial(getattr(tests, name), use_continuity=False))
    with tempfile.TemporaryDirectory() as folder:
        evaluator = MetricsEvaluator(
            args.predicted, args.real, control_pert="control", pert_col="target", num_threads=1, outdir=folder
        )
        skipped = [name for name in metrics_registry.list_metrics() if name not in METRICS]
        results, _ = evaluator.compute(profile="full", skip_metrics=skipped, write_csv=False, break_on_error=True)
    report = {"version": version("cell-eval"), "metrics": {row.pop("perturbation"): row for row in results.to_dicts()}}
    Path(args.output).write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
