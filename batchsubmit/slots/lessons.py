"""What an answer teaches of the limits: an accepted call, a refused one, a count of all that runs. Pure.

It changes the budgets of one lane and its account; whose turn it is then, and what is looked at, others say.
"""

import math
from collections.abc import Iterable

from batchsubmit.jobs import QuotaExceeded
from batchsubmit.slots.lane import Account, Lane, Ticket


def learn_accepted(lane: Lane, ticket: Ticket, now: float) -> None:
    """A call was accepted, and its job is counted already."""
    account = lane.account
    lane.budget.accepted(now, is_tracked=not lane.is_blind, was_probe=ticket.probes_lane)
    account.budget.accepted(now, is_tracked=not lane.is_blind, was_probe=ticket.probes_account)
    lane.wants_count |= lane.budget.is_exceeded
    if account.budget.is_exceeded:
        for each in account.lanes:
            each.wants_count |= bool(len(each.roster)) and not each.is_blind


def learn_refused(lane: Lane, ticket: Ticket, refusal: QuotaExceeded, now: float) -> bool:
    """A call was refused; say whether that concerns all lanes of the account."""
    account = lane.account
    value = None if refusal.quota_value is None else max(int(refusal.quota_value), 0)
    if _is_of_account(ticket, lane, refusal, value):
        account.budget.refused(
            value, seen_at_start=ticket.in_account, left_at=ticket.left_at, was_probe=ticket.probes_account, now=now
        )
        for each in account.lanes:
            each.wants_count |= each.looked_at == -math.inf and bool(account.budget.hidden)
        return True
    lane.budget.refused(
        value, seen_at_start=ticket.in_lane, left_at=ticket.left_at, was_probe=ticket.probes_lane, now=now
    )
    lane.wants_count = bool(lane.budget.hidden) or not lane.budget.is_counted
    return value is not None and _share_limit(account, value)


def _share_limit(account: Account, limit: int) -> bool:
    """One membership's quota is every membership's, until one of them shows otherwise."""
    if account.per_membership == limit:
        return False
    account.per_membership = limit
    for lane in account.lanes:
        if lane.budget.limit is None:
            lane.budget.limit = limit
    return True


def _is_of_account(ticket: Ticket, lane: Lane, refusal: QuotaExceeded, value: int | None) -> bool:
    """Tell which quota refused: by its name or words, else by which of the two can have been full.

    Where neither tells, it is taken for the lane's own, which holds up no other, until the lane has been counted.
    """
    words = (refusal.quota_name or refusal.message).lower()
    if ("account" in words) != ("membership" in words):
        return "account" in words
    own, around = lane.budget, lane.account.budget
    in_lane = max(ticket.in_lane, own.running + own.under_way)
    in_account = max(ticket.in_account, around.running + around.under_way)
    if value is not None and value in {in_lane, in_account} and in_lane != in_account:
        return value == in_account
    for budget, count, answer in ((around, in_account, True), (own, in_lane, False)):
        if budget.bound is not None and count >= budget.bound:
            return answer
    lane.suspects_account = value is None and not lane.is_blind
    return False


def learn_quiet(account: Account) -> None:
    """With no call under way, an account's limit that was guessed is what runs now, where that is seen."""
    budget = account.budget
    if not (budget.is_counted or budget.under_way or any(lane.is_blind for lane in account.lanes)):
        budget.recounted(-math.inf)


def learn_counted(lane: Lane, *, began_at: float, now: float) -> bool:
    """All that runs in a lane was counted; say whether that concerns all lanes of the account."""
    lane.wants_count = began_at < lane.budget.refused_at and lane.wants_count
    _resolve_suspicion(lane, now)
    lane.budget.recounted(began_at)
    return _judge_limits(lane)


def _resolve_suspicion(lane: Lane, now: float) -> None:
    """A refusal named no quota: where other lanes run more than this one, it was the account that was full."""
    account = lane.account
    if lane.suspects_account and lane.budget.running < max(_running(account.lanes)):
        lane.budget.limit, lane.budget.hidden, lane.budget.is_counted = account.per_membership, 0, True
        account.budget.refused(None, seen_at_start=0, left_at=lane.budget.refused_at, was_probe=False, now=now)
        learn_quiet(account)
    lane.suspects_account = False


def _running(lanes: Iterable[Lane]) -> Iterable[int]:
    return (each.budget.running for each in lanes)


def _judge_limits(lane: Lane) -> bool:
    """A limit that is still exceeded after a count was raised, and so was the one of the account's other lanes."""
    account, was = lane.account, lane.budget.limit
    concerns_all = False
    if was is not None and lane.budget.is_exceeded:
        concerns_all = True
        lane.budget.raised()
        account.per_membership = None
        for other in account.lanes:
            if other.budget.limit == was:
                other.budget.limit, other.budget.likely, other.budget.window = None, was, 1
    if account.budget.is_exceeded and not any(each.wants_count or each.is_looking for each in account.lanes):
        concerns_all = True
        account.budget.raised()
    return concerns_all
