"""The house stays in order: no crumbs of modules, short functions, and every package says what it is for."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

from syntax_trees import nodes_of

import batchsubmit

ROOT = Path(batchsubmit.__file__).parent
LEAST_LINES = 60
MAY_BE_SMALL = {
    "batchsubmit.__main__": "an entry point",
    "batchsubmit.cli.report": "a command, which is found by its name",
    "batchsubmit.cli.schema": "a command, which is found by its name",
    "batchsubmit.cli.ui": "a command, which is found by its name",
}


def modules() -> dict[str, Path]:
    """All modules by their dotted names; a package has that of its folder."""
    names = {".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path for path in ROOT.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


def importers() -> dict[str, set[str]]:
    """Which modules import each module."""
    known, found = modules(), defaultdict(set)
    for name, path in known.items():
        for node in nodes_of(path):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    found[full if full in known else node.module].add(name)
    return found


def function_lines() -> Iterator[int]:
    """The lines of each function, without its docstring."""
    for path in modules().values():
        for node in nodes_of(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                yield (node.end_lineno or 0) - first.lineno + 1


def test_a_small_module_with_one_importer_is_a_paragraph_of_that_importer() -> None:
    """Entry points and the sides of a seam may be small."""
    by = importers()
    small = {
        name
        for name, path in modules().items()
        if path.name != "__init__.py"
        and len(path.read_text(encoding="utf-8").splitlines()) < LEAST_LINES
        and len(by[name]) < 2
    }
    assert small == MAY_BE_SMALL.keys()


def test_functions_are_short() -> None:
    """Half of them have eight lines at most, nine of ten have twenty, none has more than sixty."""
    lines = list(function_lines())
    assert median(lines) <= 8
    assert quantiles(lines, n=10)[-1] <= 20
    assert max(lines) <= 60
