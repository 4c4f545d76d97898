"""The commands: the one place that prints to people, catches what was raised, and chooses an exit status.

Each command has a module of its own, which is imported when the command is called (see `shelf`).
"""

import os
import signal
import sys

import click

from batchsubmit import __version__
from batchsubmit.cli.manual import manual
from batchsubmit.cli.shelf import Shelf, ShelfGroup
from batchsubmit.errors import BatchsubmitError
from batchsubmit.exits import EXIT_FAILED, EXIT_STOPPED, exit_status


@click.group(
    cls=ShelfGroup,
    commands=Shelf(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=manual(
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
    """Run a command and exit: 0 done, 1 some failed, 2 usage, 3 stopped before the end, 4 ledger in use or damaged."""
    try:
        status = commands.main(standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as exc:
        exc.show()
        status = exc.exit_code
    except BatchsubmitError as exc:
        status = _explain(exc, exit_status(exc))
    except (KeyboardInterrupt, click.Abort):
        status = _explain("interrupted; nothing is lost: run the same command again to go on", EXIT_STOPPED)
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`); Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = EXIT_FAILED
    except Exception:  # noqa: BLE001 (the last resort: a bug must not look like "some jobs failed")
        from traceback import print_exc  # noqa: PLC0415 (help is fast without)

        print_exc()
        status = _explain("a bug in batchsubmit; the ledger has all that was done, and nothing is lost", EXIT_STOPPED)
    # All is written: a Ctrl-C that comes while the interpreter shuts down must not change the exit status.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status if isinstance(status, int) else 0)


def _explain(problem: object, status: int) -> int:
    click.echo(f"batchsubmit: {problem}", err=True)
    return status
