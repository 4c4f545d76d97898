"""The commands: the one place that prints to people, catches what was raised, and chooses an exit status.

Each command has a module of its own, which is imported when the command is called.
"""

import os
import signal
import sys
import warnings
from traceback import format_exc

import click

from batchsubmit import __version__
from batchsubmit.cli.help import CommandGroup, manual
from batchsubmit.cli.output import Streams, say
from batchsubmit.errors import EXIT_STOPPED, BatchsubmitError, ManifestError, UsageError, exit_status
from batchsubmit.text import StrippedWarning, printable


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=manual(
        ("begin here: a manifest, settings and the next steps", "batchsubmit init"),
        ("check a manifest; no call is made", "batchsubmit validate jobs.csv"),
        ("submit it, and go on where it ended when run again", "batchsubmit submit jobs.csv"),
        ("see how it goes, from another terminal", "batchsubmit status jobs.ledger.jsonl --watch"),
        ("rehearse the whole of it without AWS", "batchsubmit submit jobs.csv --sandbox"),
        more="Each command has a --help of its own. Settings are flags over BATCHSUBMIT_* variables over a TOML file "
        "(--config); batchsubmit schema --settings lists them. AWS itself is configured as everywhere: AWS_*, "
        "profiles, roles.",
    ),
)
@click.version_option(__version__, prog_name="batchsubmit")
def commands() -> None:
    """Submit many AWS Clean Rooms ML inference jobs, each exactly once, at the pace the quota allows."""


def main() -> None:
    """Run a command and exit. Output that is not complete changes the status only of commands that send nothing."""
    streams = Streams()
    warnings.simplefilter("once", StrippedWarning)
    warnings.showwarning = lambda message, *_, **__: say(f"batchsubmit: note: {message}")
    status = _run()
    # All is done: a signal that comes while the last words are written must not change the exit status.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if streams.finish() and not status and _SENDS.isdisjoint(sys.argv[1:2]):
        status = EXIT_STOPPED
    sys.exit(status)


_SENDS = {"submit", "retry", "worker", "enqueue", "cancel"}


def _run() -> int:
    try:
        _refuse_what_is_no_text()
        status = commands.main(standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.ClickException as exc:
        if not isinstance(exc, click.exceptions.NoArgsIsHelpError):  # whose words are our own help
            exc.message = printable(exc.message)  # type: ignore[misc] # there is no other way to its words
        exc.show()
        return exc.exit_code
    except BatchsubmitError as exc:
        if isinstance(exc, ManifestError):
            say(*exc.lines)
            if any(line.lstrip().startswith("...") for line in exc.lines):  # of many that are alike, the first few
                say(f"All {exc.count:,} are listed by batchsubmit validate with the same manifest and options")
        words, status = str(exc), exit_status(exc)
    except (KeyboardInterrupt, click.Abort):
        words, status = "interrupted; nothing is lost: run the same command again to go on", EXIT_STOPPED
    except Exception:  # noqa: BLE001 (the last resort: a bug must not look like "some jobs failed")
        say(*format_exc().splitlines())
        words, status = "a bug in batchsubmit; the ledger has all that was done, and nothing is lost", EXIT_STOPPED
    say(f"batchsubmit: {words}")
    return status


def _refuse_what_is_no_text() -> None:
    """Raise UsageError for an argument or a setting with bytes that are not UTF-8: it could not be written down."""
    arguments = {f"argument {number}": value for number, value in enumerate(sys.argv[1:], 1)}
    settings = {name: value for name, value in os.environ.items() if name.startswith("BATCHSUBMIT_")}
    for name, value in (arguments | settings).items():
        shown = value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        if shown != value:
            raise UsageError(f"{name} is not UTF-8: {shown}; rename the file, or write it in UTF-8")
