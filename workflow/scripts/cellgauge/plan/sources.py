"""Which of our own code does a job run? Declared as `params:`, so that an edit re-runs the jobs whose result it may change.

Snakemake sees neither imported modules nor scripts named in a shell command. The closure of static imports is found with
`ast`; adapters and tasks, which are loaded by name, are given by the caller as further modules. Each file is compared by the
digest of its syntax tree without docstrings, so that comments, docstrings and formatting re-run nothing.
"""

from __future__ import annotations

import ast
import gc
import hashlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[4]
SCRIPTS = ROOT / "workflow/scripts"
DIGEST_LENGTH = 8  # hexadecimal digits: it tells versions of one file apart, and is read by people
NOT_MEANING = {"kind", "type_comment", "type_params", "ctx"}  # fields that depend on Python's release, or repeat others


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
    digests = {_name(path): _file(path).digest for path in closure(*modules)}
    files = SCRIPTS.joinpath(*data.split(".")).rglob("*") if data else ()
    others = [path for path in files if path.is_file() and path.suffix not in (".py", ".pyc")]
    digests |= {_name(path): _digest(path.read_bytes()) for path in others}
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
            todo += [name.rpartition(".")[0], *_file(path).imports]
    return tuple(sorted(paths))


class Module(NamedTuple):
    """What a Python file is to its jobs: the names that it imports, and the digest of what it means."""

    imports: tuple[str, ...]
    digest: str


@cache  # planning asks for most files in most closures
def _file(path: Path) -> Module:
    text = path.read_text(encoding="utf-8")
    was_enabled = gc.isenabled()
    gc.disable()  # a tree is no garbage until it goes, and searching its thousands of nodes takes longer than the parser
    try:
        tree = ast.parse(text)
        return Module(tuple(_imports(tree)), syntax_digest(tree))
    finally:
        if was_enabled:
            gc.enable()


def syntax_digest(tree: ast.Module) -> str:
    """Return a digest of what a Python file means: of its syntax tree without docstrings and imports for type checking.

    It is the same under all releases of Python that cellgauge runs on.
    """
    parts: list[str] = []
    _write(tree, parts.append)
    return _digest("".join(parts).encode())


def project_file(name: str) -> str:
    """Return the path of a file of the checkout, such as config/checksums.yaml, as a job's input."""
    return _from_here(ROOT / name)


def script(name: str) -> str:
    """Return the path of workflow/scripts/`name`.py as a job's input."""
    path = _path(name)
    if path is None:
        raise ModuleNotFoundError(f"no script {name} in {SCRIPTS}")
    return _from_here(path)


@cache
def _path(module: str) -> Path | None:
    base = SCRIPTS.joinpath(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def _name(path: Path) -> str:
    return path.relative_to(SCRIPTS).as_posix().removeprefix("cellgauge/")


def _from_here(path: Path) -> str:
    """Return a path as seen from the working directory where it lies in it: another place of the checkout is no change."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _imports(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a file imports, at its top or inside functions; only statements hold imports."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            children = getattr(node, name, ())
            todo += [c for c in children if not is_for_type_checking(c)] if isinstance(children, list) else []


def is_for_type_checking(node: ast.AST) -> bool:
    """Return whether a statement is `if TYPE_CHECKING:`, whose imports no job runs."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _has_meaning(statement: ast.AST) -> bool:
    """Return whether a statement may change a result: no string alone (a docstring), no import for type checking."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    is_text = isinstance(value, ast.Constant) and isinstance(value.value, str)
    return not is_text and not is_for_type_checking(statement)


@cache
def _fields(kind: type[ast.AST]) -> tuple[str, ...]:
    return tuple(name for name in kind._fields if name not in NOT_MEANING)


def _write(node: ast.AST, add: Callable[[str], None]) -> None:
    """Add the text of a node, without places and without what is empty or has no meaning.

    Lists and values are written in place, since a call for each of them takes most of the time.
    """
    kind: Any = type(node)
    add(f"{kind.__name__}(")
    for name in _fields(kind):
        value = getattr(node, name, None)
        if value is None:
            continue
        if isinstance(value, ast.AST):
            add(f"{name}=")
            _write(value, add)
        elif isinstance(value, list):
            children = list(filter(_has_meaning, value)) if name == "body" else value
            if children:
                add(f"{name}=[")
                for child in children:
                    if isinstance(child, ast.AST):
                        _write(child, add)
                    else:
                        add(f"{child!r},")
                add("]")
        else:
            add(f"{name}={value!r},")
    add(")")


def digest(files: dict[str, str]) -> str:
    """Return one digest of the digests of many files."""
    return _digest(repr(sorted(files.items())).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH]
