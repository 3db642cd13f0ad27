"""Profile reference equals cz-benchmarks, run beside it in an environment of its own, on real cells.

cz-benchmarks 0.15.1 computes what 0.10.2 does but for two things: its label prediction does not centre the features
(the runner makes it), and its entropy takes fewer neighbors where there are fewer than 200 cells (there are more here).
"""

import json
import os
import subprocess
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from anchor.environment import AnchorUnavailable, anchor_python

from cellgauge.tasks.cells import CellsToScore
from cellgauge.tasks.run import load_task

pytestmark = [
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.xdist_group("anchor"),
    pytest.mark.filterwarnings("ignore::anndata.OldFormatWarning"),
]

RUNNER = Path(__file__).resolve().parents[1] / "anchor" / "run_anchor.py"
CLASSIFIERS = {"lr": "logistic_regression", "knn": "knn", "rf": "random_forest", "MEAN(knn,lr,rf)": "mean"}
METRICS = ("accuracy", "f1", "precision", "recall", "auroc")
JOBS = (
    ("clustering", "human"),
    ("silhouette", "human"),
    ("label_prediction", "human"),
    ("label_prediction", "two_types"),
    ("cross_species", "two_species"),
)


class Cells(NamedTuple):
    """An embedding with what is known of its cells; species is None where there is one."""

    matrix: np.ndarray
    labels: np.ndarray
    species: np.ndarray | None = None


def components(data, n=50):
    """Principal components of log counts, as scanpy computes them."""
    import scanpy

    scanpy.pp.log1p(data)
    scanpy.pp.pca(data, n_comps=n, random_state=42)
    return np.ascontiguousarray(data.obsm["X_pca"], dtype=np.float32)


@pytest.fixture(scope="module")
def human(baron):
    import anndata

    data = anndata.read_h5ad(baron.human)
    return Cells(components(data), data.obs["cell_ontology_class"].astype(str).to_numpy())


@pytest.fixture(scope="module")
def two_types(human):
    chosen = np.isin(human.labels, ["type B pancreatic cell", "pancreatic A cell"])
    return Cells(human.matrix[chosen], human.labels[chosen])


@pytest.fixture(scope="module")
def two_species(baron):
    """Human and mouse cells in common components, over genes that have the same name in both."""
    import anndata

    parts = [anndata.read_h5ad(path) for path in baron]
    for part in parts:
        part.var_names = part.var_names.str.upper()
        part.var_names_make_unique()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = anndata.concat(parts, join="inner", label="species", keys=baron._fields, index_unique="-")
    labels, species = (data.obs[name].astype(str).to_numpy() for name in ("cell_ontology_class", "species"))
    return Cells(components(data), labels, species)


@pytest.fixture(scope="module")
def anchor(tmp_path_factory, unavailable, human, two_types, two_species):
    """Return the metrics of cz-benchmarks: (task, name of the cells) -> metric -> value. One process runs all tasks."""
    try:
        python = anchor_python()
    except AnchorUnavailable as reason:
        unavailable(reason)
    folder = tmp_path_factory.mktemp("anchor")
    cells = {"human": human, "two_types": two_types, "two_species": two_species}
    for name, part in cells.items():
        for field, values in part._asdict().items():
            if values is not None:
                np.save(folder / f"{name}.{field}.npy", values if field == "matrix" else values.astype(str))
    jobs = []
    for task, name in JOBS:
        arrays = [f"--{path.name.split('.')[1]}={path}" for path in sorted(folder.glob(f"{name}.*.npy"))]
        jobs.append([task, *arrays, f"--output={folder / f'{task}.{name}.json'}"])
    (folder / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    # the runner's imports must be its own environment's, and jax would look for accelerators
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"JAX_PLATFORMS": "cpu"}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    command = [str(python), str(RUNNER), "--jobs", str(folder / "jobs.json")]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    reports = {job: json.loads((folder / f"{'.'.join(job)}.json").read_text(encoding="utf-8")) for job in JOBS}
    assert {report["versions"]["cz-benchmarks"] for report in reports.values()} == {"0.15.1"}
    return {job: report["metrics"] for job, report in reports.items()}


def reference(task: str, cells: Cells, **params) -> dict[tuple[str, str], float]:
    """Return our headline values of profile reference: (metric, classifier) -> value."""
    obs = {"label": cells.labels.astype(object)}
    if cells.species is not None:
        obs["organism"] = cells.species.astype(object)
    scores = load_task(task).score(CellsToScore(cells.matrix, obs), profiles=["reference"], seed=42, **params)
    return {
        (score.metric, score.classifier): score.value for score in scores if score.fold is None and score.status == "ok"
    }


def test_clustering(anchor, human):
    """Below 8,192 cells both search neighbors exactly, so the partitions are the same."""
    theirs, ours = anchor["clustering", "human"], reference("clustering", human)
    assert theirs["adjusted_rand_index"] == pytest.approx(ours["ari", ""], abs=1e-12)
    assert theirs["normalized_mutual_info"] == pytest.approx(ours["nmi", ""], abs=1e-12)
    assert 0.1 < ours["ari", ""] < 0.9  # neither a trivial nor a failed clustering


def test_silhouette(anchor, human):
    theirs, ours = anchor["silhouette", "human"], reference("clustering", human, metrics=["silhouette"])
    assert theirs["silhouette_score"] == pytest.approx(ours["silhouette", ""], abs=1e-6)


@pytest.mark.parametrize("name", ["human", "two_types"])
def test_label_prediction(anchor, name, request):
    """Two labels, too: the reference then scores the second one alone."""
    cells = request.getfixturevalue(name)
    theirs, ours = anchor["label_prediction", name], reference("label_prediction", cells)
    for their_name, classifier in CLASSIFIERS.items():
        # equal neighbors and trees to the last cell; logistic regression stops before it converges, so that its
        # 100th step hangs on the order in which the processor adds
        tolerance = 1e-12 if classifier in ("knn", "random_forest") else 1e-3
        for metric in METRICS:
            theirs_here = theirs[f"mean_fold_{metric}/{their_name}"]
            assert theirs_here == pytest.approx(ours[metric, classifier], abs=tolerance), (metric, classifier)


def test_cross_species(anchor, two_species):
    """The reference's neighbors are approximate, hence the tolerance of the entropy."""
    theirs, ours = anchor["cross_species", "two_species"], reference("cross_species", two_species)
    assert theirs["entropy_per_cell"] == pytest.approx(ours["entropy_per_cell", ""], abs=1e-3)
    assert theirs["batch_silhouette"] == pytest.approx(ours["batch_silhouette", ""], abs=1e-6)
    assert 0.05 < ours["entropy_per_cell", ""] < 0.95
