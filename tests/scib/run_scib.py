"""Run by the Python of .venv-scib: score_task.py as a user calls it, and beside it scib-metrics' own Benchmarker.

    python tests/scib/run_scib.py JOBS.json RESULTS.json

JOBS is a list of {embedding, split, output}; the Benchmarker gets the first of them. One process, since most of what the suite
costs is compiling its functions.
"""

import json
import runpy
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "workflow" / "scripts" / "score_task.py"


def score(embedding: str, split: str, output: str) -> None:
    """Call score_task.py."""
    sys.argv = [str(SCRIPT), "scib", "--embeddings", embedding, "--splits", split, "--output", output]
    sys.path.insert(0, str(SCRIPT.parent))
    runpy.run_path(str(SCRIPT), run_name="__main__")


def benchmark(embedding: str, split: str, **_: str) -> dict[str, float]:
    """Return what the Benchmarker reports of an embedding, by its own names; nothing here is cellgauge's."""
    import anndata
    import scanpy
    from scib_metrics.benchmark import Benchmarker

    cells = anndata.read_h5ad(split)
    expression = cells.copy()
    scanpy.pp.normalize_total(expression)
    scanpy.pp.log1p(expression)
    scanpy.pp.highly_variable_genes(expression, n_top_genes=3000)
    expression = expression[:, expression.var["highly_variable"]].copy()
    scanpy.pp.pca(expression, n_comps=50, random_state=42)
    cells.obsm["before"] = expression.obsm["X_pca"]
    cells.obsm["model"] = anndata.read_h5ad(embedding).X
    suite = Benchmarker(
        cells,
        batch_key="batch",
        label_key="label",
        embedding_obsm_keys=["model"],
        pre_integrated_embedding_obsm_key="before",
        progress_bar=False,
    )
    suite.benchmark()
    results = suite.get_results().loc["model"]
    return {name: float(value) for name, value in results.items()}


def main() -> None:
    jobs, target = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    for job in jobs:
        score(**job)
    target.write_text(json.dumps(benchmark(**jobs[0])))


if __name__ == "__main__":
    main()
