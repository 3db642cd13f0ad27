"""What a run will cost, job by job, before it runs; and afterwards how far that was from what it did cost.

Sizes come from the files that are there, then from what is known of the catalogue's splits, then from stand-ins, and
stand-ins are said. Jobs cost what `cellgauge.costs` predicts; those of a model that has embedded cells in this folder are
scaled by what these did cost. What nothing is known of is left out of the sums and listed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from cellgauge.costs import APPROXIMATELY, ON_COUNTS, Cost, Costs, Size, predict, read_benchmark, together
from cellgauge.grid import Cell, is_remote

if TYPE_CHECKING:
    from cellgauge.grid import Grid

RULES = ("split", "embed", "truth", "predict", "score")
"""The rules that write benchmark files, in the order in which they run; a score counts together with its neighbours."""
DIMS = ("n_components", "n_dims", "n_latent", "n_top_genes")
"""Params of models that say how many dimensions an embedding has; of several the first."""
HERE = "its jobs here"
EPOCHS, EPOCH_CELLS = 400, 20_000  # scvi-tools 1.4, get_max_epochs_heuristic


@dataclass(frozen=True)
class Job:
    """A job of a run.

    Attributes:
        rule: one of `RULES`.
        kind: the task, the model, or what kind of data it reads.
        name: the rest of its path, such as "clustering/uce_4l/baron_pancreas/human".
        predicted, measured: what it will cost, and did; None where nothing is known.
        source: where the prediction comes from: measured, scaled, or `HERE`.
        of: what that was measured on.
        lacking: why nothing could be predicted.
        beyond: the job is larger than all that were measured.
        gpus: how many the job asks for.
    """

    rule: str
    kind: str
    name: str
    predicted: Cost | None
    measured: Cost | None
    source: str = "measured"
    of: str = ""
    lacking: str = ""
    beyond: bool = False
    gpus: int = 0


@dataclass(frozen=True)
class StandIns:
    """What is taken for sizes that nothing tells before the split, or the embedding, is made; 0 leaves them unknown."""

    cells: int = 0
    genes: int = 0
    conditions: int = 0
    dims: int = 0


class Sizes:
    """How large splits and embeddings are.

    Args:
        folder: where the run's results, benchmarks and config lie.
        known: "dataset/split" -> cells, genes, conditions, of splits that have not been made.
    """

    def __init__(self, grid: Grid, folder: Path, stand_ins: StandIns, known: Mapping[str, Mapping[str, int]]) -> None:
        self._grid, self._folder, self._stand_ins, self._known = grid, folder, stand_ins, known
        self.supposed: dict[str, set[str]] = {}  # what -> the splits that a stand-in was taken for

    def cells(self, dataset: str, splits: Sequence[str]) -> int:
        """Return the number of cells of some splits together, 0 where it is not known."""
        found = [self._of_split("cells", dataset, split, self._shape(_split(dataset, split))[0]) for split in splits]
        return sum(found) if all(found) else 0

    def genes(self, dataset: str, split: str) -> int:
        """Return the number of genes of a split, 0 where it is not known."""
        return self._of_split("genes", dataset, split, self._shape(_split(dataset, split))[1])

    def conditions(self, dataset: str, split: str) -> int:
        """Return the number of test conditions of a screen, 0 where it is not known."""
        return self._of_split("conditions", dataset, split, self._strata(_split(dataset, split)))

    def dims(self, path: str, params: Mapping[str, Any], usual: int) -> int:
        """Return the number of dimensions of an embedding; `usual` is the model's, 0 where that is not known."""
        said = next((int(params[name]) for name in DIMS if name in params), usual or self._stand_ins.dims)
        return self._shape(path)[1] or said

    def _of_split(self, what: str, dataset: str, split: str, read: int) -> int:
        found = read or self._known.get(f"{dataset}/{split}", {}).get(what, 0)
        if not found:
            self.supposed.setdefault(what, set()).add(f"{dataset}/{split}")
        return found or getattr(self._stand_ins, what)

    def _shape(self, path: str) -> tuple[int, int]:
        import h5py

        file = self._folder / path
        if not file.is_file():
            return 0, 0
        with h5py.File(file) as opened:
            matrix = opened["X"]
            shape = matrix.shape if isinstance(matrix, h5py.Dataset) else matrix.attrs["shape"]
            return int(shape[0]), int(shape[1])

    def _strata(self, path: str) -> int:
        import h5py

        file = self._folder / path
        if not file.is_file():
            return 0
        with h5py.File(file) as opened:
            return len(json.loads(opened["uns/strata"].asstr()[()])) if "uns/strata" in opened else 0


