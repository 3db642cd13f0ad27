"""What adapters of perturbation models share: the contract, and the way from a screen to a prediction file.

An adapter is a module with

    STOCHASTIC = False       # True: the seed changes the result, so `seeds:` in the run gives replicates
    NEEDS_DEVICE = False     # True: `device` is the one to compute on ("cpu", "cuda:0", "mps"), else always "cpu"
    USES_CONTROLS = True     # False: which controls it saw does not change the result, so it runs once and not twice
    PACKAGES = ()            # whose versions are recorded
    PATH, UNINFORMED, CZBENCHMARKS  # see `cellgauge.models.base`

    def predict(screen, weights, *, device, seed, **options):
        '''Return Predicted: for each of screen.test_conditions a Response.'''

`screen` is a `screens.screen.Screen`, `weights` the file or folder of the checkpoint (None where there is none), `options`
the `params` of the entry in config/models.yaml. A predictor looks at the controls and at the training conditions; nothing
hides the cells of the test conditions from it, and only the `ceiling` may use them. Half of the controls is withheld: in the
screen that a predictor is given they are no controls. What profile reference scores is predicted from all controls, as there;
so a predictor whose result depends on them runs once with each.

Expression is log-normalized as the screen has it (`screen.expression`). Responses may be yielded one by one: each is reduced
to what the scores need before the next is asked for, so a model's cells never lie in memory all at once. The plan reads the
constants from the file without running it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cellgauge import predictors
from cellgauge.core.plugins import Source, load_module, module_names
from cellgauge.inference.adapter_job import Stopwatch, Traits, check_options, seed_everything, versions
from cellgauge.models import base as embedders

if TYPE_CHECKING:
    import numpy as np
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class Response:
    """What a model predicts for one condition: cells, or their mean, or why it cannot.

    Attributes:
        condition: one of screen.test_conditions.
        cells: predicted log-normalized expression of cells, CSR or dense, shape (n_cells, n_genes), finite.
        mean: the mean expression where the model predicts no cells, shape (n_genes,).
        reason: why there is no prediction, such as a perturbed gene that the model does not know.
    """

    condition: str
    cells: np.ndarray | csr_matrix | None = None
    mean: np.ndarray | None = None
    reason: str = ""


@dataclass(frozen=True)
class Predicted:
    """What an adapter returns.

    Attributes:
        genes: the ids (of screen.genes) that the columns of every response belong to, in any order, each once.
        responses: one for each test condition, in any order; may be a generator.
        facts: what else is worth knowing, such as matched_genes, controls or gpu_seconds (str, int, float or bool). Read
            when all responses are done.
    """

    genes: Sequence[str] | np.ndarray
    responses: Iterable[Response]
    facts: Mapping[str, Any] = field(default_factory=dict)


def predictor_names() -> tuple[str, ...]:
    """Return the names of all adapters that predict responses."""
    return module_names(predictors)


def load_predictor(name: str) -> ModuleType:
    """Return the module of an adapter; raise CellgaugeError naming the nearest one."""
    return load_module(predictors, name, "adapter")


@cache  # the grid asks for every cell
def traits_of(adapter: str) -> Traits:
    """Return what an adapter says of itself, be it one that embeds cells or one that predicts responses.

    Its module is read and not imported.
    """
    if adapter not in predictor_names():
        return embedders.traits(adapter)
    return Traits.read(Source(f"{predictors.__name__}.{adapter}"), shared_space=False, modality="perturbation")


def predict_files(
    adapter: str,
    split_path: str | Path,
    output: str | Path,
    *,
    weights: str | Path | None = None,
    model: str = "",
    options: Mapping[str, Any] | None = None,
) -> None:
    """Predict the responses to the test conditions of a screen and write the prediction file.

    Args:
        split_path: a screen in the split contract.
        model: the catalogue's name of the model; by default the adapter's.
        options: `seed` (default 42), `device` (default "auto") and the adapter's own.
    """
    from cellgauge.core.gpu import pick_device
    from cellgauge.files.profiles import SUFFIX
    from cellgauge.screens.reduce import Reducer
    from cellgauge.screens.screen import Screen

    module, about = load_predictor(adapter), traits_of(adapter)
    settings = dict(options or {})
    seed, device = int(settings.pop("seed", 42)), settings.pop("device", "auto")
    check_options(adapter, module.predict, settings)
    screen = Screen.open(split_path)
    device = pick_device(device) if about.needs_device else "cpu"
    screens = {"corrected": screen.without_withheld()} | ({"reference": screen} if about.uses_controls else {})
    reducer, facts = None, {}
    for profile, visible in screens.items():
        seed_everything(seed)
        clock = Stopwatch()
        predicted = module.predict(visible, Path(weights) if weights else None, device=device, seed=seed, **settings)
        reducer = reducer or Reducer(screen, predicted.genes)
        for response in predicted.responses:
            reducer.add(**vars(response), profiles=(profile,) if about.uses_controls else SUFFIX)
        facts = facts or {**clock.read(), **predicted.facts}  # of the first run, which others are compared by
    provenance = {
        "model": model or adapter,
        "adapter": adapter,
        "dataset": screen.split.dataset,
        "split": screen.split.name,
        "organism": screen.split.organism,
        "params": settings,
        "seed": seed,
        "device": device,
        "versions": versions(about.packages),
        **facts,
    }
    reducer.write(output, provenance)
