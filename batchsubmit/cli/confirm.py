"""The question whether to go on. Only a person at a terminal is asked."""

import asyncio
import sys

from batchsubmit.app.plan import plan_of
from batchsubmit.app.run import Run
from batchsubmit.aws import whose_account
from batchsubmit.cli.options import tell_warnings
from batchsubmit.cli.output import say
from batchsubmit.cli.plan import odd_words, short_plan
from batchsubmit.errors import NotAgreedError, UsageError
from batchsubmit.submit.stopping import Stop


async def approve(run: Run, *, yes: bool) -> None:
    """Print the warnings of a run; a person at a terminal is shown the plan in short and asked, if anything is to do.

    Raises NotAgreedError, and UsageError where the jobs take longer than they may, or repeat another batch's unasked.
    """
    most, asks = run.options.max_instance_hours, not yes and sys.stdin.isatty() and sys.stderr.isatty()
    if not asks:
        tell_warnings(run.warnings)
    may_repeat = len({each.batch for each in run.ledger.state.runs} | {run.options.batch}) > 1
    needs_plan = asks or most is not None or (may_repeat and not yes)
    if not needs_plan or not (plan := await plan_of(run)).progress.to_do:
        return
    if asks:
        local = "the sandbox, in this process"
        say(local if run.options.sandbox else await whose_account(run.region))
        say(*short_plan(plan))
        say(*odd_words(plan), is_odd=True)
    hours = plan.instance_hours
    if most is not None and hours is None:
        raise UsageError("--max-instance-hours: no ledger shows how long the jobs take; say it with --job-minutes N")
    if most is not None and hours is not None and hours > most:
        took = f"the jobs would take about {hours:,.1f} instance-hours"
        raise UsageError(f"{took}, more than --max-instance-hours {most:g}; nothing was sent")
    if plan.repeated and not (yes or asks):
        [words, *_] = odd_words(plan)
        raise UsageError(f"{words}. Nothing was sent: give --yes if that is meant, else the batch id of then")
    if asks and not await ask("Go on?", run.stop, in_full=bool(plan.repeated or plan.progress.again)):
        raise NotAgreedError("as you say; nothing was sent")


async def ask(question: str, stop: Stop, *, in_full: bool = False) -> bool:
    """Ask until it is answered; `in_full` takes no `y` for a yes.

    The loop goes on meanwhile: a lease is renewed, and Ctrl-C is noticed.
    """
    while True:
        say(f"{question} [{'yes' if in_full else 'y'}/N]: ", nl=False)
        line = await _line(stop)
        if line is None:
            say("")
            raise NotAgreedError("interrupted; nothing was sent")
        answer = line.strip().lower()
        if answer in {"yes", "n", "no", ""} or (answer == "y" and not in_full):
            if not line.endswith("\n"):
                say("")
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
