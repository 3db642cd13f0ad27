"""What a task says of itself, read from its source without running it: planning needs nothing but the standard library.

Constants and the defaults of parameters must be plain values: strings, numbers, None, tuples, lists and dictionaries of such,
or the names of constants that are.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cellgauge import tasks
from cellgauge.core.errors import CellgaugeError
from cellgauge.core.plugins import check_name

PROFILES = ("reference", "corrected")


@dataclass(frozen=True)
class TaskTraits:
    """The constants of a task and of its search of neighbors, and the parameters of both."""

    scope: str  # "split" (scored per split) or "dataset" (over all splits of a dataset)
    compares: str = ""  # "organism" where a task of scope "dataset" needs several species, else ""
    modality: str = "expression"  # "expression" (scores embedded cells) or "perturbation" (predicted responses)
    needs: tuple[str, ...] = ()  # columns of obs that every split must have
    profiles: tuple[str, ...] = PROFILES  # the profiles that it has rows in
    # the defaults of its parameters; tuples are lists, as in YAML and JSON
    params: Mapping[str, Any] = field(default_factory=dict)
    # the parameters, `profiles` among them, that change which neighbors are found; None: it keeps none
    searched: tuple[str, ...] | None = None
    # values by parameter, of which one must be asked for, else nothing is worth keeping
    kept_for: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def keeps_neighbors(self, params: Mapping[str, Any]) -> bool:
        """Return whether a search finds anything worth keeping where the task is given `params`."""
        if self.searched is None:
            return False
        return all(set(params[name]) & set(values) for name, values in self.kept_for.items())


@cache
def task_traits(task: str) -> TaskTraits:
    """Return what a task says of itself; raise CellgaugeError where there is no such task, or its module does not say what it
    must as plain values.
    """
    check_name(tasks, task, "task")
    module = _Module(f"{tasks.__name__}.{task}.scores")
    constants = {
        name.lower(): module.constant(name)
        for name in ("SCOPE", "COMPARES", "MODALITY", "NEEDS", "PROFILES")
        if name == "SCOPE" or name in module.constants
    }
    not_params = ("profiles", "seed")
    params = {name: default for name, default in module.keywords("score").items() if name not in not_params}
    if find_spec(f"{tasks.__name__}.{task}.neighbors") is None:
        return TaskTraits(**constants, params=params)
    search = _Module(f"{tasks.__name__}.{task}.neighbors")
    searched = tuple(name for name in search.parameters("find") if name != "seed")
    if strange := set(searched) - {*params, "profiles"}:
        raise CellgaugeError(f"{search.path}: `find` takes '{min(strange)}', which is no parameter of the task")
    kept_for = search.constant("KEPT_FOR") if "KEPT_FOR" in search.constants else {}
    return TaskTraits(**constants, params=params, searched=searched, kept_for=kept_for)


class _Module:
    """A module, parsed."""

    def __init__(self, name: str) -> None:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise CellgaugeError(f"{name}: there is no such module; see workflow/scripts/cellgauge/tasks/__init__.py")
        self.path = Path(spec.origin)
        self._body = ast.parse(self.path.read_text(encoding="utf-8")).body
        self.constants = dict(self._assigned())

    def _assigned(self) -> Iterator[tuple[str, ast.expr]]:
        """Yield the names of module level, and what they are set to."""
        for node in self._body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
                yield from ((target.id, node.value) for target in targets if isinstance(target, ast.Name))

    def constant(self, name: str) -> Any:
        """Return the value of a constant."""
        if name not in self.constants:
            raise CellgaugeError(
                f"{self.path}: the constant {name} is missing; see workflow/scripts/cellgauge/tasks/__init__.py"
            )
        return self._value(self.constants[name], name)

    def parameters(self, function: str) -> dict[str, ast.expr | None]:
        """Return the keyword-only parameters of a function with their defaults."""
        for node in self._body:
            if isinstance(node, ast.FunctionDef) and node.name == function:
                names = (argument.arg for argument in node.args.kwonlyargs)
                return dict(zip(names, node.args.kw_defaults, strict=True))
        raise CellgaugeError(f"{self.path}: the function `{function}` is missing")

    def keywords(self, function: str) -> dict[str, Any]:
        """Return the values of these defaults; lists for tuples."""
        nodes = {name: default for name, default in self.parameters(function).items() if default is not None}
        values = {name: self._value(default, f"the default of '{name}'") for name, default in nodes.items()}
        if lacking := set(self.parameters(function)) - set(values) - {"profiles", "seed"}:
            raise CellgaugeError(f"{self.path}: parameter '{min(lacking)}' of `{function}` has no default")
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def _value(self, node: ast.expr, what: str) -> Any:
        if isinstance(node, ast.Name) and node.id in self.constants:
            return self._value(self.constants[node.id], what)
        if isinstance(node, ast.Tuple | ast.List):
            values: list[Any] = []
            for element in node.elts:
                if isinstance(element, ast.Starred):
                    values += self._value(element.value, what)
                else:
                    values.append(self._value(element, what))
            return tuple(values) if isinstance(node, ast.Tuple) else values
        if isinstance(node, ast.Dict) and None not in node.keys:
            pairs = zip(node.keys, node.values, strict=True)
            return {self._value(key, what): self._value(value, what) for key, value in pairs}
        try:
            return ast.literal_eval(node)
        except ValueError:
            raise CellgaugeError(
                f"{self.path}, line {node.lineno}: {what} is not a plain value: planning reads it without running the file"
            ) from None
