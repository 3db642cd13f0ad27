"""Adapters and tasks are modules of a package, found by their names, whose constants are read without running them.

A file more is all that adding one takes. Constants, and the defaults of parameters, must be plain values: strings, numbers,
None, tuples, lists and dictionaries of such, or the names of constants that are.
"""

import ast
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from cellgauge.core.errors import CellgaugeError, did_you_mean


@cache  # the grid asks for every cell
def module_names(package: ModuleType) -> tuple[str, ...]:
    """Return the names of the plug-ins of a package: its modules but those that they share (`SHARED`); none is imported."""
    shared = getattr(package, "SHARED", ("base",))
    return tuple(sorted(module.name for module in iter_modules(package.__path__) if module.name not in shared))


def check_name(package: ModuleType, name: str, kind: str) -> None:
    """Raise CellgaugeError, naming the nearest `kind` ("adapter", "task") there is, where a package has no such module."""
    known = module_names(package)
    if name not in known:
        raise CellgaugeError(f"unknown {kind} '{name}'{did_you_mean(name, known)}")


def load_module(package: ModuleType, name: str, kind: str) -> ModuleType:
    """Import a module of a package; see `check_name`."""
    check_name(package, name, kind)
    return import_module(f"{package.__name__}.{name}")


class Source:
    """A module that is read without running it; raises CellgaugeError for what is missing or no plain value.

    Attributes:
        path: its file.
        constants: the names of module level, and the expressions that they are set to.
        functions: the functions of module level, and their arguments.
    """

    def __init__(self, name: str) -> None:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise CellgaugeError(f"{name}: there is no such module; see __init__.py of {name.rpartition('.')[0]}")
        self.path = Path(spec.origin)
        self._body = ast.parse(self.path.read_text(encoding="utf-8")).body
        self.constants = dict(self._assigned())
        self.functions = {node.name: node.args for node in self._body if isinstance(node, ast.FunctionDef)}

    def _assigned(self) -> Iterator[tuple[str, ast.expr]]:
        for node in self._body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
                yield from ((target.id, node.value) for target in targets if isinstance(target, ast.Name))

    def constant(self, name: str) -> Any:
        """Return the value of a constant."""
        if name not in self.constants:
            raise CellgaugeError(f"{self.path}: the constant {name} is missing")
        return self._value(self.constants[name], name)

    def parameters(self, function: str) -> dict[str, ast.expr | None]:
        """Return the keyword-only parameters of a function with their defaults."""
        if function not in self.functions:
            raise CellgaugeError(f"{self.path}: the function `{function}` is missing")
        arguments = self.functions[function]
        return dict(zip((each.arg for each in arguments.kwonlyargs), arguments.kw_defaults, strict=True))

    def defaults(self, function: str) -> dict[str, Any]:
        """Return the values of the defaults of these parameters; lists for tuples."""
        expressions = {name: node for name, node in self.parameters(function).items() if node is not None}
        values = {name: self._value(node, f"the default of '{name}'") for name, node in expressions.items()}
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
            return {self._value(key, what): self._value(value, what) for key, value in pairs if key}
        try:
            return ast.literal_eval(node)
        except ValueError:
            raise CellgaugeError(
                f"{self.path}, line {node.lineno}: {what} is not a plain value: planning reads it without running the file"
            ) from None
