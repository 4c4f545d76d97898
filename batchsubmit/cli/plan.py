"""`batchsubmit plan`."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from batchsubmit.app.plan import Plan
from batchsubmit.app.plan import plan as make_plan
from batchsubmit.app.run import submit_options
from batchsubmit.cli.help import EXITS
from batchsubmit.cli.options import (
    command,
    conclude,
    job_minutes_option,
    json_option,
    ledger_option,
    manifest_options,
    sandbox_job_seconds_option,
    tell_warnings,
)
from batchsubmit.cli.output import membership_names, screen_width
from batchsubmit.config import Settings
from batchsubmit.errors import EXIT_FAILED
from batchsubmit.ledger.location import Location, parse_location
from batchsubmit.text import agreeing, counted, cut, duration, with_names

_MOST_LISTED = 20
_MOST_LANES = 10
_LEAST_NAME = 12


def whole_plan(plan: Plan) -> Iterator[str]:
    """The plan at length: a table by membership, the forecast and what it rests on, what is not ready."""
    batch = f", batch {plan.options.batch}" if plan.options.batch else ""
    rows, lanes = counted(plan.rows + plan.invalid, "row"), counted(len(plan.progress.lanes), "membership")
    yield f"{plan.options.manifest}: {rows} in {lanes}{batch}"
    if not plan.progress.lanes:
        yield "Nothing to submit: there is no row that could be sent"
        yield from _notes(plan)
        return
    yield ""
    yield from _table(plan)
    yield ""
    models = [[arn, f"{jobs:,}"] for arn, jobs in plan.models.most_common()]
    types = [
        [name, f"{to_do:,}", "?" if hours is None else f"{hours:,.1f}", "?" if usd is None else f"{usd:,.2f}"]
        for name, to_do, hours, usd in plan.types
    ]
    for head, cells in ((["trained model", "to do"], models), (["instance type", "to do", "hours", "USD"], types)):
        if cells:
            yield from _aligned(head, cells)
            yield ""
    yield from _notes(plan)
    yield _cost(plan)
    yield from _forecast(plan)
    yield from _ready(plan)


def short_plan(plan: Plan) -> Iterator[str]:
    """The plan in a few lines, for someone who is asked whether to go on."""
    batch = f"batch {plan.options.batch}, " if plan.options.batch else ""
    yield f"{batch}ledger {plan.options.place}"
    lanes, slots = plan.lanes(), plan.slots
    in_use = counted(sum(lane["to_do"] > 0 for lane in lanes), "membership")
    where = f" in {in_use}, {counted(slots, 'slot')}" if slots else ""
    yield f"{counted(plan.progress.to_do, 'job')} to submit of {counted(plan.rows, 'row')}{where}"
    counts = {
        "submitted before": sum(lane["submitted"] for lane in lanes),
        "unknown, to be looked up": plan.progress.unknown,
        "rejected before": sum(lane["rejected"] for lane in lanes),
    }
    if known := ", ".join(f"{count:,} {words}" for words, count in counts.items() if count):
        yield f"  {known}"
    types = ", ".join(f"{each.to_do:,} on {each.instance_type}" for each in plan.types)
    yield f"  {counted(len(plan.models), 'trained model')}; {types}"
    yield f"  {_cost(plan)}"
    yield f"  {_finish(plan)}"


def odd_words(plan: Plan) -> Iterator[str]:
    """What someone should look at twice before it is sent."""
    again, repeated = plan.progress.again, plan.repeated
    if again:
        yield f"{counted(again, 'job')} ran before and failed: {agreeing(again, 'it is', 'they are')} paid again"
    if repeated:
        whole = "all rows" if repeated >= plan.progress.to_do else f"about {counted(repeated, 'row')}"
        which = f"batch {plan.repeats}" if plan.repeats else "runs without a batch id"
        yield f"{whole} were submitted before, by {which}: they would be paid again"
    yield from (f"warning: {warning}" for warning in plan.warnings)


def _cost(plan: Plan) -> str:
    """Instance-hours and, as far as the settings have prices, USD."""
    if plan.instance_hours is None:
        return "instance-hours: unknown, no ledger shows how long jobs take (--job-minutes N says it)"
    unpriced = ", ".join(each.instance_type for each in plan.types if each.usd is None)
    usd = "" if plan.usd is None else f", about {plan.usd:,.2f} USD{f' without {unpriced}' if unpriced else ''}"
    return f"about {plan.instance_hours:,.1f} instance-hours{usd}"


def _forecast(plan: Plan) -> Iterator[str]:
    """When it will be done, what that rests on, and what other quotas would change."""
    assumed = " (AWS's defaults, assumed)" if plan.are_quotas_assumed else ""
    slots = f"{counted(plan.quotas.per_membership, 'slot')} a membership and {plan.quotas.per_account:,} an account"
    yield _finish(plan)
    yield f"  rests on: {plan.basis}; {slots}{assumed}" if plan.finish else f"  quotas: {slots}{assumed}"
    for raised, count, finish in plan.what_ifs:
        each = f"{raised.per_membership:,} a membership, {raised.per_account:,} an account"
        yield f"  at {counted(count, 'slot')} ({each}): {duration(finish.seconds)}"


def _finish(plan: Plan) -> str:
    if plan.finish is None:
        return f"Expected finish: unknown; {plan.basis}"
    when = plan.finish.words(plan.made_at) if plan.finish.seconds else "now, nothing is to do and nothing runs"
    return f"Expected finish: {when}"


def _table(plan: Plan) -> Iterator[str]:
    lanes = sorted(plan.lanes(), key=lambda lane: -lane["to_do"])
    total = {name: sum(lane[name] or 0 for lane in lanes) for name in list(lanes[0])[1:]}
    total |= {"slots": plan.slots or None, "running": None if plan.running is None else total["running"]}
    rows = []
    for name, *numbers in map(dict.values, (*lanes, {"membership": "total", **total})):
        cells = ("?" if number is None else f"{number:,}" for number in numbers)
        rows.append([with_names(name, membership_names), *cells])
    end = rows.pop()
    yield from _aligned([name.replace("_", " ") for name in lanes[0]], rows, [end] if len(rows) > 1 else [])


def _aligned(head: list[str], rows: list[list[str]], end: Sequence[list[str]] = ()) -> Iterator[str]:
    """Put cells below one another, numbers to the right; of names, as much as a screen has room for."""
    shown = [head, *rows[:_MOST_LANES], *end]
    first, *widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    if screen := screen_width(sys.stdout):
        first = min(first, max(screen - sum(widths) - 2 * len(widths), _LEAST_NAME))
    for name, *numbers in shown:
        cells = [number.rjust(width) for number, width in zip(numbers, widths, strict=True)]
        yield "  ".join([cut(name, first, keeps_end=name.startswith("arn:")).ljust(first), *cells])
    if len(rows) > _MOST_LANES:
        yield f"... and {len(rows) - _MOST_LANES:,} more; --json has all"


def _notes(plan: Plan) -> Iterator[str]:
    if plan.invalid:
        yield f"{counted(plan.invalid, 'invalid row')}, to be recorded as rejected"
    if plan.progress.unknown_elsewhere:
        yield f"{counted(plan.progress.unknown_elsewhere, 'unknown job')} of rows that this manifest does not have"
    if plan.progress.unknown:
        unknown = counted(plan.progress.unknown, "unknown job")
        yield f"{unknown}: looked up first, and sent only where the service has none"
    if plan.running is not None and plan.readiness is None and any(plan.running.values()):
        yield "running: by the ledger and the jobs' expected length; --online looks"


def _ready(plan: Plan) -> Iterator[str]:
    readiness = plan.readiness
    if readiness is None:
        return
    if readiness.are_all_active:
        looked_at = counted(readiness.checked, "trained model or channel", "trained models and channels")
        yield f"Ready: {looked_at} looked at, all ACTIVE"
    kinds = {"NOT READY": readiness.problems, "not checked": readiness.untold, "warning": readiness.warnings}
    for word, lines in kinds.items():
        for line in lines[:_MOST_LISTED]:
            yield f"{word}: {line}"
    if more := sum(max(len(lines) - _MOST_LISTED, 0) for lines in kinds.values()):
        yield f"... and {more:,} more"


@command(
    ("what a first run would take, jobs being of half an hour", "batchsubmit plan jobs.csv --job-minutes 30"),
    ("with what last night's run taught", "batchsubmit plan jobs.csv --history yesterday.ledger.jsonl"),
    ("look at the service as well", "batchsubmit plan jobs.csv --online"),
    exits=EXITS | {1: "--online: a trained model or channel is not ready"},
)
@manifest_options
@ledger_option(help="The ledger's file, or dynamodb://TABLE; only read. [default: that of submit]")
@click.option(
    "--history", multiple=True, type=parse_location, help="An earlier ledger to learn run times from; may be repeated."
)
@job_minutes_option
@click.option(
    "--online", is_flag=True, help="Look at the service: running jobs, trained models, channels, credentials."
)
@click.option("--sandbox", is_flag=True, help="Plan a rehearsal (submit --sandbox).")
@sandbox_job_seconds_option
@click.option("--skip-invalid", is_flag=True, help="Plan without the rows that are wrong.")
@click.option("--retry-failed", is_flag=True, help="Count what was rejected, or ran and failed, as to do.")
@json_option
def plan(settings: Settings, *, as_json: bool, history: tuple[Location, ...], online: bool, **given: Any) -> int:  # noqa: ANN401
    """Say what submit would do with MANIFEST: rows to do by membership, and when all of it will be done.

    Starts no job and writes nothing, also while a run has the ledger. Exit status 2 where the manifest is wrong, and
    with --online 1 where a trained model or channel is not ready.
    """
    options = submit_options(settings, datetime.now(UTC), **given)
    made = asyncio.run(make_plan(options, settings, history=history, online=online))
    tell_warnings(made.warnings)
    status = EXIT_FAILED if made.readiness is not None and made.readiness.problems else 0
    return conclude(whole_plan(made), made.as_dict() | {"exit_status": status}, as_json=as_json, are_data=True)
