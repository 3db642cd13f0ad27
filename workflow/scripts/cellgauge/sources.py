"""Which of our own files does a module run? Declared as `input:`, so that an edit re-runs the jobs that it concerns.

Snakemake sees neither imported modules nor scripts named in a shell command. The closure of static imports is found with
`ast`; adapters and tasks, which are loaded by name, are given by the caller as further modules.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1]


@cache
def sources(*modules: str) -> tuple[str, ...]:
    """Return the files of `modules` (names below workflow/scripts) and of all project modules that they import.

    Paths are relative to the working directory where they lie in it: Snakemake then compares their contents, and neither
    a touch nor another place of the checkout re-runs anything.

    Raises:
        ModuleNotFoundError: a module named by the caller is not one of ours.
    """
    found: set[str] = set()
    todo = list(modules)
    for name in todo:
        if _path(name) is None:
            raise ModuleNotFoundError(f"no module {name} below {SCRIPTS}")
    while todo:
        name = todo.pop()
        path = _path(name)
        if path is None or str(path) in found:
            continue
        found.add(str(path))
        todo += _parents(name)
        todo += _imports(path)
    return tuple(sorted(_shown(Path(path)) for path in found))


def project_file(name: str) -> str:
    """Return the path of a file of the checkout, such as config/checksums.yaml, as a job's input."""
    return _shown(SCRIPTS.parents[1] / name)


def package_data(package: str) -> tuple[str, ...]:
    """Return the files of a package that are not Python: templates, style sheets."""
    folder = SCRIPTS.joinpath(*package.split("."))
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc"))
    return tuple(sorted(map(_shown, files)))


def script(name: str) -> str:
    """Return the path of workflow/scripts/`name`.py as a job's input."""
    path = _path(name)
    if path is None:
        raise ModuleNotFoundError(f"no script {name} in {SCRIPTS}")
    return _shown(path)


def _path(module: str) -> Path | None:
    base = SCRIPTS.joinpath(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _parents(module: str) -> Iterator[str]:
    parts = module.split(".")
    for end in range(1, len(parts)):
        yield ".".join(parts[:end])


@cache
def _imports(path: Path) -> tuple[str, ...]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names += (f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(names)
