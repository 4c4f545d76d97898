"""The one question that is ever asked: whether to go on. Only of a person at a terminal."""

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from batchsubmit.cli.options import tell_warnings
from batchsubmit.errors import StoppedError

if TYPE_CHECKING:
    from batchsubmit.app.run import Run
    from batchsubmit.submit.stopping import Stop

_QUESTION = "Go on? [y/N]: "
_ANSWERS = {"y": True, "yes": True, "n": False, "no": False, "": False}


class NotAgreedError(StoppedError):
    """As you say; nothing was sent."""


def somebody_is_there() -> bool:
    """Whether a person sits at both ends: reads what is asked, and can answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


async def ask_to_go_on(run: "Run") -> None:
    """Show the plan in short and wait for a yes; where nothing is to do, nothing is asked. Raises NotAgreedError."""
    from batchsubmit.app.plan import plan_of  # noqa: PLC0415
    from batchsubmit.cli.plan import short_plan  # noqa: PLC0415 (help is fast without)

    plan = await plan_of(run)
    if not plan.prospect.to_do:
        return
    for line in short_plan(plan):
        click.echo(line, err=True)
    tell_warnings(plan.warnings)
    if not await _says_yes(run.stop):
        raise NotAgreedError("as you say; nothing was sent")


async def only_warn(run: "Run") -> None:
    """Say what may not be meant, and go on."""
    tell_warnings(run.warnings)


async def _says_yes(stop: "Stop") -> bool:
    """Ask until it is answered. The loop goes on meanwhile: a lease is renewed, and Ctrl-C is heard."""
    while True:
        click.echo(_QUESTION, nl=False, err=True)
        line = await _line(stop)
        if line is None:
            click.echo(err=True)
            raise NotAgreedError("interrupted; nothing was sent")
        answer = _ANSWERS.get(line.strip().lower())
        if answer is not None:
            if not line.endswith("\n"):
                click.echo(err=True)
            return answer
        click.echo("Answer y or n.", err=True)


async def _line(stop: "Stop") -> str | None:
    """Read a line of the terminal, which is ready once it is whole; None where the run was asked to stop before."""
    loop, woken = asyncio.get_running_loop(), asyncio.Event()
    stop.on_request(woken.set)
    loop.add_reader(sys.stdin.fileno(), woken.set)
    try:
        if not stop.requested:
            await woken.wait()
        return None if stop.requested else sys.stdin.readline()
    finally:
        loop.remove_reader(sys.stdin.fileno())
