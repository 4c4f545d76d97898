"""`batchsubmit plan`."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchsubmit.app.plan import Estimate, Plan
from batchsubmit.cli.main import manual
from batchsubmit.cli.options import (
    allow_duplicates_option,
    config_option,
    json_option,
    read_settings,
    sandbox_job_seconds_option,
    tell_warnings,
    telling_problems,
)
from batchsubmit.cli.output import say
from batchsubmit.errors import EXIT_FAILED
from batchsubmit.forecast import lasting
from batchsubmit.manifest.progress import MembershipProgress
from batchsubmit.text import counted

if TYPE_CHECKING:
    from batchsubmit.app.run import SubmitOptions
    from batchsubmit.config import Settings
    from batchsubmit.submit.inputs import Readiness


_MOST_LISTED = 20
_HEADS = ("membership", "rows", "submitted", "failed", "unknown", "to do", "slots", "running")


def whole_plan(plan: Plan) -> Iterator[str]:
    """The plan at length: a table by membership, the forecast and what it rests on, what is not ready."""
    yield _headline(plan)
    if not plan.progress.lanes:
        yield "Nothing to submit: there is no row that could be sent"
        yield from _notes(plan)
        return
    yield ""
    yield from _table(plan)
    yield ""
    yield from _notes(plan)
    yield from forecast_words(plan.estimate, plan.made_at)
    yield from _ready(plan)


def short_plan(plan: Plan) -> Iterator[str]:
    """The plan in two lines, for somebody who is asked whether to go on."""
    lanes = sum(lane.to_do > 0 for lane in plan.progress.lanes.values())
    where = f"in {counted(lanes, 'membership')}, {counted(plan.estimate.slots, 'slot')}" if plan.estimate.slots else ""
    rows = sum(lane.rows for lane in plan.progress.lanes.values())
    yield f"{counted(plan.progress.to_do, 'job')} to submit of {counted(rows, 'row')} {where}".rstrip()
    if plan.estimate.finish is not None:
        yield f"  {_finish(plan.estimate, plan.made_at)}"


def forecast_words(estimate: Estimate, now: datetime) -> Iterator[str]:
    """When it will be done, what that rests on, and what other quotas would change."""
    quotas = _quotas(estimate)
    if estimate.finish is None:
        yield f"Expected finish: unknown; {estimate.basis}"
        yield f"  quotas: {quotas}"
        return
    yield _finish(estimate, now)
    yield f"  rests on: {estimate.basis}; {quotas}"
    for each in estimate.what_ifs:
        raised = f"{each.quotas.per_membership:,} a membership, {each.quotas.per_account:,} an account"
        yield f"  at {counted(each.slots, 'slot')} ({raised}): {lasting(each.finish.seconds)}"


def _quotas(estimate: Estimate) -> str:
    assumed = " (AWS's defaults, assumed)" if estimate.are_quotas_assumed else ""
    quotas = estimate.quotas
    return f"{counted(quotas.per_membership, 'slot')} a membership and {quotas.per_account:,} an account{assumed}"


def _finish(estimate: Estimate, now: datetime) -> str:
    finish = estimate.finish
    if finish is None or not finish.seconds:
        return "Expected finish: now, nothing is to do and nothing runs"
    return f"Expected finish: {finish.words(now)}"


def _headline(plan: Plan) -> str:
    rows = sum(lane.rows for lane in plan.progress.lanes.values()) + plan.invalid
    batch = f", batch {plan.batch}" if plan.batch else ""
    return f"{plan.manifest}: {counted(rows, 'row')} in {counted(len(plan.progress.lanes), 'membership')}{batch}"


def _table(plan: Plan) -> Iterator[str]:
    rows = [_cells(lane, plan) for lane in plan.progress.lanes.values()]
    if len(rows) > 1:
        rows.append(_sums(plan))
    rows.insert(0, _HEADS)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *numbers in rows:
        cells = [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)]
        yield "  ".join([name.ljust(widths[0]), *cells])


def _cells(lane: MembershipProgress, plan: Plan) -> tuple[str, ...]:
    running = None if plan.running is None else plan.running.get(lane.membership, 0)
    counts = (lane.rows, lane.submitted, lane.failed, lane.unknown, lane.to_do, plan.estimate.quotas.per_membership)
    return (lane.membership, *(f"{count:,}" for count in counts), _or_unknown(running))


def _sums(plan: Plan) -> tuple[str, ...]:
    lanes = plan.progress.lanes.values()
    counts = [(lane.rows, lane.submitted, lane.failed, lane.unknown, lane.to_do) for lane in lanes]
    running = None if plan.running is None else sum(plan.running.values())
    sums = (f"{sum(column):,}" for column in zip(*counts, strict=True))
    return ("total", *sums, _or_unknown(plan.estimate.slots or None), _or_unknown(running))


def _or_unknown(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"


def _notes(plan: Plan) -> Iterator[str]:
    if plan.invalid:
        yield f"{counted(plan.invalid, 'invalid row')}, to be recorded as failed"
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
    for line in readiness.problems[:_MOST_LISTED]:
        yield f"NOT READY: {line}"
    for line in readiness.untold[:_MOST_LISTED]:
        yield f"not checked: {line}"
    for line in readiness.warnings[:_MOST_LISTED]:
        yield f"warning: {line}"
    kinds = (readiness.problems, readiness.untold, readiness.warnings)
    more = sum(max(len(lines) - _MOST_LISTED, 0) for lines in kinds)
    if more:
        yield f"... and {more:,} more"


@click.command(
    epilog=manual(
        ("what a first run would take, jobs being of half an hour", "batchsubmit plan jobs.csv --job-minutes 30"),
        ("with what last night's run taught", "batchsubmit plan jobs.csv --history yesterday.ledger.jsonl"),
        ("look at the service as well", "batchsubmit plan jobs.csv --online"),
        exits={1: "--online: a trained model or channel is not ready"},
    )
)
@click.argument("manifest", type=click.Path(allow_dash=True))
@click.option(
    "--ledger",
    type=click.Path(),
    metavar="LEDGER",
    help="The ledger's file, or dynamodb://TABLE; only read. [default: <manifest stem>.ledger.jsonl in this folder]",
)
@click.option("--batch-id", metavar="TEXT", help="The word that submit will be given.")
@config_option
@click.option(
    "--history",
    multiple=True,
    type=click.Path(),
    metavar="LEDGER",
    help="An earlier ledger to learn from how long jobs take; may be repeated.",
)
@click.option(
    "--job-minutes",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="What a job takes on average, where no ledger tells or instead of it.",
)
@click.option(
    "--online", is_flag=True, help="Look at the service: running jobs, trained models, channels, credentials."
)
@click.option("--sandbox", is_flag=True, help="Plan a rehearsal (submit --sandbox).")
@sandbox_job_seconds_option
@click.option("--skip-invalid", is_flag=True, help="Plan without the rows that are wrong.")
@allow_duplicates_option
@click.option("--retry-failed", is_flag=True, help="Count what earlier runs recorded as failed as to do.")
@json_option
def plan(
    config: Path | None,
    *,
    as_json: bool,
    job_minutes: float | None,
    history: tuple[str, ...],
    online: bool,
    **given: Any,  # noqa: ANN401 (click's)
) -> int:
    """Say what submit would do with MANIFEST: rows to do by membership, and when all of it will be done.

    Starts no job and writes nothing, also while a run has the ledger. Exit status 2 where the manifest is wrong, and
    with --online 1 where a trained model or channel is not ready.
    """
    from batchsubmit.app.plan import PlanOptions  # noqa: PLC0415
    from batchsubmit.app.plan import plan as make_plan  # noqa: PLC0415
    from batchsubmit.ledger.base import parse_location  # noqa: PLC0415

    asked, settings = _as_submit(config, given)
    ledgers = tuple(map(parse_location, history))
    options = PlanOptions.of(asked, job_minutes=job_minutes, history=ledgers, online=online)
    with telling_problems():
        made = asyncio.run(make_plan(options, settings))
    tell_warnings(made.warnings)
    status = EXIT_FAILED if made.readiness is not None and made.readiness.problems else 0
    if as_json:
        click.echo(json.dumps(_as_dict(made) | {"exit_status": status}))
    else:
        for line in whole_plan(made):
            say(line, to_stdout=True)
    return status


def _as_submit(config: Path | None, given: dict[str, Any]) -> "tuple[SubmitOptions, Settings]":
    """Read what `submit` would be asked for by these options and settings; what follows a run is no business here."""
    from batchsubmit.cli.request import read_request  # noqa: PLC0415 (help is fast without)
    from batchsubmit.config import NightSettings  # noqa: PLC0415

    settings = read_settings(config, submit={name: given[name] for name in ("ledger", "batch_id")})
    by_day = settings.model_copy(update={"night": NightSettings()})
    asked, _ = read_request({"canary": 0, "resubmit_unknown": False, **given}, by_day, datetime.now(UTC))
    return asked, settings


def _as_dict(made: "Plan") -> dict[str, Any]:
    lanes = [
        {
            "membership": lane.membership,
            "rows": lane.rows,
            "submitted": lane.submitted,
            "failed": lane.failed,
            "unknown": lane.unknown,
            "to_do": lane.to_do,
            "slots": made.estimate.quotas.per_membership,
            "running": None if made.running is None else made.running.get(lane.membership, 0),
        }
        for lane in made.progress.lanes.values()
    ]
    return {
        "manifest": made.manifest,
        "ledger": str(made.ledger),
        "batch": made.batch,
        "rows": sum(lane.rows for lane in made.progress.lanes.values()) + made.invalid,
        "invalid": made.invalid,
        "to_do": made.progress.to_do,
        "unknown": made.progress.unknown,
        "unknown_elsewhere": made.progress.unknown_elsewhere,
        "memberships": lanes,
        "quotas": asdict(made.estimate.quotas) | {"assumed": made.estimate.are_quotas_assumed},
        "slots": made.estimate.slots,
        "finish": made.estimate.finish and made.estimate.finish.as_dict(made.made_at),
        "basis": made.estimate.basis,
        "what_if": _what_ifs(made.estimate),
        "warnings": list(map(asdict, made.warnings)),
        "online": None if made.readiness is None else _online(made.readiness),
    }


def _online(readiness: "Readiness") -> dict[str, Any]:
    return {name: getattr(readiness, name) for name in ("checked", "problems", "untold", "warnings")}


def _what_ifs(estimate: "Estimate") -> list[dict[str, Any]]:
    return [
        {**asdict(each.quotas), "slots": each.slots, "seconds": round(each.finish.seconds, 3)}
        for each in estimate.what_ifs
    ]
