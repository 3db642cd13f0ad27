"""The page of the architecture is true: its table lists the folders, and no package imports one below it in the table."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from cellgauge.plan.sources import SCRIPTS, is_for_type_checking

ROOT, PACKAGE = SCRIPTS.parents[1], SCRIPTS / "cellgauge"
MOST_FLAT_MODULES = 4
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in row.strip("|").split("|")] for row in re.findall(r"^\| `.*$", PAGE, re.MULTILINE)]
PACKAGES = [row[0].strip("`/") for row in ROWS]


def imported_packages(path: Path) -> Iterator[str]:
    """Yield the packages of ours that a module imports, at its top or inside functions."""
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("cellgauge."))
        todo += [child for child in ast.iter_child_nodes(node) if not is_for_type_checking(child)]


def test_the_table_lists_the_folders():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert set(PACKAGES) == folders and len(PACKAGES) == len(folders)


def test_unit_tests_lie_in_folders_of_packages():
    folders = {path.parent.name for path in (ROOT / "tests/unit").glob("*/test_*.py")}
    assert folders == set(PACKAGES) | {"bench"}


def test_few_modules_lie_flat():
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_FLAT_MODULES


def test_no_package_imports_one_below_it():
    back = {
        f"{path.relative_to(PACKAGE)} imports {package}"
        for place, name in enumerate(PACKAGES)
        for path in (PACKAGE / name).rglob("*.py")
        for package in imported_packages(path)
        if package in PACKAGES[place + 1 :]
    }
    assert not back


def test_the_table_names_the_rules_and_the_scripts():
    rules = {
        name
        for path in (ROOT / "workflow/rules").glob("*.smk")
        for name in re.findall(r"^(?:rule|use rule \w+ as) (\w+)\b", path.read_text(), re.M)
    }
    scripts = {path.name for path in SCRIPTS.glob("*.py")}
    assert {name for row in ROWS for name in re.findall(r"`(\w+)`", row[2])} == rules
    assert {name for row in ROWS for name in re.findall(r"`([\w.]+)`", row[3])} == scripts


def test_a_rule_that_inherits_from_a_local_rule_says_that_it_is_local():
    """Snakemake hands everything down but `localrule`."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
    blocks = re.split(r"^(?=rule \w+:|use rule )", text, flags=re.MULTILINE)
    rules = {match[1]: block for block in blocks if (match := re.match(r"rule (\w+):", block))}
    heirs = [(match[1], block) for block in blocks if (match := re.match(r"use rule (\w+) as", block))]
    assert len(heirs) >= 3
    for parent, block in heirs:
        assert ("localrule: True" in block) == ("localrule: True" in rules[parent]), block
