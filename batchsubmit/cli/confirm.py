"""The question whether to go on. Only a person at a terminal is asked."""

import asyncio
import os
import sys

from batchsubmit.app.plan import Plan, plan_of
from batchsubmit.app.run import Run
from batchsubmit.aws import whose_account
from batchsubmit.cli.output import say
from batchsubmit.cli.plan import odd_words, short_plan
from batchsubmit.errors import NotAgreedError, UsageError
from batchsubmit.submit.stopping import Stop


async def confirm_plan(run: Run, *, asks: bool, yes: bool) -> None:
    """Show the plan in short and wait for a yes; where nothing is to do, nothing is asked.

    Raises NotAgreedError, and UsageError where the jobs take longer than they may, or repeat others unasked.
    """
    plan = await plan_of(run)
    if not plan.progress.to_do:
        return
    if asks:
        local = "the sandbox, in this process"
        say(local if run.options.sandbox else await whose_account(run.region, os.environ.get("AWS_PROFILE")))
        for line in short_plan(plan):
            say(line)
        for line in odd_words(plan):
            say(line, is_odd=True)
    _refuse(plan, yes=yes or asks)
    if asks and not await ask("Go on?", run.stop, in_full=bool(plan.repeated or plan.progress.again)):
        raise NotAgreedError("as you say; nothing was sent")


def _refuse(plan: Plan, *, yes: bool) -> None:
    most, hours = plan.options.max_instance_hours, plan.instance_hours
    if most is not None and hours is None:
        raise UsageError("--max-instance-hours: no ledger shows how long the jobs take; say it with --job-minutes N")
    if most is not None and hours is not None and hours > most:
        raise UsageError(
            f"the jobs would take about {hours:,.1f} instance-hours, more than --max-instance-hours {most:g}; "
            "nothing was sent"
        )
    if plan.repeated and not yes:
        [words, *_] = odd_words(plan)
        raise UsageError(f"{words}. Nothing was sent: give --yes if that is meant, else the batch id of then")


async def ask(question: str, stop: Stop, *, in_full: bool = False) -> bool:
    """Ask until it is answered; `in_full` takes no `y` for a yes.

    The loop goes on meanwhile: a lease is renewed, and Ctrl-C is noticed.
    """
    while True:
        say(f"{question} [{'yes' if in_full else 'y'}/N]: ", nl=False)
        line = await _line(stop)
        if line is None:
            say()
            raise NotAgreedError("interrupted; nothing was sent")
        answer = line.strip().lower()
        if answer in {"yes", "n", "no", ""} or (answer == "y" and not in_full):
            if not line.endswith("\n"):
                say()
            return answer.startswith("y")
        say("Type yes, the whole word, or n." if in_full else "Answer y or n.")


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
