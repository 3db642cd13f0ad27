"""What models need beside the cells: checkpoints, embeddings that others computed, the files of species that users add."""

from collections.abc import Iterable, Mapping
from functools import cached_property

from cellgauge.data.organisms import organism
from cellgauge.plan import paths
from cellgauge.plan.paths import is_remote, local
from cellgauge.plan.run import Run


class Weights:
    """The files of the models of a run: their URLs, and where each lies on this machine."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def checkpoint(self, model: str, species: Iterable[str]) -> dict[str, str]:
        """Return the URL of each file of a model's checkpoint by the path that it is kept under.

        Models with one `weights_folder` share their files; those of a species are there for its cells alone.
        """
        entry = self._run.model(model)
        files = dict(entry["weights"]) if isinstance(entry.get("weights"), Mapping) else {}
        for name, more in entry.get("species_weights", {}).items():
            if organism(name).name in species:
                files |= more
        return {f"{self._fetched_folder(model)}/{name}": url for name, url in files.items()}

    def folder(self, model: str) -> str:
        """Return the folder of a model's checkpoint: where its files are fetched to, or the user's own."""
        weights = self._run.model(model)["weights"]
        return local(weights, "") if isinstance(weights, str) else self._fetched_folder(model)

    def _fetched_folder(self, model: str) -> str:
        name = self._run.model(model).get("weights_folder") or model.partition("@")[0]
        return f"{paths.WEIGHTS}/{name}"

    def of_split(self, model: str, dataset: str, split: str) -> tuple[str, str]:
        """Return (URL or path, where it lies on this machine) of what a model's `path` names for a dataset and split."""
        pattern = self._run.model(model)["path"]
        url = pattern.replace("{dataset}", dataset).replace("{split}", split)
        return url, local(url, f"{paths.WEIGHTS}/{model}/{dataset}/{split}")

    def urls(self, model: str, dataset: str, split: str) -> list[str]:
        """Return the URLs of the checkpoint, and of the embedding, that a model needs for a split."""
        urls = list(self.checkpoint(model, self._run.species(dataset, split)).values())
        return [*urls, *([self.of_split(model, dataset, split)[0]] if "path" in self._run.model(model) else [])]

    @cached_property
    def remote(self) -> dict[str, str]:
        """The URL of every file of every checkpoint of the catalogue, and of the run's models with a `path`, by path."""
        run = self._run
        urls: dict[str, str] = {}
        for name, entry in run.entries["models"].items():
            urls |= self.checkpoint(name, [organism(species).name for species in entry.get("species_weights", {})])
            for species in run.added_species(name):
                sources = self.species_sources(name, species).values()
                urls |= {path: url for url, path in sources if is_remote(url)}
        for model in run.models:
            if "path" in run.model(model):
                pairs = [(dataset, split) for dataset, splits in run.datasets.items() for split in splits]
                files = (self.of_split(model, *pair) for pair in pairs)
                urls |= {path: url for url, path in files if is_remote(url)}
        return urls

    def added(self, model: str, dataset: str, name: str) -> list[str]:
        """Return the species of a split, or of a set, that are added to a model."""
        added = self._run.added_species(model)
        return [species for species in self._run.species(dataset, name) if species in added] if added else []

    def species_folder(self, model: str, species: str) -> str:
        """Return the folder of the files that are built for an added species."""
        return paths.SPECIES.format(model=model.partition("@")[0], species=species)

    def species_sources(self, model: str, species: str) -> dict[str, tuple[str, str]]:
        """Return (URL or path, where it lies on this machine) of what the files of an added species are made of."""
        folder = f"{self._fetched_folder(model)}/new_species/{species}"
        sources = self._run.added_species(model)[species]
        return {kind: (url, local(url, folder)) for kind, url in sources.items()}
