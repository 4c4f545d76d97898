"""The page for developers: its map leads to every module, and to nothing that is gone."""

import re
from pathlib import Path

import batchsubmit

ROOT = Path(batchsubmit.__file__).parent
PAGE = ROOT / "docs" / "development.md"


def test_the_map_names_every_module_and_none_that_is_gone() -> None:
    """A stranger finds the file of a behaviour there."""
    table = PAGE.read_text(encoding="utf-8").partition("## The map")[2].partition("## The layers")[0]
    named = set(re.findall(r"`([a-z0-9_/]+\.py)`", table))
    there = {str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py") if not path.name.startswith("__")}
    assert named == there
