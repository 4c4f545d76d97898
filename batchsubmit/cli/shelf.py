"""The commands by name, each imported only when it is asked for, so that `--help` and `--version` start at once.

It knows a line about each command and nothing of what commands do.
"""

from collections.abc import Iterator, MutableMapping
from importlib import import_module

import click

SUMMARIES = {
    "submit": "Submit the jobs of MANIFEST, each exactly once.",
    "validate": "List every problem of every row of MANIFEST; no call is made.",
    "plan": "Say what submit would do, and when all of it will be done.",
    "enqueue": "Put the jobs of MANIFEST on an SQS queue.",
    "worker": "Submit the jobs that come from an SQS queue, for ever.",
    "status": "Print where the jobs of LEDGER stand; --watch: a live view.",
    "report": "Write LEDGER as one HTML page.",
    "export": "Write LEDGER as a table, or what failed as a manifest to mend.",
    "cancel": "Cancel the running jobs that LEDGER started.",
    "verify": "Hold LEDGER against itself and against the service.",
    "ledger": "Make the table of a shared ledger; move ledgers in and out.",
    "sandbox": "Serve a local Clean Rooms ML, to rehearse and test against.",
    "schema": "Print the columns of a manifest, or the settings.",
}
"""What `--help` says of each command, in the order in which a person meets them."""

_MODULES: dict[str, str] = {}
"""Where a command's module is not called like the command."""


class Shelf(MutableMapping[str, click.Command]):
    """The commands; the first look at one imports its module."""

    def __init__(self) -> None:
        self._added: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._added:
            if name not in SUMMARIES:
                raise KeyError(name)
            module = import_module(f"batchsubmit.cli.{_MODULES.get(name, name)}")
            self._added[name] = getattr(module, name)
        return self._added[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._added[name] = command

    def __delitem__(self, name: str) -> None:
        del self._added[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*SUMMARIES, *self._added)))

    def __len__(self) -> int:
        return len({*SUMMARIES, *self._added})


class ShelfGroup(click.Group):
    """A group over a shelf: its help is printed from the summaries, and loads no command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the names in the shelf's own order."""
        del ctx
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a line for each command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, SUMMARIES.get(name, "")) for name in self.list_commands(ctx)])
