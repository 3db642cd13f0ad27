"""YAML that cannot grow: a few lines of aliases stand for more values than any memory holds ("billion laughs")."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

MOST_VALUES, MOST_DEPTH, MOST_BYTES = 1_000_000, 40, 1 << 24


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds, plain values only; None where it is empty.

    Raises:
        ValueError: it is larger, or nested deeper, than a file of settings is, its aliases written out; or not UTF-8.
        yaml.YAMLError: it is no YAML.
    """
    import yaml

    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES >> 20} MB")
    loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        check_size(node, _children_of_node)
        return loader.construct_document(node)
    except RecursionError:
        raise ValueError(f"it is nested more than {MOST_DEPTH} levels deep") from None
    finally:
        loader.dispose()


def check_size(root: Any, children: Callable[[Any], Iterable[Any]] | None = None) -> None:
    """Raise ValueError where a value that is written out is too large or too deep, or holds itself.

    Args:
        children: returns the values inside a value; by default those of mappings and lists.
    """
    sizes: dict[int, int] = {}
    children = children or _children

    def size(value: Any, depth: int) -> int:
        if depth > MOST_DEPTH:
            raise ValueError(f"it is nested more than {MOST_DEPTH} levels deep")
        if id(value) not in sizes:
            inside = sum(size(each, depth + 1) for each in children(value))
            sizes[id(value)] = 1 + inside
            if inside >= MOST_VALUES:
                raise ValueError(f"its aliases (*name) expand to more than {MOST_VALUES:,} values")
        return sizes[id(value)]

    size(root, 0)


def _children(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()


def _children_of_node(node: Any) -> Iterable[Any]:
    value = node.value if isinstance(node.value, list) else ()
    return (each for item in value for each in (item if isinstance(item, tuple) else (item,)))