def jobs(grid: Grid, costs: Costs, sizes: Sizes, folder: Path) -> Iterator[Job]:
    """Yield every job of a run that writes a benchmark file, with what it costs, in the order of `RULES`."""
    plan = _Plan(grid, costs, sizes, folder)
    for dataset, splits in grid.datasets.items():
        yield from (plan.split(dataset, split) for split in splits)
    made: dict[str, dict[tuple[str, str, str], None]] = {"embeddings": {}, "predictions": {}}
    for path in grid.embeddings():
        _, kind, model, dataset, file = path.split("/")
        made[kind][model, dataset, file.removesuffix(".h5ad")] = None
    yield from plan.embeddings(list(made["embeddings"]))
    for dataset, split in dict.fromkeys(key[1:] for key in made["predictions"]):
        yield plan.truth(dataset, split)
    yield from (plan.prediction(*key) for key in made["predictions"])
    yield from (plan.score(cell) for cell in grid.cells)


class _Plan:
    def __init__(self, grid: Grid, costs: Costs, sizes: Sizes, folder: Path) -> None:
        self._grid, self._costs, self._sizes, self._folder = grid, costs, sizes, folder

    def split(self, dataset: str, split: str) -> Job:
        size = self._screen(dataset, split)
        return self._job("split", self._grid.modality(dataset), f"{dataset}/{split}", _split(dataset, split), size)

    def truth(self, dataset: str, split: str) -> Job:
        path = f"results/truths/{dataset}/{split}.h5ad"
        return self._job("truth", "perturbation", f"{dataset}/{split}", path, self._screen(dataset, split))

    def prediction(self, model: str, dataset: str, split: str) -> Job:
        path = f"results/predictions/{model}/{dataset}/{split}.h5ad"
        size = self._screen(dataset, split)
        return self._job("predict", model, f"{model}/{dataset}/{split}", path, size, self._gpus(model))

    def score(self, cell: Cell) -> Job:
        name = f"{cell.task}/{cell.model}/{cell.dataset}/{cell.split}"
        if self._grid.traits(cell.model).modality == "perturbation":
            return self._job("score", cell.task, name, cell.path, self._screen(cell.dataset, cell.split))
        splits, kind = self._splits(cell.dataset, cell.split), cell.task
        cells, columns = self._sizes.cells(cell.dataset, splits), self._dims(cell.model, self._grid.result_of(cell))
        params = self._grid.task_params(cell.task)
        if cell.task in self._grid.traits(cell.model).expression_tasks:
            kind, columns = cell.task + ON_COUNTS, self._sizes.genes(cell.dataset, splits[0])
        elif params.get("search") == "approximate" and cells > params["approximate_above"]:
            exact_all_the_same = "silhouette" in params.get("metrics", ())  # see cellgauge.tasks.clustering
            kind = cell.task + ("" if exact_all_the_same else APPROXIMATELY)
        job = self._job("score", kind, name, cell.path, Size(cells, columns), self._grid.search_gpus(cell))
        for path in self._grid.neighbours(cell):
            found = self._measured("neighbours", path)
            job = replace(job, measured=together(found, job.measured) if found and job.measured else None)
        return job

    def embeddings(self, made: Sequence[tuple[str, str, str]]) -> Iterator[Job]:
        found = [self._embedding(*key) for key in made]
        rates: dict[str, list[float]] = {}  # of CPU seconds, to those predicted or else to cells
        memories: dict[str, float] = {}
        for job, size, _ in found:
            if job.measured and size.cells:
                usual = job.predicted.cpu_seconds if job.predicted else size.cells
                rates.setdefault(job.kind, []).append(job.measured.cpu_seconds / usual)
                memories[job.kind] = max(job.measured.memory_mb, memories.get(job.kind, 0))
        for job, size, disk_mb in found:
            if job.predicted and (job.measured or job.kind not in rates):
                yield replace(job, predicted=job.predicted._replace(disk_mb=disk_mb))
            elif job.kind in rates and size.cells:
                usual = job.predicted or Cost(size.cells, memories[job.kind])
                cost = Cost(usual.cpu_seconds * median(rates[job.kind]), usual.memory_mb, disk_mb)
                yield replace(job, predicted=cost, source=HERE, of="", lacking="")
            else:
                yield job

    def _embedding(self, model: str, dataset: str, split: str) -> tuple[Job, Size, float]:
        splits = self._splits(dataset, split)
        path = f"results/embeddings/{model}/{dataset}/{split}.h5ad"
        cells, params = self._sizes.cells(dataset, splits), self._grid.params(model)
        epochs = int(params.get("max_epochs") or min(EPOCHS, round(EPOCHS * EPOCH_CELLS / cells))) if cells else 0
        size = Size(cells, self._sizes.genes(dataset, splits[0]), epochs=epochs)
        job = self._job("embed", model, f"{model}/{dataset}/{split}", path, size, self._gpus(model))
        return job, size, 4 * cells * self._dims(model, path) / 2**20  # float32

    def _job(self, rule: str, kind: str, name: str, path: str, size: Size, gpus: int = 0) -> Job:
        """Return a job with what it costs; `path` is what it makes, from which its benchmark file has its name."""
        measured = self._measured(rule, path)
        entry, lacking = self._entry(rule, kind), ""
        if not entry:
            command = "say what one costs in config/model_costs.yaml" if rule in ("embed", "predict") else ""
            lacking = "no cost was measured" + (f": {command}, or run one job" if command else "")
        elif not size.cells:
            lacking = "the number of cells is not known before the split is made: say it with --cells"
        elif not size.columns:
            lacking = "the number of genes is not known before the split is made: say it with --genes"
        most = Size(*entry["up_to"]) if entry and "up_to" in entry else None
        return Job(
            rule,
            kind,
            name,
            None if lacking else predict(entry, size),
            measured,
            entry.get("source", "measured"),
            entry.get("of", ""),
            lacking,
            most is not None and any(n > limit > 0 for n, limit in zip(size, most, strict=False)),
            gpus,
        )

    def _measured(self, rule: str, path: str) -> Cost | None:
        tail = path.split("/", 2)[2].rpartition(".")[0]
        return read_benchmark(self._folder / "benchmarks" / rule / f"{tail}.tsv", self._folder / path)

    def _entry(self, rule: str, kind: str) -> Mapping[str, Any]:
        """Return the costs of a task, or of a model: under its name, else under that of its adapter."""
        known = self._costs.get(rule, {})
        if rule not in ("embed", "predict"):
            return known.get(kind, {})
        name = kind.partition("@")[0]
        return known.get(name) or known.get(self._grid.adapter(Cell("", kind, "", ""))) or {}

    def _dims(self, model: str, path: str) -> int:
        return self._sizes.dims(path, self._grid.params(model), self._entry("embed", model).get("dims", 0))

    def _screen(self, dataset: str, split: str) -> Size:
        conditions = self._sizes.conditions(dataset, split) if self._grid.modality(dataset) == "perturbation" else 0
        return Size(self._sizes.cells(dataset, [split]), self._sizes.genes(dataset, split), conditions)

    def _gpus(self, model: str) -> int:
        return self._grid.gpus(Cell("", model, "", ""))

    def _splits(self, dataset: str, split: str) -> list[str]:
        return self._grid.splits_of(dataset, split)


