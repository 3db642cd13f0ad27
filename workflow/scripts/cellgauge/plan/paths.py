"""Every path of a run, spelled once: the patterns of the rules, and where an object of the catalogue lies on this machine.

Braces hold the wildcards of a rule. A path of one job is `SCORE.format(task=..., model=..., dataset=..., split=...)`.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePath
from urllib.parse import unquote

DATASETS = "resources/datasets"
OBJECT = f"{DATASETS}/{{dataset}}/{{object}}"
WEIGHTS = "resources/weights"
WEIGHTS_FILE = f"{WEIGHTS}/{{file}}"
SPECIES = "resources/species/{model}/{species}"
PUBLISHED_FILES = "resources/published"
PUBLISHED_OBJECT = f"{PUBLISHED_FILES}/{{source}}/{{object}}"
LEDGER = "resources/checksums.yaml"
BENCHMARKS = "benchmarks"

SPLIT = "results/splits/{dataset}/{split}.h5ad"
EMBEDDING = "results/embeddings/{model}/{dataset}/{split}.h5ad"
SHARD = "results/shards/{model}/{dataset}/{split}/{number}of{n_shards}.h5ad"
LAYOUT = "results/layouts/{model}/{dataset}/{split}.tsv"
PREDICTION = "results/predictions/{model}/{dataset}/{split}.h5ad"
TRUTH = "results/truths/{dataset}/{split}.h5ad"
NEIGHBORS = "results/neighbors/{task}/{model}/{dataset}/{split}.npz"
SCORE = "results/scores/{task}/{model}/{dataset}/{split}.tsv"
PUBLISHED = "results/published/{source}.tsv"
RESULTS = "results"

REMOTE = ("s3", "https", "http", "hf", "pypi")
"""The kinds of URL that are fetched."""


@dataclass(frozen=True)
class Outputs:
    """The files that tell of one run, in the folder that `results` of the configuration names.

    What jobs compute (splits, embeddings, scores) lies in results/, shared by all runs of a working folder (docs/adr/0039).
    """

    folder: str = "results"

    manifest = property(lambda self: f"{self.folder}/manifest.json")
    provenance = property(lambda self: f"{self.folder}/provenance.json")
    tables = property(lambda self: f"{self.folder}/tables")
    report = property(lambda self: f"{self.folder}/report.html")
    czbenchmarks = property(lambda self: f"{self.folder}/czbenchmarks.json")
    figures = property(lambda self: f"{self.folder}/figures")


def log(rule: str, result: str) -> str:
    """Return the log of the job of a rule that makes `result`: logs/RULE/ and the wildcards of the result's path."""
    return f"logs/{rule}/{_wildcards(rule, result)}.log"


def benchmark(rule: str, result: str) -> str:
    """Return where Snakemake writes the time and memory of the job of a rule that makes `result`."""
    return f"{BENCHMARKS}/{rule}/{_wildcards(rule, result)}.tsv"


def _wildcards(rule: str, result: str) -> PurePath:
    """Return the part of a path that the wildcards of its rule fill, without the ending that the rule adds."""
    path = PurePath(*PurePath(result).parts[2:])
    return path if rule.startswith("download") else path.with_suffix("")


def is_remote(url: str) -> bool:
    """Return whether a URL must be fetched (a path, or file://, is read where it lies)."""
    scheme, mark, _ = url.partition("://")
    return bool(mark) and scheme in REMOTE


def file_name(url: str) -> str:
    """Return the name under which an object is kept: its last component, the member's where it lies in an archive."""
    of_web = "!" not in url and url.startswith(("https://", "http://"))
    path = re.split("[?#]", url.partition("://")[2])[0].partition("/")[2]
    return (path if of_web else url.rpartition("!")[2]).rpartition("/")[2]


class UsersFile(str):
    """The path of a file or folder of the user's: it is read where it lies, and no storage of Snakemake's holds it."""


def local(url: str, folder: str) -> str:
    """Return where an object lies on this machine: in `folder` when it is fetched, else where the user keeps it (UsersFile).

    A file of the user's may be written as file:// or from the home folder ("~").
    """
    if is_remote(url):
        return f"{folder}/{file_name(url)}"
    path = unquote(url.removeprefix("file://")) if url.startswith("file://") else url
    return UsersFile(Path(path).expanduser() if path.startswith("~") else path)
