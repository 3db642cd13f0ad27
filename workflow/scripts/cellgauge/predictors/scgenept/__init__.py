"""scGenePT (Istrate et al. 2024), fine-tuned on a screen: from control cells to perturbed cells.

Weights: a folder with one .pt and vocab.json. Genes are matched by symbol, as they are written in the vocabulary; genes
that it lacks get its token <pad>. All genes of a cell are tokens, also those with expression 0. The .pt includes the
embeddings of texts about genes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from cellgauge.core.errors import CellgaugeError
from cellgauge.files.h5ad import open_h5, read_index
from cellgauge.inference.checkpoints import Checkpoint, find_file, read_vocabulary, weights_folder
from cellgauge.inference.device import MiniBatch, Network, default_tokens
from cellgauge.inference.run import cell_generator, require_matches
from cellgauge.predictors.base import Predicted, Response
from cellgauge.screens.screen import CONTROL, Screen, targets

STOCHASTIC = True
NEEDS_DEVICE = True
PACKAGES = ("torch",)
CZBENCHMARKS = "SCGENEPT"

CONTROLS_ON_CPU = 300
CHUNK = 512  # cells per call of the official code in cz-benchmarks; each call draws among its own cells
DRAWS = ("each", "bootstrap")


def predict(
    screen: Screen,
    weights: Path,
    *,
    device: str,
    seed: int,
    heads: int = 8,
    controls: int | None = None,
    draw: str = "each",
    panel: str = "",
    min_matched_genes: float = 0.5,
    precision: str = "auto",
    tokens_per_batch: int | None = None,
) -> Predicted:
    """Return for each condition the cells that the model predicts from controls, the same controls for all conditions.

    Args:
        heads: number of attention heads, which the checkpoint does not show; 8 in the released models.
        controls: number of controls to sample, by seed and cell id (default: 300 on a CPU, all on other devices).
        draw: "each" uses every control once; "bootstrap" samples them with replacement for each condition, 512 at a time,
            like the official code with numpy's seeded legacy generator. Each distinct control is computed once.
        panel: a file with the ids of the genes to use, one per line, or an h5ad with these genes, such as the data that the
            model was fine-tuned on (default: all genes of the screen).

    A condition with a gene that is not in the panel has a reason instead of a prediction.
    """
    import torch

    from cellgauge.predictors.scgenept.network import load_scgenept

    if draw not in DRAWS:
        raise CellgaugeError(f"scGenePT: draw must be {' or '.join(map(repr, DRAWS))}, not '{draw}'")
    if controls is not None and controls < 1:
        raise CellgaugeError(f"scGenePT: controls must be at least 1, not {controls}")
    folder = weights_folder(weights, "scGenePT")
    vocabulary = read_vocabulary(find_file(folder, "vocab.json"), "<pad>")
    columns = _columns(screen, panel)
    symbols = screen.symbols[columns]
    ids = np.asarray([vocabulary.get(symbol, vocabulary["<pad>"]) for symbol in symbols])
    matched = sum(symbol in vocabulary for symbol in symbols)
    require_matches(matched, len(columns), min_matched_genes, "the vocabulary of scGenePT", screen.split)
    checkpoint = Checkpoint.open(find_file(folder, "*.pt"))
    module = load_scgenept(checkpoint, torch.from_numpy(ids), heads).to(device)
    network = Network(module.forward, device, precision)
    cells_per_batch = max(1, (tokens_per_batch or default_tokens(device)) // len(columns))

    expression = screen.controls()
    rows = chosen_controls(screen, controls, device, seed)
    facts: dict[str, Any] = {
        "matched_genes": matched,
        "controls": len(rows),
        "controls_available": expression.shape[0],
        "draw": draw,
        "revision": checkpoint.revision(),
    }
    expression = expression[rows][:, columns]
    positions = {column: position for position, column in enumerate(columns)}

    def responses() -> Iterator[Response]:
        for condition in screen.test_conditions:
            genes = sorted(targets(condition))
            absent = [gene for gene in genes if screen.column_of.get(gene) not in positions]
            if absent:
                yield Response(condition, reason=f"the model does not know {' and '.join(absent)}")
                continue
            perturbed = [positions[screen.column_of[gene]] for gene in genes]
            sample = np.arange(len(rows)) if draw == "each" else bootstrap(len(rows), seed)
            distinct, inverse = np.unique(sample, return_inverse=True)
            cells = _predicted(network, expression, distinct, perturbed, cells_per_batch, device)
            facts.update(network.facts())
            yield Response(condition, cells=cells[inverse])

    return Predicted(screen.genes[columns], responses(), facts)


def _predicted(
    network: Network, expression: csr_matrix, rows: np.ndarray, perturbed: list[int], cells_per_batch: int, device: str
) -> np.ndarray:
    """Return the predicted expression of the cells `rows` with the genes `perturbed`, float32, (n_rows, n_genes).

    Args:
        expression: log-normalized expression of the controls, shape (n_cells, n_genes).
    """
    import torch

    from cellgauge.inference.onednn import onednn

    def batches() -> Iterator[MiniBatch]:
        for start in range(0, len(rows), cells_per_batch):
            part = rows[start : start + cells_per_batch]
            values = expression[part].toarray()
            flags = np.zeros(values.shape, dtype=np.int64)
            flags[:, perturbed] = 1
            yield MiniBatch(part, (values, flags), values.shape[1], values.size)

    with torch.inference_mode(), onednn(device):
        return np.concatenate([result for _, result in network.run(batches())])


def bootstrap(n: int, seed: int) -> np.ndarray:
    """Return n positions sampled with replacement within chunks of CHUNK, as in the official code; int64, shape (n,)."""
    generator = np.random.RandomState(seed)
    sizes = [min(CHUNK, n - start) for start in range(0, n, CHUNK)]
    return np.concatenate([start * CHUNK + generator.randint(0, size, size) for start, size in enumerate(sizes)])


def chosen_controls(screen: Screen, n_controls: int | None, device: str, seed: int) -> np.ndarray:
    """Return the positions of `n_controls` controls, ascending. A cell's random number depends on the seed and its id alone.

    None: CONTROLS_ON_CPU on a CPU, all on other devices.
    """
    ids = screen.split.cells[screen.rows_of(CONTROL)]
    if n_controls is None and device == "cpu":
        n_controls = CONTROLS_ON_CPU
    if n_controls is None or n_controls >= len(ids):
        return np.arange(len(ids))
    keys = [cell_generator(seed, cell).random() for cell in ids]
    return np.sort(np.argsort(keys, kind="stable")[:n_controls])


def _columns(screen: Screen, panel: str) -> np.ndarray:
    """Return the columns of the genes to use, in the panel's order if there is one."""
    if not panel:
        return np.arange(len(screen.genes))
    try:
        if panel.endswith(".h5ad"):
            with open_h5(panel) as file:
                genes = read_index(file, "var").tolist()
        else:
            genes = Path(panel).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise CellgaugeError(f"{panel}: the panel cannot be read ({error})") from None
    column_of = {gene: column for column, gene in enumerate(screen.genes)}
    columns = [column_of[gene] for gene in dict.fromkeys(genes) if gene in column_of]
    if not columns:
        raise CellgaugeError(
            f"{panel}: none of its {len(genes)} genes is in {screen.where} (ids of the screen: '{screen.genes[0]}', ...)"
        )
    return np.asarray(columns)
