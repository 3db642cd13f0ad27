"""Which of our own code does a job run? Declared as `params:`, so that an edit re-runs the jobs whose result it may change.

Snakemake sees neither imported modules nor scripts named in a shell command. The closure of static imports is found with
`ast`; adapters and tasks, which are loaded by name, are given by the caller as further modules. Each file is compared by the
digest of its syntax tree without docstrings, so that comments, docstrings and formatting re-run nothing.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2]
DIGEST_LENGTH = 8  # hexadecimal digits: it tells versions of one file apart, and is read by people
NOT_MEANING = {"kind", "type_comment", "type_params"}  # fields of nodes that differ between releases of Python


@cache
def code(*modules: str, data: str = "") -> dict[str, str]:
    """Return the digest of every file that a job runs, by its path below workflow/scripts.

    Args:
        modules: scripts, and modules that are loaded by name, as dotted names below workflow/scripts; the modules of ours
            that they import are found.
        data: a package whose files that are not Python (templates, style sheets) count too.

    Raises:
        ModuleNotFoundError: a module named by the caller is not one of ours.
    """
    digests = {_name(path): syntax_digest(path.read_text(encoding="utf-8")) for path in closure(*modules)}
    if data:
        digests |= {_name(path): _digest(path.read_bytes()) for path in _package_data(data)}
    return dict(sorted(digests.items()))


@cache
def closure(*modules: str) -> tuple[Path, ...]:
    """Return the files of `modules` and of all modules of ours that they import, at their top or inside functions.

    What is imported for type checking alone is left out.

    Raises:
        ModuleNotFoundError: a module named by the caller is not one of ours.
    """
    for name in modules:
        if _path(name) is None:
            raise ModuleNotFoundError(f"no module {name} below {SCRIPTS}")
    paths: set[Path] = set()
    todo = list(modules)
    while todo:
        name = todo.pop()
        path = _path(name)
        if path is not None and path not in paths:
            paths.add(path)
            todo += [*_parents(name), *_imports(path)]
    return tuple(sorted(paths))


def syntax_digest(text: str) -> str:
    """Return a digest of what a Python file means: of its syntax tree without docstrings and imports for type checking.

    It is the same under all releases of Python that cellgauge runs on.
    """
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = _without_docstring(node.body)
        if hasattr(node, "body") and isinstance(node.body, list):
            node.body = [child for child in node.body if not is_for_type_checking(child)]
    return _digest(repr(_canonical(tree)).encode())


def project_file(name: str) -> str:
    """Return the path of a file of the checkout, such as config/checksums.yaml, as a job's input."""
    return _shown(SCRIPTS.parents[1] / name)


def script(name: str) -> str:
    """Return the path of workflow/scripts/`name`.py as a job's input."""
    path = _path(name)
    if path is None:
        raise ModuleNotFoundError(f"no script {name} in {SCRIPTS}")
    return _shown(path)


def _package_data(package: str) -> list[Path]:
    files = SCRIPTS.joinpath(*package.split(".")).rglob("*")
    return [path for path in files if path.is_file() and path.suffix not in (".py", ".pyc")]


def _path(module: str) -> Path | None:
    base = SCRIPTS.joinpath(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def _name(path: Path) -> str:
    return path.relative_to(SCRIPTS).as_posix().removeprefix("cellgauge/")


def _shown(path: Path) -> str:
    """Return a path as seen from the working directory where it lies in it: another place of the checkout is no change."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _parents(module: str) -> Iterator[str]:
    parts = module.split(".")
    for end in range(1, len(parts)):
        yield ".".join(parts[:end])


@cache
def _imports(path: Path) -> tuple[str, ...]:
    names: list[str] = []
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            names += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names += (f"{node.module}.{alias.name}" for alias in node.names)
        todo += [child for child in ast.iter_child_nodes(node) if not is_for_type_checking(child)]
    return tuple(names)


def is_for_type_checking(node: ast.AST) -> bool:
    """Return whether a statement is `if TYPE_CHECKING:`, whose imports no job runs."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    """Return statements without those that are a string: docstrings, and the texts below constants that describe them."""
    return [
        statement
        for statement in body
        if not (
            isinstance(statement, ast.Expr)
            and isinstance(statement.value, ast.Constant)
            and isinstance(statement.value.value, str)
        )
    ]


def _canonical(node: object) -> object:
    """Return a syntax tree as nested tuples, without places and without what is empty."""
    if isinstance(node, ast.AST):
        fields = ((name, getattr(node, name, None)) for name in node._fields if name not in NOT_MEANING)
        return type(node).__name__, *((name, _canonical(value)) for name, value in fields if value not in (None, []))
    return tuple(map(_canonical, node)) if isinstance(node, list) else node


def digest(files: dict[str, str]) -> str:
    """Return one digest of the digests of many files."""
    return _digest(repr(sorted(files.items())).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH]
