"""The commands: the one place that prints to people, catches what was raised, and chooses an exit status.

Each command has a module of its own that imports little at the top, so that `--help` is fast.
"""

import os
import sys
import traceback

import click

from batchsubmit import __version__
from batchsubmit.cli.enqueue import enqueue
from batchsubmit.cli.export_schema import schema
from batchsubmit.cli.sandbox import sandbox
from batchsubmit.cli.status import status
from batchsubmit.cli.submit import submit
from batchsubmit.cli.validate import validate
from batchsubmit.cli.verify import verify
from batchsubmit.cli.worker import worker
from batchsubmit.errors import BatchsubmitError
from batchsubmit.exits import EXIT_FAILED, EXIT_STOPPED, exit_status


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="batchsubmit")
def commands() -> None:
    """Submit many AWS Clean Rooms ML inference jobs, each exactly once, at the pace the quota allows."""


for _command in (submit, validate, enqueue, worker, status, verify, sandbox, schema):
    commands.add_command(_command)


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
        traceback.print_exc()
        status = _explain("a bug in batchsubmit; the ledger has all that was done, and nothing is lost", EXIT_STOPPED)
    sys.exit(status if isinstance(status, int) else 0)


def _explain(problem: object, status: int) -> int:
    click.echo(f"batchsubmit: {problem}", err=True)
    return status
