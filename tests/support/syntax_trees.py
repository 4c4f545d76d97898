"""The syntax trees of the package, for tests that read its source; each module is parsed once."""

import ast
from functools import cache
from pathlib import Path


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    """All nodes of a module, the module itself first."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
