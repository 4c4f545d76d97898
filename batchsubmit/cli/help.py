"""What `--help` prints of all commands alike, and `batchsubmit help`: the manual's pages, as they were installed."""

from importlib import import_module
from importlib.resources import files

import click

from batchsubmit.cli.output import say
from batchsubmit.errors import UsageError
from batchsubmit.text import nearest, printable

MOMENTS = {
    "Prepare": {
        "init": "Write a first manifest and settings for your memberships.",
        "doctor": "Check what a run needs: credentials, permissions, disk, queue.",
        "validate": "List every problem of every row of MANIFEST; no call is made.",
        "plan": "Say what submit would do, and when all of it will be done.",
        "policy": "Print the least IAM policy that a command needs.",
        "schema": "Print the columns of a manifest, or the settings.",
        "sandbox": "Serve a local Clean Rooms ML, to rehearse and test against.",
        "help": "Print a page of the manual, or list its pages.",
    },
    "Run": {
        "submit": "Submit the jobs of MANIFEST, each exactly once.",
        "enqueue": "Put the jobs of MANIFEST on an SQS queue.",
        "worker": "Submit the jobs that come from an SQS queue, without end.",
    },
    "Look": {
        "status": "Print where the jobs of LEDGER stand; --watch: a live view.",
        "report": "Write LEDGER as one HTML page.",
        "ui": "Serve that page, live, to this machine's browser.",
        "logs": "Print why jobs of LEDGER failed, and the last lines of their logs.",
        "export": "Write LEDGER as a table, or what failed as a manifest to fix.",
    },
    "Fix": {
        "retry": "Send again what was rejected, or ran and failed.",
        "cancel": "Cancel the running jobs that LEDGER started.",
        "verify": "Check LEDGER against itself and against the service.",
        "ledger": "Make the table of a shared ledger; move ledgers in and out.",
    },
}
"""What `--help` says of each command, by the moment at which a person wants it."""

SUMMARIES = {name: summary for commands_of in MOMENTS.values() for name, summary in commands_of.items()}


class CommandGroup(click.Group):
    """A group whose help is printed from the summaries; a command's module is imported when it is called."""

    def list_commands(self, _: click.Context) -> list[str]:
        """Give the names in the order of the summaries."""
        return list(SUMMARIES)

    def get_command(self, _: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        return getattr(import_module(f"batchsubmit.cli.{cmd_name}"), cmd_name) if cmd_name in SUMMARIES else None

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a line for each command, under its moment."""
        width = max(map(len, SUMMARIES))
        for moment, summaries in MOMENTS.items():
            with formatter.section(moment):
                formatter.write_dl([(name.ljust(width), summary) for name, summary in summaries.items()])


EXITS = {
    0: "done, or there was nothing to do",
    1: "some jobs failed for good",
    2: "usage, settings or manifest wrong: nothing was sent",
    3: "stopped before the end: run it again to go on",
    4: "the ledger is in use or damaged",
}
READ_EXITS = {
    0: "printed or written, whatever the jobs' state",
    2: "usage or settings wrong, or a file cannot be read or written",
    4: "the ledger is damaged before its end",
}
"""Of the commands that only read a ledger."""


def manual(*examples: tuple[str, str], exits: dict[int, str] = EXITS, more: str = "") -> str:
    r"""Make an epilog of `(what for, command line)` examples; a `\b` paragraph is left as it is by click."""
    lines = ["\b", "Examples:"]
    for purpose, line in examples:
        lines += [f"  # {purpose}", f"  {line}"]
    statuses = [f"  {number}  {words}" for number, words in sorted(exits.items())]
    parts = ["\n".join(lines), "\n".join(["\b", "Exit status:", *statuses])]
    return "\n\n".join([*parts, more] if more else parts)


@click.command(
    epilog=manual(
        ("the pages there are", "batchsubmit help"),
        ("one of them", "batchsubmit help manifest"),
        exits={0: "printed", 2: "there is no such page"},
    )
)
@click.argument("topic", required=False)
def help(topic: str | None) -> int:  # noqa: A001 (the command's own name)
    """Print the page of the manual on TOPIC; without one, list the pages.

    The options of a command are printed by its own --help.
    """
    from rich.console import Console  # noqa: PLC0415 (each command imports this module)
    from rich.markdown import Markdown  # noqa: PLC0415 (the same)

    pages = {path.name.removesuffix(".md"): path for path in files("batchsubmit").joinpath("docs").iterdir()}
    if topic is None:
        for name in sorted(pages):
            title = pages[name].read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
            say(f"{name:16} {title}", to_stdout=True)
    elif topic in pages:
        text, console = pages[topic].read_text(encoding="utf-8"), Console()
        if console.is_terminal:
            console.print(Markdown(text, hyperlinks=False))
        else:
            click.echo(text, nl=False)
    else:
        meant = nearest(topic, pages)
        hint = f"did you mean {meant}?" if meant else "batchsubmit help lists the pages"
        raise UsageError(f"there is no page {printable(topic)!r}; {hint}")
    return 0
