"""What adapters share: the contract, and the way from split files to an embedding file.

An adapter is a module with these constants, which may be left out where they are as here, and a function:

    SCOPE = "split"          # embeds each split on its own; "dataset": the splits of a set in one job
    SHARED_SPACE = True      # cells of different splits may be compared; False: each split has axes of its own
    STOCHASTIC = False       # True: the seed changes the result, so `seeds:` in the run gives replicates
    NEEDS_DEVICE = False     # True: `device` is the one to compute on ("cpu", "cuda:0", "mps"), else always "cpu"
    NEEDS_ENSEMBL = False    # True: genes are known by Ensembl ids alone, so data that have none cannot be embedded
    PACKAGES = ()            # whose versions are recorded
    PATH = ""                # an example of the `path` that the model's entry must give, where it needs one
    UNINFORMED = False       # True: it knows nothing of the cells, so a score at which it is best tells nothing by itself
    FITTED_ON_SPLIT = False  # True: fitted to the very cells that it is scored on (without their labels)
    COMMON_UNITS = False     # True: all dimensions have one unit, so classifiers see them as they are (profile corrected)
    REFERENCE_ON_COUNTS = False  # True: cz-benchmarks trains classifiers on raw counts, and so does profile reference
    CZBENCHMARKS = ""        # what cz-benchmarks calls such models, where it knows them
    BY_CELL = None           # {param: value}: each cell is embedded by itself where the params have these values ({}: always)

    def embed(cells, weights, *, device, seed, **options):
        '''Return Embedded: one float32 row per cell, with the ids of the cells that they belong to.'''

One that takes species that it was not trained on, by files that are made for each, has the option `species_files`,
{organism: folder}, and

    def build_species(weights, species, folder, *, proteins, genes, **options):
        '''Write the files of a species into a folder and return in a sentence what they hold.'''

Its keywords without defaults are what the files are made of, the keys below `new_species` of the model's entry; those with
defaults are taken from the entry's `params`.

`cells` is a `Split` (a list of them where SCOPE is "dataset"), `weights` the file or folder of the checkpoint (None where
there is none), `options` the `params` of the entry in config/models.yaml. The plan reads the constants from the file without
running it, before any environment exists, so they are plain values.

Families of foundation models share the options `min_matched_genes`, the smallest fraction of genes that the model must know,
and `precision` and `tokens_per_batch` of `inference.run.embed_split`. An adapter raises CellgaugeError where a file is missing,
damaged or of another model, an option is out of range, a species is unknown, or too few genes are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cellgauge import models
from cellgauge.core.errors import CellgaugeError
from cellgauge.core.plugins import Source, check_name, load_module, module_names
from cellgauge.data.sets import name_of
from cellgauge.inference.adapter_job import Stopwatch, Traits, check_options, seed_everything, versions

if TYPE_CHECKING:
    import numpy as np


class NotApplicable(CellgaugeError):
    """These cells cannot be embedded by this model: a fact about the data, written into the embedding, not a crash."""


@dataclass(frozen=True)
class Embedded:
    """What an adapter returns.

    Attributes:
        matrix: shape (n_cells, n_dims); NaN in the whole row of a cell that the model cannot embed.
        cells: the ids of the rows, shape (n_cells,).
        facts: what else is worth knowing, such as matched_genes, revision, gpu_seconds (str, int, float or bool). Numbers
            of cells are called `cells_of_...`: they add up where a split is embedded in parts (`inference.shards`).
    """

    matrix: np.ndarray
    cells: Sequence[str] | np.ndarray
    facts: Mapping[str, Any] = field(default_factory=dict)


def adapter_names() -> tuple[str, ...]:
    """Return the names of all adapters that embed cells."""
    return module_names(models)


def load_adapter(name: str) -> ModuleType:
    """Return the module of an adapter; raise CellgaugeError naming the nearest one."""
    return load_module(models, name, "adapter")


@cache  # the grid asks for every cell
def traits(name: str) -> Traits:
    """Return what an adapter says of itself; its module is read and not imported."""
    check_name(models, name, "adapter")
    module = Source(f"{models.__name__}.{name}")
    keywords = module.parameters("build_species") if "build_species" in module.functions else {}
    sources = tuple(name for name, default in keywords.items() if default is None)
    options = tuple(name for name in keywords if name not in sources)
    return Traits.read(module, species_sources=sources, species_options=options)


def embed_files(
    adapter: str,
    split_paths: Sequence[str | Path],
    output: str | Path,
    *,
    weights: str | Path | None = None,
    model: str = "",
    split_set: str = "",
    options: Mapping[str, Any] | None = None,
    shard: tuple[int, int] | None = None,
) -> None:
    """Embed the cells of one or several splits and write the embedding file.

    Args:
        split_paths: one split, or for an adapter of scope "dataset" the splits to be embedded together.
        model: the catalogue's name of the model; by default the adapter's.
        split_set: the name of the set that splits embedded together make; by default one made of theirs.
        options: `seed` (default 42), `device` (default "auto"), `shared_space`, and the adapter's own.
        shard: number, from 1, and number of all shards: only these cells of the split are embedded, see `inference.windows`.

    Raises:
        CellgaugeError: unknown adapter or option, shards of an adapter that embeds cells together, or what the adapter or
            the contract finds wrong.
    """
    import numpy as np

    from cellgauge.core.gpu import pick_device
    from cellgauge.files.embedding import write_embedding
    from cellgauge.files.split import Split
    from cellgauge.inference.windows import rows_of_shard

    module, about = load_adapter(adapter), traits(adapter)
    settings = dict(options or {})
    seed, device = int(settings.pop("seed", 42)), settings.pop("device", "auto")
    shared_space = bool(settings.pop("shared_space", about.shared_space))
    check_options(adapter, module.embed, settings)
    splits = [Split.open(path) for path in split_paths]
    if about.scope == "split" and len(splits) != 1:
        raise CellgaugeError(f"adapter '{adapter}' embeds one split at a time, {len(splits)} were given")
    datasets = {split.dataset for split in splits}
    if len(datasets) != 1:
        raise CellgaugeError(f"the splits must be of one dataset, not of {', '.join(sorted(datasets))}")
    if shard and not about.embeds_by_cell(settings):
        raise CellgaugeError(
            f"adapter '{adapter}' embeds the cells of a split together (with these options): no shards"
        )
    if shard:
        splits = [split.part(rows_of_shard(len(split.cells), *shard)) for split in splits]

    seed_everything(seed)
    device = pick_device(device) if about.needs_device else "cpu"
    cells = splits if about.scope == "dataset" else splits[0]
    clock = Stopwatch()
    try:
        embedded = module.embed(cells, Path(weights) if weights else None, device=device, seed=seed, **settings)
    except NotApplicable as reason:
        ids = [cell for split in splits for cell in split.cells]
        embedded = Embedded(np.full((len(ids), 1), np.nan), ids, {"not_applicable": str(reason)})
    names = [split.name for split in splits]
    provenance = {
        "model": model or adapter,
        "adapter": adapter,
        "dataset": splits[0].dataset,
        "split": (split_set or name_of(names)) if about.scope == "dataset" else names[0],
        "splits": names,
        "organism": "+".join(dict.fromkeys(split.organism for split in splits)),
        "params": settings,
        "seed": seed,
        "device": device,
        "shared_space": shared_space,
        "fitted_on_split": about.fitted_on_split,
        "reference_on_counts": about.reference_on_counts,
        "common_units": about.common_units,
        "versions": versions(about.packages),
        **clock.read(),
        **embedded.facts,
    }
    write_embedding(output, embedded.matrix, embedded.cells, splits, provenance)


def build_species_files(
    adapter: str, species: str, output: str | Path, *, weights: str | Path, options: Mapping[str, Any]
) -> str:
    """Make the files by which a model takes a species that it was not trained on; return in a sentence what they hold.

    Args:
        species: the organism, by any of its names.
        output: the folder of the files.
        weights: the folder of the model's checkpoint.
        options: the paths of what the files are made of, and the adapter's own options.
    """
    from cellgauge.data.organisms import organism

    sources = traits(adapter).species_sources
    if not sources:
        raise CellgaugeError(f"adapter '{adapter}' does not support additional species")
    module = load_adapter(adapter)
    check_options(adapter, module.build_species, options)
    arguments = {name: Path(value) if name in sources else value for name, value in options.items()}
    return module.build_species(Path(weights), organism(species), Path(output), **arguments)
