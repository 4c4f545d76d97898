"""`--check`, an option of `batchsubmit worker`: ask the worker of this machine how it is, and leave again."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from batchsubmit.cli.options import read_settings
from batchsubmit.errors import BatchsubmitError
from batchsubmit.exits import EXIT_DONE, EXIT_FAILED

_PROBES = {"live": "livez", "ready": "readyz"}


def check_option(command: Callable[..., int]) -> Callable[..., int]:
    """Add `--check [live|ready]`: with it, the command does nothing but ask, and exits 0 (well) or 1.

    The command must have `--config`. Docker keeps every other status for itself, so all trouble is a 1.
    """

    @wraps(command)
    def asking_first(*args: Any, check: str | None, **given: Any) -> int:  # noqa: ANN401 (click's)
        return command(*args, **given) if check is None else _ask(check, given.get("config"))

    option = click.option(
        "--check",
        is_flag=False,
        flag_value="live",
        type=click.Choice(sorted(_PROBES)),
        help="Only ask the worker of this machine whether it is live (or ready): exit 0 if it is, else 1.",
    )
    return option(asking_first)


def _ask(probe: str, config: Path | None) -> int:
    from batchsubmit.health.check import ask, probe_url  # noqa: PLC0415 (help is fast without)

    try:
        settings = read_settings(config).worker
    except BatchsubmitError as exc:
        return _tell(str(exc), EXIT_FAILED)
    if not settings.metrics_port:
        return _tell("worker.metrics_port is 0: the worker has no probes to ask", EXIT_FAILED)
    answer = ask(probe_url(settings.metrics_host, settings.metrics_port, _PROBES[probe]))
    return _tell(answer.words, EXIT_DONE if answer.is_well else EXIT_FAILED)


def _tell(words: str, status: int) -> int:
    click.echo(words, err=True)
    return status
