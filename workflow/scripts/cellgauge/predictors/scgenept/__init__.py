"""scGenePT (Istrate et al. 2024), fine-tuned on a screen: control cells to cells in which genes are perturbed.

Weights: a folder with one .pt and vocab.json. Genes are matched by symbol, as they are written in the vocabulary; those that
it lacks take part as its <pad>. All genes of a cell are tokens, absent ones with expression 0. The texts that the model
knows of genes are in the .pt.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cellgauge.core.errors import CellgaugeError
from cellgauge.predictors.base import Predicted, Response

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from scipy.sparse import csr_matrix

    from cellgauge.screens.screen import Screen

STOCHASTIC = True
NEEDS_DEVICE = True
PACKAGES = ("torch",)
CZBENCHMARKS = "SCGENEPT"

CONTROLS_ON_CPU = 300
CHUNK = 512  # cells that cz-benchmarks hands to the official code at a time, which draws among them
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
    precision: str = "fp32",
    tokens_per_batch: int | None = None,
) -> Predicted:
    """Return for each condition the cells that the model makes of controls: the same ones for all.

    Args:
        heads: attention heads, which the checkpoint does not tell; 8 in the released models.
        controls: how many controls to take, drawn by the run's seed and their ids (default: 300 on a CPU, all elsewhere).
        draw: "each" takes every control once; "bootstrap" draws among them with replacement for each condition, 512 at a
            time, as the official code does with numpy's legacy generator seeded. Each distinct control is computed once.
        panel: a file with the ids of the genes that take part, one by line, or an h5ad with them as genes, such as the data
            that the model was fine-tuned on (default: all genes of the screen).
        min_matched_genes: the least share of genes that the vocabulary must know.
        precision, tokens_per_batch: see `cellgauge.inference.run.embed_split`; at least one cell is computed at a time.

    A condition with a gene that is not among those that take part has no prediction but a reason.

    Raises:
        CellgaugeError: a file that is missing, damaged or of another model, an option out of range, too few known genes, or
            no control.
    """
    import numpy as np
    import torch

    from cellgauge.inference.checkpoints import Checkpoint, find_file, read_vocabulary, weights_folder
    from cellgauge.inference.run import require_matches
    from cellgauge.predictors.scgenept.network import load_scgenept
    from cellgauge.screens.screen import targets

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
    network = load_scgenept(checkpoint, torch.from_numpy(ids), heads).to(device)

    expression = screen.controls()
    rows = chosen_controls(screen, controls, device, seed)
    facts: dict[str, Any] = {
        "matched_genes": matched,
        "controls": len(rows),
        "controls_available": expression.shape[0],
        "draw": draw,
        "revision": checkpoint.revision(),
    }
    cells = Cells(expression[rows][:, columns], network, device, precision, tokens_per_batch, facts)
    places = {column: place for place, column in enumerate(columns)}

    def responses() -> Iterator[Response]:
        for condition in screen.test_conditions:
            genes = sorted(targets(condition))
            absent = [gene for gene in genes if screen.column_of.get(gene) not in places]
            if absent:
                yield Response(
                    condition, reason=f"{' and '.join(absent)} is not among the genes that the model is given"
                )
                continue
            perturbed = [places[screen.column_of[gene]] for gene in genes]
            drawn = np.arange(len(rows)) if draw == "each" else bootstrap(len(rows), seed)
            distinct, again = np.unique(drawn, return_inverse=True)
            yield Response(condition, cells=cells.predict(distinct, perturbed)[again])

    return Predicted(screen.genes[columns], responses(), facts)


class Cells:
    """Control cells (n_cells, n_genes of the model) and the network that perturbs them; what it measures goes to `facts`."""

    def __init__(
        self,
        expression: csr_matrix,
        network: Any,
        device: str,
        precision: str,
        tokens_per_batch: int | None,
        facts: dict[str, Any],
    ) -> None:
        from cellgauge.inference.run import Network, default_tokens

        self._expression, self._facts, self._device, self._precision = expression, facts, device, precision
        self._forward, self._network = network.forward, Network(network.forward, device)
        self._at_once = max(1, (tokens_per_batch or default_tokens(device)) // expression.shape[1])

    def predict(self, rows: np.ndarray, perturbed: list[int]) -> np.ndarray:
        """Return the predicted expression of the cells `rows` with these genes perturbed, float32, (n_rows, n_genes)."""
        import numpy as np
        import torch

        from cellgauge.inference.onednn import onednn
        from cellgauge.inference.run import Batch, deviation, in_precision

        n_genes = self._expression.shape[1]
        predicted = np.empty((len(rows), n_genes), dtype=np.float32)
        with torch.inference_mode(), onednn(self._device):
            for start in range(0, len(rows), self._at_once):
                part = rows[start : start + self._at_once]
                values = self._expression[part].toarray()
                flags = np.zeros(values.shape, dtype=np.int64)
                flags[:, perturbed] = 1
                batch = Batch(part, (values, flags), n_genes)
                with in_precision(self._precision, self._device):
                    predicted[start : start + len(part)] = self._network(batch)
                if self._precision != "fp32" and "fp32_max_deviation" not in self._facts:
                    found = predicted[start : start + len(part)]
                    self._facts |= deviation(found, batch, self._forward, self._device)
        self._facts |= {"precision": self._precision, "halved_batches": self._network.halved}
        self._facts |= self._network.device_facts()
        return predicted


def bootstrap(n: int, seed: int) -> np.ndarray:
    """Return n positions drawn with replacement, each among those of its chunk, as the official code draws them."""
    import numpy as np

    generator = np.random.RandomState(seed)
    sizes = [min(CHUNK, n - start) for start in range(0, n, CHUNK)]
    return np.concatenate([start * CHUNK + generator.randint(0, size, size) for start, size in enumerate(sizes)])


def chosen_controls(screen: Screen, wanted: int | None, device: str, seed: int) -> np.ndarray:
    """Return positions among the controls, ascending: `wanted` of them, drawn by each cell's own random number.

    None is 300 on a CPU, all elsewhere.
    """
    import numpy as np

    from cellgauge.inference.run import cell_generator
    from cellgauge.screens.screen import CONTROL

    ids = screen.split.cells[screen.rows_of(CONTROL)]
    if wanted is None and device == "cpu":
        wanted = CONTROLS_ON_CPU
    if wanted is None or wanted >= len(ids):
        return np.arange(len(ids))
    drawn = [cell_generator(seed, cell).random() for cell in ids]
    return np.sort(np.argsort(drawn, kind="stable")[:wanted])


def _columns(screen: Screen, panel: str) -> np.ndarray:
    """Return the columns of the genes that take part, in the panel's order where there is one."""
    import numpy as np

    from cellgauge.files.h5ad import open_h5, read_index

    if not panel:
        return np.arange(len(screen.genes))
    try:
        if panel.endswith(".h5ad"):
            with open_h5(panel) as file:
                genes = read_index(file, "var").tolist()
        else:
            from pathlib import Path

            genes = Path(panel).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise CellgaugeError(f"{panel}: the panel cannot be read ({error})") from None
    column = {gene: place for place, gene in enumerate(screen.genes)}
    found = [column[gene] for gene in dict.fromkeys(genes) if gene in column]
    if not found:
        raise CellgaugeError(
            f"{panel}: none of its {len(genes)} genes is in {screen.where} (its ids are such as '{screen.genes[0]}')"
        )
    return np.asarray(found)
