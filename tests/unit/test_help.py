"""`batchsubmit help`: the pages of the manual as they are installed."""

import re

import pytest
from book import PAGES
from click.testing import CliRunner

from batchsubmit.cli.main import commands
from batchsubmit.errors import UsageError


def output_of(*arguments: str) -> str:
    """What it prints; errors are raised."""
    return CliRunner().invoke(commands, ["help", *arguments], catch_exceptions=False, standalone_mode=False).stdout


def test_it_lists_every_page_with_its_title() -> None:
    """One line each."""
    lines = dict(line.split(maxsplit=1) for line in output_of().splitlines())
    assert lines == {name: text.partition("\n")[0].removeprefix("# ") for name, text in PAGES.items()}


@pytest.mark.parametrize("name", PAGES)
def test_it_prints_a_page_as_it_is_where_there_is_no_terminal(name: str) -> None:
    """For `grep`, and for an editor."""
    assert output_of(name) == PAGES[name]


@pytest.mark.parametrize("name", PAGES)
def test_it_lays_a_page_out_on_a_terminal(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No mark-up is left in it, and no line is wider than the screen."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    shown = re.sub(r"\x1b\[[\d;]*m", "", output_of(name))
    assert "\n## " not in shown
    assert "| --- |" not in shown
    assert "](" not in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_it_suggests_the_page_that_was_probably_meant() -> None:
    """With the word that was typed."""
    with pytest.raises(UsageError, match=r"there is no page 'manifst'; did you mean manifest\?"):
        output_of("manifst")
    with pytest.raises(UsageError, match="batchsubmit help lists the pages"):
        output_of("xyzzy")
