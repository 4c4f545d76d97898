"""The commands are loaded one by one, and what `--help` says of each is kept beside them."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from batchsubmit.cli.help import SUMMARIES
from batchsubmit.cli.main import commands
from batchsubmit.cli.options import read_settings, sending_options, setting_option
from batchsubmit.config import load_settings

HEAVY = ("asyncio", "pydantic", "botocore", "aiohttp", "rich", "structlog", "msgspec", "json", "batchsubmit.config")

CONTEXT = click.Context(commands)


def test_every_summary_has_its_command_and_fits_a_line() -> None:
    """A name without a module would only be found out by the person who types it."""
    for name, summary in SUMMARIES.items():
        command = commands.get_command(CONTEXT, name)
        assert command is not None
        assert command.name == name
        assert 20 < len(summary) <= 66


def test_the_help_lists_every_command_in_the_shelf_s_order() -> None:
    """With its summary."""
    text = CliRunner().invoke(commands, ["--help"]).output
    places = [text.index(f"\n  {name} ") for name in SUMMARIES]
    assert places == sorted(places)
    assert all(summary in text for summary in SUMMARIES.values())


def test_an_unknown_command_is_refused_with_the_one_that_is_meant() -> None:
    """As click words it; nothing is imported for it."""
    assert commands.get_command(CONTEXT, "no_such") is None
    ended = CliRunner().invoke(commands, ["statsu"])
    assert ended.exit_code == 2
    assert "No such command 'statsu'" in ended.output


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_nothing_heavy(option: str) -> None:
    """What makes them start at once; the times themselves are in tests/bench/startup.py."""
    code = (
        "import sys; from batchsubmit.cli.main import commands; commands.main([sys.argv[1]], standalone_mode=False); "
        "print('|', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, option], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split("|")[-1].split())
    assert not loaded & set(HEAVY)


def test_options_of_settings_that_are_not_given_leave_the_settings_as_they_are() -> None:
    """Or no run would ever show its progress."""
    given: dict[str, object] = {}

    @click.command()
    @sending_options
    @setting_option("--notify", "night.notify")
    def command(**flags: object) -> int:
        given.update(flags)
        return 0

    assert CliRunner().invoke(command, []).exit_code == 0
    assert {"rate__max_per_second", "log__progress", "night__notify"} <= given.keys()
    assert read_settings(None, {**given, "other": 1}).model_dump() == load_settings().model_dump()


def test_an_option_of_a_setting_has_its_type_its_words_and_its_default() -> None:
    """They are said once, in the settings."""

    @click.command()
    @setting_option("--concurrency", "submit.concurrency", "N")
    def command(**flags: object) -> int:
        return read_settings(None, flags).submit.concurrency

    assert "Calls in progress at once.  [default: 32]" in CliRunner().invoke(command, ["--help"]).output
    assert CliRunner().invoke(command, ["--concurrency", "7"], standalone_mode=False).return_value == 7


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("cancel", "nothing was cancelled"),
        ("cancel", "not agreed to"),
        ("cancel", "end the run first"),
        ("verify", "nothing is wrong, or all"),
        ("verify", "the service does not answer"),
        ("enqueue", "there is no such queue"),
        ("worker", "there is no such queue"),
        ("ledger import", "workers are at the table"),
        ("ledger import", "the two contradict each other"),
        ("logs", "has no such job"),
        ("plan", "dynamodb://TABLE; only read"),
        ("plan", "learn run times from; may be repeated"),
        ("doctor", "--ledger LEDGER The ledger of submit."),
    ],
)
def test_help_names_the_cases_and_fixes_that_only_one_command_has(command: str, words: str) -> None:
    """The general words for an exit status or an option would be untrue, or leave a case out."""
    assert words in " ".join(CliRunner().invoke(commands, [*command.split(), "--help"]).output.split())
