"""How a plan is put to people. Pure: values in, lines out."""

from collections.abc import Iterator
from datetime import datetime

from batchsubmit.app.plan import Estimate, Plan
from batchsubmit.counting import counted
from batchsubmit.forecast import lasting
from batchsubmit.manifest.progress import LaneProspect

_MOST_LISTED = 20
_HEADS = ("membership", "rows", "submitted", "failed", "unknown", "to do", "slots", "running")


def whole_plan(plan: Plan) -> Iterator[str]:
    """The plan at length: a table by membership, the forecast and what it rests on, what is not ready."""
    yield _headline(plan)
    if not plan.prospect.lanes:
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
    lanes = sum(lane.to_do > 0 for lane in plan.prospect.lanes.values())
    where = f"in {counted(lanes, 'membership')}, {counted(plan.estimate.slots, 'slot')}" if plan.estimate.slots else ""
    rows = sum(lane.rows for lane in plan.prospect.lanes.values())
    yield f"{counted(plan.prospect.to_do, 'job')} to submit of {counted(rows, 'row')} {where}".rstrip()
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
    rows = sum(lane.rows for lane in plan.prospect.lanes.values()) + plan.invalid
    batch = f", batch {plan.batch}" if plan.batch else ""
    return f"{plan.manifest}: {counted(rows, 'row')} in {counted(len(plan.prospect.lanes), 'membership')}{batch}"


def _table(plan: Plan) -> Iterator[str]:
    rows = [_cells(lane, plan) for lane in plan.prospect.lanes.values()]
    if len(rows) > 1:
        rows.append(_sums(plan))
    rows.insert(0, _HEADS)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *numbers in rows:
        cells = [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)]
        yield "  ".join([name.ljust(widths[0]), *cells])


def _cells(lane: LaneProspect, plan: Plan) -> tuple[str, ...]:
    running = None if plan.running is None else plan.running.get(lane.membership, 0)
    counts = (lane.rows, lane.submitted, lane.failed, lane.unknown, lane.to_do, plan.estimate.quotas.per_membership)
    return (lane.membership, *(f"{count:,}" for count in counts), _or_unknown(running))


def _sums(plan: Plan) -> tuple[str, ...]:
    lanes = plan.prospect.lanes.values()
    counts = [(lane.rows, lane.submitted, lane.failed, lane.unknown, lane.to_do) for lane in lanes]
    running = None if plan.running is None else sum(plan.running.values())
    sums = (f"{sum(column):,}" for column in zip(*counts, strict=True))
    return ("total", *sums, _or_unknown(plan.estimate.slots or None), _or_unknown(running))


def _or_unknown(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"


def _notes(plan: Plan) -> Iterator[str]:
    if plan.invalid:
        yield f"{counted(plan.invalid, 'invalid row')}, to be recorded as failed"
    if plan.prospect.unknown_elsewhere:
        yield f"{counted(plan.prospect.unknown_elsewhere, 'unknown job')} of rows that this manifest does not have"
    if plan.prospect.unknown:
        unknown = counted(plan.prospect.unknown, "unknown job")
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
