"""The names that cz-benchmarks' result files have for tasks, metrics and classifiers, and ours for them."""

from __future__ import annotations

METRICS = {
    "clustering": {"ari": "adjusted_rand_index", "nmi": "normalized_mutual_info"},
    "embedding": {"silhouette": "silhouette_score"},
    "label_prediction": {name: f"mean_fold_{name}" for name in ("accuracy", "f1", "precision", "recall", "auroc")},
    "cross_species": {name: name for name in ("entropy_per_cell", "batch_silhouette")},
    "perturbation": {"mse": "mean_squared_error", "pearson_delta": "PEARSON_CORRELATION", "jaccard": "jaccard"},
}
"""Their task -> our metric -> their metric type. Their silhouette is a task of its own, `embedding`; ours is in clustering."""
TASKS = {"embedding": "clustering"}
"""Their task -> ours, where the names differ."""
CLASSIFIERS = {"logistic_regression": "lr", "knn": "knn", "random_forest": "rf", "mean": "MEAN(knn,lr,rf)"}
"""Our classifier -> theirs."""
PROFILE = "reference"
"""The profile of ours that computes what cz-benchmarks computes."""
