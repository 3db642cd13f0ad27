"""Run one task of cz-benchmarks on arrays and write its metrics as JSON. Runs in the anchor's environment.

    python run_anchor.py TASK --matrix X.npy --labels LABELS.npy [--species SPECIES.npy] --output OUT.json
    python run_anchor.py --jobs JOBS.json    # a list of such command lines: importing cz-benchmarks takes a quarter of a minute

Tasks: clustering, silhouette, label_prediction (and without_forest), cross_species, and pca_baseline (of counts; it has no
metrics). Label prediction centres the features, as release 0.10.2 does and the installed 0.15.1 does not; everything else
is the installed package as it is.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np

PACKAGES = (
    "cz-benchmarks",
    "scanpy",
    "scikit-learn",
    "scib-metrics",
    "igraph",
    "hnswlib",
    "jax",
    "pynndescent",
    "numpy",
)
# The species' names that the reference knows, dealt to ours in sorted order: only their being different counts.
ORGANISMS = ("HUMAN", "MOUSE", "RHESUS_MACAQUE", "CHICKEN", "OPOSSUM", "GORILLA", "CHIMPANZEE", "MARMOSET", "PLATYPUS")


def clustering(matrix, labels, species):
    import pandas as pd
    from czbenchmarks.tasks import ClusteringTask, ClusteringTaskInput

    obs = pd.DataFrame({"label": pd.Categorical(labels)}, index=pd.RangeIndex(len(labels)).astype(str))
    return ClusteringTask(random_seed=42).run(matrix, ClusteringTaskInput(obs=obs, input_labels=obs["label"]))


def silhouette(matrix, labels, species):
    import pandas as pd
    from czbenchmarks.tasks import EmbeddingTask, EmbeddingTaskInput

    return EmbeddingTask(random_seed=42).run(matrix, EmbeddingTaskInput(input_labels=pd.Series(labels)))


def label_prediction(matrix, labels, species):
    import pandas as pd
    from czbenchmarks.tasks import MetadataLabelPredictionTask, MetadataLabelPredictionTaskInput, label_prediction

    class Centring(label_prediction.StandardScaler):
        def __init__(self, *, copy=True, with_mean=True, with_std=True):
            super().__init__(copy=copy, with_mean=True, with_std=with_std)

    label_prediction.StandardScaler = Centring
    return MetadataLabelPredictionTask(random_seed=42).run(
        matrix, MetadataLabelPredictionTaskInput(labels=pd.Series(labels))
    )


def without_forest(matrix, labels, species):
    """Label prediction whose third classifier costs nothing; what it says, and the mean over all three, is left out."""
    from czbenchmarks.tasks import label_prediction as module
    from sklearn.dummy import DummyClassifier

    module.RandomForestClassifier = lambda *args, **options: DummyClassifier()
    results = label_prediction(matrix, labels, species)
    return [result for result in results if result.params.get("classifier") in ("lr", "knn")]


def cross_species(matrix, labels, species):
    from czbenchmarks.datasets.types import Organism
    from czbenchmarks.tasks import CrossSpeciesIntegrationTask, CrossSpeciesIntegrationTaskInput

    names = np.unique(species)
    members = [np.flatnonzero(species == name) for name in names]
    chosen = CrossSpeciesIntegrationTaskInput(
        labels=[labels[rows] for rows in members],
        organism_list=[getattr(Organism, organism) for organism, _ in zip(ORGANISMS, names, strict=False)],
    )
    return CrossSpeciesIntegrationTask(random_seed=42).run([matrix[rows] for rows in members], chosen)


def pca_baseline(matrix, labels, species):
    import anndata
    from czbenchmarks.tasks.utils import run_standard_scrna_workflow
    from scipy.sparse import csr_matrix

    run_standard_scrna_workflow(anndata.AnnData(csr_matrix(matrix)))
    return []


TASKS = (clustering, silhouette, label_prediction, without_forest, cross_species, pca_baseline)


def main() -> None:
    if sys.argv[1:2] == ["--jobs"]:
        for arguments in json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")):
            run(arguments)
    else:
        run(sys.argv[1:])


def run(arguments: list[str]) -> None:
    """Run the task of a command line."""
    tasks = {task.__name__: task for task in TASKS}
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("task", choices=sorted(tasks))
    cli.add_argument("--matrix", required=True)
    cli.add_argument("--labels", required=True)
    cli.add_argument("--species")
    cli.add_argument("--output", required=True)
    args = cli.parse_args(arguments)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    arrays = [np.load(path, allow_pickle=False) if path else None for path in (args.matrix, args.labels, args.species)]
    before = resource.getrusage(resource.RUSAGE_SELF)
    metrics = {
        "/".join([result.metric_type.value, *result.params.values()]): float(result.value)
        for result in tasks[args.task](*arrays)
    }
    after = resource.getrusage(resource.RUSAGE_SELF)
    report = {
        "metrics": metrics,
        "task_cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "versions": {name: version(name) for name in PACKAGES},
    }
    Path(args.output).write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