def _split(dataset: str, split: str) -> str:
    return f"results/splits/{dataset}/{split}.h5ad"


def downloads(grid: Grid, ledger: Mapping[str, Mapping[str, Any]], costs: Costs) -> Iterator[str]:
    """Yield how many bytes the run fetches: by the ledger of checksums, and for checkpoints by what is known of them."""
    urls = {url for dataset in grid.datasets for url in grid.objects(dataset).values() if is_remote(url)}
    known = [int(ledger[url]["size"]) for url in urls if "size" in ledger.get(url, {})]
    unknown = len(urls) - len(known)
    more = f", and {unknown} that were never fetched and whose size is not known" if unknown else ""
    yield f"downloads of datasets: {len(known)} objects of {sum(known) / 1e9:.2f} GB{more}"
    stated = {**costs.get("embed", {}), **costs.get("predict", {})}
    models = dict.fromkeys(cell.model.partition("@")[0] for cell in grid.cells if grid.has_checkpoint(cell.model))
    if models:
        sizes = {model: stated[model]["checkpoint_gb"] for model in models if "checkpoint_gb" in stated.get(model, {})}
        lacking = [model for model in models if model not in sizes]
        tail = f"; not known: {', '.join(lacking)}" if lacking else ""
        yield (
            f"downloads of checkpoints: about {sum(sizes.values()):.1f} GB for {len(sizes)} of {len(models)} models,"
            f" by the number of their parameters{tail}"
        )


