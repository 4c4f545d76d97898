"""README and the pages of batchsubmit/docs as text, by page, section and code block; and the commands."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

import batchsubmit
from batchsubmit.cli.help import SUMMARIES
from batchsubmit.cli.main import commands

ROOT = Path(__file__).parents[2]
DOCS = Path(batchsubmit.__file__).parent / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
_FOUND = {name: commands.get_command(click.Context(commands), name) for name in SUMMARIES}
COMMANDS = {name: command for name, command in _FOUND.items() if command}
BOOK = "\n".join([README, *PAGES.values()])


class Block(NamedTuple):
    """One fenced code block."""

    page: str
    language: str
    text: str


def section(text: str, title: str) -> str:
    """What stands under a heading of the second level, up to the next one."""
    return text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def blocks() -> Iterator[Block]:
    """Every code block of README and book; one in a list is given without its indent."""
    for page, text in {"README": README, **PAGES}.items():
        for found in re.finditer(r"^( *)```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
            indent, language, lines = found.groups()
            yield Block(page, language, re.sub(rf"^{indent}", "", lines, flags=re.MULTILINE))
