"""What a task says of itself is read without running it, and is what its code says when it is run."""

import subprocess
import sys
from importlib import invalidate_caches
from inspect import signature
from textwrap import dedent

import pytest

from cellgauge import tasks
from cellgauge.core import plugins
from cellgauge.core.errors import CellgaugeError
from cellgauge.core.plugins import module_names
from cellgauge.plan.sources import SCRIPTS
from cellgauge.tasks import traits as task_traits
from cellgauge.tasks.run import load_task
from cellgauge.tasks.traits import PROFILES, TaskTraits

TASK = """
    import a_library_that_is_not_there

    ONE = "one"
    BOTH = (ONE, *("two", "three"))
    SCOPE: str = "split"
    NEEDS = ("label", "donor")

    def score(cells, *, profiles, seed, which=BOTH, share=-0.5, names=[ONE], table={"a": BOTH}, none=None):
        raise RuntimeError("it was run")
"""
SEARCH = """
    KEPT_FOR = {"which": ("one",)}

    def find(cells, *, seed, profiles, which):
        raise RuntimeError("it was run")
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write the files of a task of a user's own, and return what is read of it."""

    def write(task=TASK, search=None):
        folder = tmp_path / "mine"
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").touch()
        for name, text in (("scores", task), ("neighbors", search)):
            if text is not None:
                (folder / f"{name}.py").write_text(dedent(text))
        monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path)])
        invalidate_caches()
        plugins.module_names.cache_clear()
        return task_traits.task_traits.__wrapped__("mine")

    yield write
    monkeypatch.undo()
    sys.modules.pop("cellgauge.tasks.mine", None)
    plugins.module_names.cache_clear()


def test_a_task_is_read_without_being_run(written):
    assert written() == TaskTraits(
        scope="split",
        modality="expression",
        needs=("label", "donor"),
        profiles=PROFILES,
        params={
            "which": ["one", "two", "three"],
            "share": -0.5,
            "names": ["one"],
            "table": {"a": ("one", "two", "three")},
            "none": None,
        },
    )


def test_neighbors_are_kept_for_what_the_search_says(written):
    about = written(search=SEARCH)
    assert about.searched == ("profiles", "which")
    assert about.keeps_neighbors(about.params) and about.keeps_neighbors({"which": ["one"]})
    assert not about.keeps_neighbors({"which": ["two"]})
    assert written(search="def find(cells, *, seed): ...").searched == () and not TaskTraits("split").keeps_neighbors(
        {}
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"SCOPE: str": "SPAN"}, "scores.py: the constant SCOPE is missing"),
        ({"share=-0.5": "share"}, "scores.py: parameter 'share' of `score` has no default"),
        ({"share=-0.5": "share=max(1, 2)"}, "scores.py, line 9: the default of 'share' is not a plain value"),
        ({"share=-0.5": "share=UNKNOWN"}, "the default of 'share' is not a plain value"),
        ({"score(": "scores("}, "scores.py: the function `score` is missing"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(written, changes, words):
    text = TASK
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    with pytest.raises(CellgaugeError) as error:
        written(text)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_search_takes_parameters_of_its_task(written):
    with pytest.raises(CellgaugeError, match="`find` takes 'k', which is no parameter of the task"):
        written(search="def find(cells, *, seed, k): ...")


@pytest.mark.parametrize("task", module_names(tasks))
def test_what_is_read_is_what_runs(task):
    module, about = load_task(task), task_traits.task_traits(task)
    assert (about.scope, about.needs) == (module.SCOPE, tuple(module.NEEDS))
    assert (about.modality, about.profiles) == (
        getattr(module, "MODALITY", "expression"),
        getattr(module, "PROFILES", PROFILES),
    )
    parameters = signature(module.score).parameters
    defaults = {n: p.default for n, p in parameters.items() if n not in ("cells", "profiles", "seed")}
    assert about.params == {n: list(v) if isinstance(v, tuple) else v for n, v in defaults.items()}


def test_reading_all_tasks_imports_the_standard_library_alone():
    """As planning does in an environment that has nothing but Snakemake."""
    code = dedent(
        f"""
        import sys
        for name in ("numpy", "scipy", "pandas", "sklearn", "h5py", "yaml"):
            sys.modules[name] = None
        sys.path.insert(0, {str(SCRIPTS)!r})
        from cellgauge import tasks
        from cellgauge.core.plugins import module_names
        from cellgauge.tasks.traits import task_traits
        print(*(task_traits(name).scope for name in module_names(tasks)))
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [task_traits.task_traits(name).scope for name in module_names(tasks)]
