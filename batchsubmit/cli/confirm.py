"""The question whether to go on. Only a person at a terminal is asked."""

import asyncio
import sys

from batchsubmit.app.plan import plan_of
from batchsubmit.app.run import Run
from batchsubmit.cli.options import tell_warnings
from batchsubmit.cli.output import say
from batchsubmit.cli.plan import short_plan
from batchsubmit.errors import NotAgreedError
from batchsubmit.submit.stopping import Stop

_ANSWERS = {"y": True, "yes": True, "n": False, "no": False, "": False}


async def confirm_plan(run: Run) -> None:
    """Show the plan in short and wait for a yes; where nothing is to do, nothing is asked. Raises NotAgreedError."""
    plan = await plan_of(run)
    if not plan.progress.to_do:
        return
    for line in short_plan(plan):
        say(line)
    tell_warnings(plan.warnings)
    if not await ask("Go on?", run.stop):
        raise NotAgreedError("as you say; nothing was sent")


async def ask(question: str, stop: Stop) -> bool:
    """Ask until it is answered. The loop goes on meanwhile: a lease is renewed, and Ctrl-C is noticed."""
    while True:
        say(f"{question} [y/N]: ", nl=False)
        line = await _line(stop)
        if line is None:
            say()
            raise NotAgreedError("interrupted; nothing was sent")
        answer = _ANSWERS.get(line.strip().lower())
        if answer is not None:
            if not line.endswith("\n"):
                say()
            return answer
        say("Answer y or n.")


async def _line(stop: Stop) -> str | None:
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