# --- the report ------------------------------------------------------------------------------------------------------


def summary(found: Sequence[Job], sizes: Sizes, stand_ins: StandIns) -> Iterator[str]:
    """Yield the lines of the report: what each kind of job costs, in all, and what these numbers do not know."""
    yield f"{'':40}{'jobs':>6}{'unknown':>8}{'CPU h':>10}{'longest min':>12}{'peak MB':>9}{'writes GB':>10}  known from"
    for rule, kind in _kinds(found):
        yield _line(f"{rule} {kind}", [job for job in found if (job.rule, job.kind) == (rule, kind)])
    yield _line("all", found)
    yield "Not in these numbers: downloads, pictures of embeddings, tables and report."
    for what, splits in sizes.supposed.items():
        taken = getattr(stand_ins, what)
        if taken:
            yield (
                f"Supposed: {taken:,} {what} for each of {_n(splits, 'split')} not made yet"
                f" ({sorted(splits)[0]} the first); --{what} says another number."
            )
    lacking: dict[tuple[str, str], list[Job]] = {}
    for job in found:
        if job.lacking:
            lacking.setdefault((job.lacking, job.rule), []).append(job)
    for (reason, rule), concerned in lacking.items():
        kinds = ", ".join(dict.fromkeys(job.kind for job in concerned))
        yield f"NOT KNOWN, and in no sum: {_n(concerned, f'{rule} job')} ({kinds}): {reason}."
    told: dict[tuple[str, str], dict[str, None]] = {}
    for job in found:
        if job.of and job.predicted:
            told.setdefault((job.source, job.of), {})[job.kind] = None
    for (source, of), kinds in sorted(told.items()):
        how = "Measured on" if source == "measured" else "Scaled, not measured, from"
        yield f"{how} {of}: {', '.join(kinds)}."
    beyond = [job for job in found if job.beyond and job.predicted]
    if beyond:
        first = max(beyond, key=lambda job: job.predicted.cpu_seconds)
        yield (
            f"Larger than anything that was measured: {_n(beyond, 'job')}, {first.rule} {first.name} the longest;"
            " there the fit tells the order of magnitude."
        )
    on_gpu = [job for job in found if job.gpus]
    if on_gpu:
        yield (
            f"GPU hours are not known: {_n(on_gpu, 'job')} ask for a GPU, on which nothing was measured; their CPU hours"
            " are those of one CPU thread."
        )


