"""Compare embeddings that this workflow computed from real checkpoints with those that the models' authors ship.

    make check-weights

fetches the three TranscriptFormers, embeds the test cells of their package, and compares with the embeddings in it. The shipped
ones were computed in half precision, so cells agree to about two digits; with a wrong checkpoint, vocabulary or network they do
not agree at all. The other models have no shipped embeddings; that their checkpoints load (every tensor by name and shape),
that genes match and that rows are finite is checked as they run.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

from cellgauge.files.embedding import Embedding

PAIRS = {
    "tf_sapiens": "human_heart",
    "tf_exemplar": "mouse_brain",
    "tf_metazoa": "chicken_embryo",
}
LEAST_COSINE = 0.99


def cosines(computed: Embedding, shipped: Embedding) -> np.ndarray:
    """Return the cosine of each cell's two rows, shape (n_cells,); raise ValueError where cells or widths differ."""
    if not np.array_equal(computed.cells, shipped.cells) or computed.matrix.shape != shipped.matrix.shape:
        raise ValueError(f"{computed.path} and {shipped.path} are not of the same cells and width")
    norms = np.linalg.norm(computed.matrix, axis=1) * np.linalg.norm(shipped.matrix, axis=1)
    return (computed.matrix * shipped.matrix).sum(axis=1) / norms


def main(folder: Path) -> int:
    """Print a line for each model; return how many disagree."""
    wrong = 0
    for model, split in PAIRS.items():
        paths = (folder / f"{name}/transcriptformer_tests/{split}.h5ad" for name in (model, f"{model}_precomputed"))
        found = cosines(*map(Embedding.read, paths))
        agrees = bool(np.median(found) >= LEAST_COSINE)  # False for NaN too
        wrong += not agrees
        said = "agrees" if agrees else "DISAGREES"
        print(
            f"{model}: {said} with the shipped embedding (cosine: median {np.median(found):.5f}, least {found.min():.5f})"
        )
    return wrong


if __name__ == "__main__":
    sys.exit(main(Path("results/embeddings")))
