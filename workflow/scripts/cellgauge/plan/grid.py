"""The benchmark's grid: which (task, model, dataset, split) cells exist, and which do not apply and why.

It is known from the configuration alone, before anything is downloaded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cellgauge.data.organisms import organism
from cellgauge.plan import paths
from cellgauge.plan.run import Run
from cellgauge.tasks.traits import task_traits


@dataclass(frozen=True)
class Cell:
    """One cell of the grid: a score file that the run makes. `split` is the name of a set where a task spans splits."""

    task: str
    model: str
    dataset: str
    split: str

    @property
    def path(self) -> str:
        return paths.SCORE.format(**vars(self))


@dataclass(frozen=True)
class Skipped(Cell):
    """A part of the grid that does not apply: never a job, but a row of the tables with its reason."""

    reason: str


class Grid:
    """The cells of a run, and what of it does not apply.

    Attributes:
        cells: what the run scores.
        skipped: what does not apply, with reasons.
        parts: (model, dataset, split) of everything that the run embeds or predicts, each once.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.run = run = Run(config)
        self.cells: list[Cell] = []
        self.skipped: list[Skipped] = []
        for dataset, splits in run.datasets.items():
            for task in run.tasks:
                parts = run.sets[dataset] if spans(task) else {split: (split,) for split in splits}
                for model in run.models:
                    if self._is_for_others(task, model, dataset):
                        continue
                    for part, members in parts.items():
                        if reason := self._why_not(task, model, dataset, members):
                            self.skipped.append(Skipped(task, model, dataset, part, reason))
                        else:
                            self.cells.append(Cell(task, model, dataset, part))
        in_use = ((c.model, c.dataset, split) for c in self.cells for split in run.splits_of(c.dataset, c.split))
        self.parts: list[tuple[str, str, str]] = list(dict.fromkeys(in_use))

    def _is_for_others(self, task: str, model: str, dataset: str) -> bool:
        """Return whether the run has other tasks, or other models, for this kind of data: nobody expects a row then."""
        run, kind = self.run, self.run.modality(dataset)
        if task_traits(task).modality != kind:
            return any(task_traits(other).modality == kind for other in run.tasks)
        return run.traits(model).modality != kind and any(run.traits(other).modality == kind for other in run.models)

    def _why_not(self, task: str, model: str, dataset: str, splits: Sequence[str]) -> str:
        """Return why a model cannot be scored on a task for one split or the splits of a set, "" if it can."""
        entry, traits = self.run.dataset(dataset), self.run.traits(model)
        offered = entry.get("tasks")
        if entry["modality"] != task_traits(task).modality:
            return f"the task needs {task_traits(task).modality} data, the dataset has {entry['modality']} data"
        if entry["modality"] != traits.modality:
            return f"the model needs {traits.modality} data, the dataset has {entry['modality']} data"
        if offered is not None and task not in offered:
            return f"the dataset is not for this task (its entry lists {', '.join(offered)})"
        if spans(task):
            if reason := self._why_not_compared(task, model, dataset, splits):
                return reason
        elif traits.scope == "dataset":
            return "the model embeds the splits of a set together, so only tasks across splits score it"
        if traits.needs_ensembl and "ensembl" not in entry.get("columns", {}):
            return "the model knows genes by Ensembl ids, but the dataset has no column of them (`columns.ensembl`)"
        if traits.scope == "dataset" and "orthologues" not in entry:
            return "the model joins species on one-to-one orthologues, but the dataset has no table of them"
        for split in splits:
            reason, species = self.why_not_split(model, dataset, split), self.run.source(dataset, split).organism
            if not reason and traits.scope == "dataset" and not self.run.orthologue_tables(dataset, species):
                joins = "the model joins species on one-to-one orthologues"
                reason = f"{joins}, but no table of the dataset has a column of {species}"
            if reason:
                return f"{split}: {reason}" if spans(task) else reason
        return ""

    def _why_not_compared(self, task: str, model: str, dataset: str, splits: Sequence[str]) -> str:
        """Return why a model's embeddings of some splits cannot be compared with each other, "" if they can."""
        species = dict.fromkeys(self.run.source(dataset, split).organism for split in splits)
        entry = self.run.model(model)
        if len(species) < 2 and task_traits(task).compares == "organism":
            return f"the task compares species, but the selected splits have only {', '.join(species)}"
        if entry.get("shared_space", self.run.traits(model).shared_space):
            return ""
        if "path" in entry and "shared_space" not in entry:
            remedy = f"if so, set `shared_space: true` in models.{model.partition('@')[0]}"
            return f"it is not known whether one model made the embeddings of all species; {remedy}"
        return "the model embeds each split separately, so distances between species are undefined"

    def why_not_split(self, model: str, dataset: str, split: str) -> str:
        """Return why a model does not take a split, whatever the task, "" if it does."""
        entry = self.run.model(model)
        licence = entry.get("needs_acceptance")
        if licence and licence not in self.run.options.get("accept_licences", ()):
            return f"the licence {licence} must be accepted: read it ({entry.get('licence')}), then add it to accept_licences"
        organisms = entry.get("organisms", "any")
        species = self.run.source(dataset, split).organism
        if organisms != "any":
            names = {organism(name).name for name in organisms}
            if species not in {*names, *self.run.added_species(model)}:
                return f"the model does not support {species} (supported: {', '.join(organisms)})"
        covered = entry.get("splits")
        if covered is not None and not {dataset, f"{dataset}/{split}"} & set(covered):
            is_tuned = self.run.traits(model).modality == "perturbation"
            return (
                f"the model is only for {', '.join(covered)}"
                if is_tuned
                else "the model has no embedding of this split"
            )
        return ""


def spans(task: str) -> bool:
    """Return whether a task spans the splits of a set."""
    return task_traits(task).scope == "dataset"