def over_limits(found: Iterable[Job], memory_mb: float, minutes: float = math.inf) -> Iterator[str]:
    """Yield a warning for each limit that some jobs are predicted to pass; minutes are of CPU, of scoring jobs alone."""
    known = [job for job in found if job.predicted]
    heavy = [job for job in known if job.predicted.memory_mb > memory_mb]
    if heavy:
        worst = max(heavy, key=lambda job: job.predicted.memory_mb)
        yield (
            f"WARNING: {_n(heavy, 'job')} need more than {memory_mb:,.0f} MB of memory,"
            f" most of all {worst.rule} {worst.name}: {worst.predicted.memory_mb:,.0f} MB."
        )
    long = [job for job in known if job.rule == "score" and job.predicted.cpu_seconds > 60 * minutes]
    if long:
        worst = max(long, key=lambda job: job.predicted.cpu_seconds)
        yield (
            f"WARNING: {_n(long, 'scoring job')} take more than {minutes:g} minutes of one core, the longest {worst.name}:"
            f" {worst.predicted.cpu_seconds / 60:.0f} minutes."
        )


def comparison(found: Sequence[Job]) -> Iterator[str]:
    """Yield what the jobs that have run did cost beside what was predicted of them; nothing where none has run."""
    ran = [job for job in found if job.measured]
    both = [job for job in ran if job.predicted and job.source != HERE]
    if not ran:
        return
    yield ""
    yield f"{_n(ran, 'job')} of this run are done. Measured / predicted of each: the median, the lowest and the highest."
    if both:
        yield f"{'':40}{'jobs':>6}{'CPU s':>10}{'predicted':>10}   {'CPU of each':18}   {'memory of each':18}   disk of each"
        for rule, kind in [*_kinds(both), *(("all", rule) for rule, _ in _kinds(both, whole=True))]:
            chosen = [job for job in both if (rule, kind) in ((job.rule, job.kind), ("all", job.rule))]
            truth = sum(job.measured.cpu_seconds for job in chosen)
            said = sum(job.predicted.cpu_seconds for job in chosen)
            spans = "   ".join(f"{_span(chosen, quantity):18}" for quantity in Cost._fields)
            yield f"{f'{rule} {kind}':40}{len(chosen):>6}{truth:>10.1f}{said:>10.1f}   {spans}".rstrip()
    blind = [job for job in ran if job not in both]
    if blind:
        kinds = ", ".join(dict.fromkeys(f"{job.rule} {job.kind}" for job in blind))
        seconds = sum(job.measured.cpu_seconds for job in blind)
        yield f"{_n(blind, 'job')} ran of which nothing was predicted: {seconds:.0f} CPU s ({kinds})."


def _span(found: Iterable[Job], quantity: str) -> str:
    """Return the median, the lowest and the highest of measured / predicted."""
    pairs = ((getattr(job.measured, quantity), getattr(job.predicted, quantity)) for job in found)
    ratios = sorted(truth / said for truth, said in pairs if said > 0 and not math.isnan(truth))
    return f"{median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})" if ratios else "-"


def _kinds(found: Iterable[Job], whole: bool = False) -> list[tuple[str, str]]:
    """Return the (rule, kind) of jobs in the order in which they run; `whole` takes a rule's kinds as one."""
    kinds = dict.fromkeys((job.rule, "" if whole else job.kind) for job in found)
    return sorted(kinds, key=lambda kind: RULES.index(kind[0]))


def _n(found: Collection[Any], what: str) -> str:
    return f"{len(found)} {what}{'s' if len(found) != 1 else ''}"


def _line(name: str, found: Sequence[Job]) -> str:
    known = [job.predicted for job in found if job.predicted]

    def number(quantity: str, of: Callable[[Iterable[float]], float], unit: float, digits: int) -> str:
        values = [value for value in (getattr(cost, quantity) for cost in known) if not math.isnan(value)]
        return f"{of(values) / unit:.{digits}f}" if values else "?"

    unknown = len(found) - len(known)
    sources = ", ".join(dict.fromkeys(job.source for job in found if job.predicted)) if name != "all" else ""
    return (
        f"{name:40}{len(found):>6}{unknown or '':>8}{number('cpu_seconds', sum, 3600, 2):>10}"
        f"{number('cpu_seconds', max, 60, 1):>12}{number('memory_mb', max, 1, 0):>9}"
        f"{number('disk_mb', sum, 1e9 / 2**20, 2):>10}  {sources}"
    ).rstrip()
