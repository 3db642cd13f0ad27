"""Scores of predicted responses equal those of cell-eval, run beside us in an environment of its own, where it is right.

Where it is not (0.8.2), as the tests below say:
- `pr_auc` ranks genes by adjusted p values cut off at 1e-10, so that the most significant genes of a condition are tied
- `discrimination_score` of a condition that is farthest of all is 1 / n, and of one prediction for all of them (n + 1) / 2n on
  average: the rank counts from 0 and is divided by n; of tied conditions the order of the rows decides
- `de_direction_match` counts a gene that the prediction leaves unchanged as wrong, so that no change scores below a coin
- measured and predicted changes are taken from the control cells that each file holds: the noise of controls that are in both
  makes an r of its own (tests/unit/screens/test_screens_without_effect.py)
"""

import json
import os
import subprocess
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from anchor.environment import AnchorUnavailable, anchor_python
from scipy.sparse import csr_matrix, vstack
from screen_worlds import World, single, true_effects

from cellgauge.files.prediction import Prediction
from cellgauge.files.truth import Truth
from cellgauge.metrics import perturbation as metrics

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.xdist_group("cell_eval")]

RUNNER = Path(__file__).resolve().parents[1] / "cell_eval" / "run_cell_eval.py"
N_TEST = 12


def predicted_cells(world):
    """Return a function from a condition to predicted cells: controls that were seen, half of the way to the measured cells."""

    def cells(condition):
        generator = np.random.default_rng(world.screen.test_conditions.index(condition))
        controls = world.visible.controls().toarray()
        measured = world.screen.expression(world.screen.rows_of(condition)).toarray()
        chosen = controls[generator.integers(0, len(controls), 80)]
        moved = chosen + 0.6 * (measured.mean(axis=0) - controls.mean(axis=0)) + generator.normal(0, 0.02, chosen.shape)
        return {"cells": np.maximum(moved, 0).astype(np.float32)}

    return cells


@pytest.fixture(scope="module")
def compared(tmp_path_factory, unavailable):
    """Return a world, our rows, and what cell-eval says of each condition; of the genes that we score."""
    try:
        python = anchor_python("cell_eval")
    except AnchorUnavailable as reason:
        unavailable(reason)
    folder = tmp_path_factory.mktemp("cell_eval")
    world = World(folder, N_TEST, 20, effect=true_effects)
    respond = predicted_cells(world)
    ours = world.scores_of(respond)
    seen, withheld = world.screen.divided_controls()
    genes = np.flatnonzero(~Truth.read(folder / "truth.h5ad").masked)
    test = world.screen.test_conditions
    groups = {
        "real": {"control": world.screen.expression(withheld)}
        | {c: world.screen.expression(world.screen.rows_of(c)) for c in test},
        "predicted": {"control": world.screen.expression(seen)} | {c: csr_matrix(respond(c)["cells"]) for c in test},
    }
    for name, parts in groups.items():
        target = np.repeat(list(parts), [cells.shape[0] for cells in parts.values()])
        obs = pd.DataFrame({"target": target}, index=[f"{name}{n}" for n in range(len(target))])
        var = pd.DataFrame(index=world.screen.genes[genes].astype(str))
        anndata.AnnData(vstack(list(parts.values()), format="csr")[:, genes], obs, var).write_h5ad(
            folder / f"{name}.h5ad"
        )
    files = [f"--{name}={folder / name}.h5ad" for name in groups]
    # the runner's imports must be its own environment's
    environment = {key: text for key, text in os.environ.items() if key != "PYTHONPATH"}
    command = [str(python), str(RUNNER), *files, f"--output={folder / 'out.json'}"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    report = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    assert report["version"] == "0.8.2"
    return world, ours, pd.DataFrame(report["metrics"]).T.loc[test], genes


@pytest.mark.parametrize(
    ("metric", "subset", "theirs", "tolerance"),
    [
        ("pearson_delta", "all", "pearson_delta", 1e-5),  # theirs are means of float32
        ("mse", "all", "mse", 1e-6),
        ("de_recall", "all", "de_sig_genes_recall", 1e-12),
        ("n_de", "all", "de_nsig_counts_real", 0),
        ("n_de_predicted", "all", "de_nsig_counts_pred", 0),
        ("de_spearman", "de", "de_spearman_lfc_sig", 1e-5),
        ("de_direction", "de", "de_direction_match", 1e-12),
    ],
)
def test_equal(compared, metric, subset, theirs, tolerance):
    _, ours, table, _ = compared
    values = single(ours, metric, subset).loc[table.index]
    assert len(values) == N_TEST and values.nunique() > 2
    np.testing.assert_allclose(values, table[theirs].astype(float), rtol=0, atol=tolerance)


def test_r2_is_the_share_of_the_squared_error_of_no_change(compared):
    world, ours, table, genes = compared
    truth = Truth.read(world.folder / "truth.h5ad")
    rows = [int(np.flatnonzero((truth.condition == c) & (truth.role == "test"))[0]) for c in table.index]
    unchanged = ((truth.means[rows] - truth.means[truth.measured_from])[:, genes] ** 2).mean(axis=1)
    theirs = 1 - table["mse_delta"].astype(float) / unchanged
    np.testing.assert_allclose(single(ours, "r2_delta").loc[table.index], theirs, atol=1e-4)


@pytest.mark.parametrize("kind", ["l1", "l2", "cosine"])
def test_discrimination_is_theirs_but_for_the_denominator(compared, kind):
    _, ours, table, _ = compared
    ranks = (1 - table[f"discrimination_score_{kind}"].astype(float)) * N_TEST
    expected = 1 - ranks / (N_TEST - 1)
    np.testing.assert_allclose(single(ours, f"discrimination_{kind}").loc[table.index], expected, atol=1e-9)


def test_average_precision_is_theirs_of_the_same_scores_which_we_do_not_cut_off(compared):
    world, ours, table, genes = compared
    truth, prediction = Truth.read(world.folder / "truth.h5ad"), Prediction.read(world.folder / "prediction.h5ad")
    cut = []
    for condition in table.index:
        (row,) = np.flatnonzero((truth.condition == condition) & (truth.role == "test"))
        (made,) = np.flatnonzero(prediction.conditions == condition)
        labels = metrics.adjusted_p(truth.scores[row][genes]) < 0.05
        scores = -np.log10(np.clip(metrics.adjusted_p(prediction.scores[made][genes]), 1e-10, 1).astype(np.float32))
        cut.append(metrics.average_precision(labels, scores))
    np.testing.assert_allclose(cut, table["pr_auc"].astype(float), atol=1e-4)
    difference = single(ours, "de_auprc").loc[table.index] - cut
    assert difference.abs().max() < 0.1


def test_precision_and_recall_are_of_the_same_sets(compared):
    """cell-eval has no precision of the significant genes: its `precision_at_N` takes as many of the data's leading genes."""
    _, ours, table, _ = compared
    recall, precision = (single(ours, f"de_{name}").loc[table.index] for name in ("recall", "precision"))
    both = recall * table["de_nsig_counts_real"].astype(float)
    np.testing.assert_allclose(precision * table["de_nsig_counts_pred"].astype(float), both, atol=1e-9)
