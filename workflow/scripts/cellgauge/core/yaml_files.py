"""YAML that cannot grow: a few lines of aliases stand for more values than any memory holds ("billion laughs")."""

from collections.abc import Iterable, Mapping
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
        check_size(node)
        return loader.construct_document(node)
    except RecursionError:
        raise ValueError(f"it is nested more than {MOST_DEPTH} levels deep") from None
    finally:
        loader.dispose()


def check_size(root: Any) -> None:
    """Raise ValueError where a value (of YAML, or a node of it) is too large or too deep written out, or holds itself."""
    sizes: dict[int, int] = {}

    def size(value: Any, depth: int) -> int:
        if depth > MOST_DEPTH:
            raise ValueError(f"it is nested more than {MOST_DEPTH} levels deep")
        if id(value) not in sizes:
            inside = sum(size(each, depth + 1) for each in _inside(value))
            sizes[id(value)] = 1 + inside
            if inside >= MOST_VALUES:
                raise ValueError(f"its aliases (*name) expand to more than {MOST_VALUES:,} values")
        return sizes[id(value)]

    size(root, 0)


def _inside(value: Any) -> Iterable[Any]:
    """Return what a mapping or a list holds, or a node: of mappings a list of pairs."""
    if isinstance(value, Mapping):
        return value.values()
    parts = getattr(value, "value", value)
    return (
        (each for part in parts for each in (part if isinstance(part, tuple) else (part,)))
        if isinstance(parts, list)
        else ()
    )
