"""What all tests share: settings, and real cells, fetched once."""

import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from effort import examples
from filelock import FileLock
from hypothesis import settings

from cellgauge.core.threads import default_to_one_thread
from cellgauge.fetch import FetchError, fetch

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "test-data"

# How long an example takes says more of the machine than of it.
settings.register_profile("cellgauge", deadline=None, max_examples=examples(25))
settings.load_profile("cellgauge")

# Of what tests start and import: tests run side by side, so a thread each is enough, and no process compiles our code anew.
default_to_one_thread()
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


class Baron(NamedTuple):
    """Paths of the Baron pancreas cells as published: h5ad, raw counts, obs["cell_ontology_class"], obs["donor"]."""

    human: Path
    mouse: Path


SKIPPED = {  # what the reason of a skip holds -> what was skipped, and how to have it run
    ".venv-scib": "task scib: `make setup-scib`",
    "no SLURM": "SLURM: as root on Debian, `apt-get install slurmctld slurmd slurm-client munge`",
    "CELLGAUGE_RELIABILITY": "SLURM's time limit: set CELLGAUGE_RELIABILITY=1",
    "no GPU": "CUDA: run it where PyTorch finds a GPU",
    "is no part of the repository": "sample data: put the files where the reason says",
    "apt-get install chromium": "the report in a browser: install Chromium",
    "pypi://came": "real cells: reach the package index, or set PIP_INDEX_URL to a mirror",
    "CELLGAUGE_ANCHOR_PYTHON": "cz-benchmarks: name a Python that has it",
    "CELLGAUGE_CELL_EVAL_PYTHON": "cell-eval: name a Python that has it",
    "pip download": "a slice of the whole benchmark: reach the package index, or set PIP_INDEX_URL to a mirror",
    "-m pip install": "cz-benchmarks, cell-eval: reach the package index, or set PIP_INDEX_URL to a mirror",
}

SLOW = pytest.StashKey[int]()
"""How many slow tests `-m "not slow"` left out, as each process counts them."""

LONGEST_FIRST = (  # groups of tests that take half a minute and more; CONTRIBUTING.md names the slowest tests
    "workflow",
    "anchor",
    "test_slurm",
    "test_gpu_check",
    "scib",
    "test_full_grid",
    "test_weights",
    "test_report_page",
    "test_clustering",
    "cell_eval",
    "test_deployment",
    "test_resume",
    "documentation",
    "test_scgenept_workflow",
    "test_calibration",
    "test_model_memory",
)


def pytest_addoption(parser):
    parser.addoption("--reliability", type=Path, metavar="MD", help="write the rows of marked tests into this table")


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads groups in this hook too
def pytest_collection_modifyitems(items):
    """Keep the tests of a file in one process, the longest first; let the mark of a test travel with its report.

    What a module's fixtures make, and what numba compiles, is then made once; so is `finished_project`, which several files
    read. A process that begins a long group last would leave the others idle.
    """
    for item in items:
        if mark := item.get_closest_marker("reliability"):
            item.user_properties.append(("reliability", mark.kwargs))
        if not item.get_closest_marker("xdist_group"):
            group = "workflow" if "finished_project" in item.fixturenames else item.path.stem
            item.add_marker(pytest.mark.xdist_group(group))
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.get_closest_marker("xdist_group").args[0], len(places)))


def pytest_deselected(items):
    """Count the slow tests that `make test` leaves out; a process of pytest-xdist sends the count home when it ends."""
    config = items[0].config
    if "slow" in config.option.markexpr:
        n_slow = sum(item.get_closest_marker("slow") is not None for item in items)
        config.stash[SLOW] = config.stash.get(SLOW, 0) + n_slow
        if hasattr(config, "workeroutput"):
            config.workeroutput["slow"] = config.stash[SLOW]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Take over what a process of pytest-xdist counted: each of them collects all tests."""
    stash, n_slow = node.config.stash, getattr(node, "workeroutput", {}).get("slow", 0)
    stash[SLOW] = max(stash.get(SLOW, 0), n_slow)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter, config):
    """Say in one line what was not run and how to have it run, below the single reasons; write docs/reliability.md."""
    yield
    if path := config.getoption("--reliability"):
        import reliability

        stats = terminalreporter.stats
        reliability.write(path, {kind: stats.get(kind, []) for kind in ("passed", "skipped", "failed", "error")})
    reasons = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", ())]
    counts = Counter(
        next((how for part, how in SKIPPED.items() if part in why), "other kinds: see the reasons above")
        for why in reasons
    )
    counts["the slow tests: `make test-all`"] = config.stash.get(SLOW, 0)
    if counts := +counts:
        terminalreporter.write_line(f"Not run: {'; '.join(f'{n} of {how}' for how, n in counts.most_common())}.")


@pytest.fixture(scope="session")
def unavailable() -> Callable[[object], None]:
    """Return a function that skips a test, saying why, or fails it where nothing may be skipped.

    That is where CELLGAUGE_REQUIRE_ANCHOR=1, as CI sets it.
    """

    def stop(reason: object) -> None:
        if os.environ.get("CELLGAUGE_REQUIRE_ANCHOR") == "1":
            pytest.fail(f"CELLGAUGE_REQUIRE_ANCHOR=1, but: {reason}")
        pytest.skip(str(reason))

    return stop


@pytest.fixture(scope="session")
def baron(unavailable) -> Baron:
    """Fetch the Baron pancreas cells from the package index, once; skip without one."""
    paths = {species: CACHE / f"raw-Baron_{species}.h5ad" for species in Baron._fields}
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / "fetching.lock"):  # tests may run in several processes
        for path in paths.values():
            try:
                fetch(
                    f"pypi://came==0.1.13/came/sample_data.zip!{path.name}",
                    path,
                    ledger=CACHE / "checksums.yaml",
                    archives=CACHE / "archives",
                )
            except FetchError as error:
                unavailable(error)
    return Baron(**paths)


@pytest.fixture(scope="session")
def published_record(unavailable) -> Path:
    """Fetch the published record of cz-benchmarks from the package index, once; skip without one."""
    path = CACHE / "vcp-cli-results.json"
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / "fetching.lock"):
        try:
            fetch(
                "pypi://vcp-cli==0.54.1/vcp/commands/benchmarks/stub_data/results.json",
                path,
                ledger=CACHE / "checksums.yaml",
                archives=CACHE / "archives",
            )
        except FetchError as error:
            unavailable(error)
    return path


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    """Return the folder of the demo's tables, made up, with its exports and a model that failed. Do not write there.

    It is made once for all processes of pytest-xdist.
    """
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with FileLock(base / "demo.lock"):
        if not (base / "demo").exists():
            import made_up

            from cellgauge.results.export import export

            tables = made_up.write_tables(base / "making", made_up.demo(), failed={"harmony": "out of memory"})
            export(tables, base / "making")
            (base / "making").rename(base / "demo")
    return base / "demo/results/tables"


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Return a function that gives the path of a data file beside the checkout; it skips where the file is not there."""

    def find(name: str) -> Path:
        path = ROOT.parent / "shared/data" / name
        if not path.is_file():
            pytest.skip(f"{path} is not there: it is no part of the repository")
        return path

    return find
