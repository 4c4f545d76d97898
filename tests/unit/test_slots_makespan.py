"""How well slots are used over hours and days: engine, poller and slots as they are, in virtual time."""

from statistics import median

import pytest
from memory_cleanrooms import Disturbance
from slot_trial import GET, HALF_AN_HOUR, LIST, MINUTE, A, B, C, SlotTrial, membership, trial
from structlog.testing import capture_logs
from virtual_time import virtual_loop

from batchsubmit.config import SlotSettings
from batchsubmit.core.jobs import Denied

DEFAULTS = SlotSettings()
TEN_MINUTES = SlotSettings(max_poll_seconds=10 * MINUTE)
QUOTAS = {"per_membership": 5, "per_account": 10}
HANDFUL = 6

both_kinds = pytest.mark.parametrize("tells_quota", [True, False], ids=["told", "bare"])
"""A 402 with quotaName and quotaValue, and one without."""


@both_kinds
def test_a_hundred_jobs_take_hardly_longer_than_the_best_schedule(*, tells_quota: bool) -> None:
    """Half an hour each, log-normal: at most 1.02 of the oracle, 0.05 refused Starts and 30 calls in all a job."""
    done = trial([A, B] * 50, DEFAULTS, tells_quota=tells_quota, **QUOTAS)
    assert done.makespan <= 1.02 * done.oracle(**QUOTAS)
    assert done.refused <= 0.05 * 100
    assert done.calls_a_job <= 30
    assert done.service.calls[LIST].total() <= 0.2 * 100


def test_the_same_seed_gives_the_same_run() -> None:
    """To the last call."""
    runs = [trial([A, B] * 20, DEFAULTS, seed=7, **QUOTAS) for _ in range(2)]
    assert runs[0].ours == runs[1].ours
    assert runs[0].calls_a_job == runs[1].calls_a_job


@both_kinds
def test_the_order_of_the_manifest_does_not_matter(*, tells_quota: bool) -> None:
    """Three memberships in blocks and in turn: the same finish, and no lane's slots idle while it has rows."""
    blocks = trial([A] * 20 + [B] * 20 + [C] * 20, DEFAULTS, tells_quota=tells_quota, **QUOTAS)
    turns = trial([A, B, C] * 20, DEFAULTS, tells_quota=tells_quota, **QUOTAS)
    assert blocks.makespan == pytest.approx(turns.makespan, rel=0.05)
    last_begun = max(begin for _, begin, _ in blocks.ours)
    assert blocks.used(10, MINUTE, last_begun) > 0.97
    for moment in range(60, int(last_begun * 0.8), 600):
        shares = [blocks.held(moment, home) for home in (A, B, C)]
        assert min(shares) >= 2


@both_kinds
def test_an_account_of_ten_slots_is_shared_by_six_memberships_without_vain_calls(*, tells_quota: bool) -> None:
    """None of them is full: which quota refuses is found out by a List, also where nobody says its name.

    The median of three runs: where nobody says it, one run in eight takes a job that ends meanwhile for a slot more.
    """
    done = [
        trial(
            [membership(number % 6 + 1) for number in range(60)],
            DEFAULTS,
            seed=seed,
            tells_quota=tells_quota,
            **QUOTAS,
        )
        for seed in (1, 2, 3)
    ]
    assert min(each.used(10, MINUTE, max(begin for _, begin, _ in each.ours)) for each in done) > 0.97
    assert median(each.refused for each in done) <= 0.1 * 60
    assert max(each.calls_a_job for each in done) <= 32


@both_kinds
def test_a_raised_quota_is_used_within_two_of_the_longest_intervals(*, tells_quota: bool) -> None:
    """From five slots to twenty."""
    with virtual_loop() as loop:
        run = SlotTrial(loop, TEN_MINUTES, tells_quota=tells_quota, per_membership=5, per_account=0)
        run.at(5000, lambda: run.quotas(per_membership=20, per_account=0))
        run.submit([A] * 100)
    assert run.held(4900) == 5
    assert run.held(5000 + 20 * MINUTE) >= 19


@both_kinds
def test_a_lowered_quota_costs_no_more_than_a_handful_of_refusals(*, tells_quota: bool) -> None:
    """From five to two, beside the single tries that look for a raised one."""
    with virtual_loop() as loop:
        run = SlotTrial(
            loop, SlotSettings(max_poll_seconds=1e6), tells_quota=tells_quota, per_membership=5, per_account=0
        )
        run.at(5000, lambda: run.quotas(per_membership=2, per_account=0))
        learned = run.count_refusals_from(5000)
        run.submit([A] * 50)
    assert learned() <= HANDFUL
    assert run.used(2, 8000, max(begin for _, begin, _ in run.ours)) > 0.95


def test_a_quota_that_falls_far_without_a_word_costs_a_refusal_each_time_that_time_has_doubled() -> None:
    """Not one for each of the many jobs that end meanwhile."""
    with virtual_loop() as loop:
        run = SlotTrial(loop, SlotSettings(max_poll_seconds=1e6), tells_quota=False, per_membership=40, per_account=0)
        run.at(5000, lambda: run.quotas(per_membership=2, per_account=0))
        learned = run.count_refusals_from(5000)
        run.submit([A] * 140)
    assert learned() <= 3 * HANDFUL


@both_kinds
def test_jobs_of_others_are_yielded_to_and_their_slots_used_when_they_go(*, tells_quota: bool) -> None:
    """Three of five slots, in the same membership."""
    with virtual_loop() as loop:
        run = SlotTrial(loop, TEN_MINUTES, tells_quota=tells_quota, per_membership=5, per_account=0)
        others = run.others_take(3, A, since=4000, until=15_000)
        run.submit([A] * 60)
    assert len(others) == 3
    assert run.held(14_900) == 2
    assert run.held(15_000 + 20 * MINUTE) == 5
    assert run.used(2, 9000, 14_900) > 0.95
    assert run.refused < 0.5 * 60


@both_kinds
def test_jobs_of_others_in_memberships_that_nobody_sees_are_yielded_to_as_well(*, tells_quota: bool) -> None:
    """Four of the account's ten slots: tried by single calls at growing intervals, and found when they are free."""
    with virtual_loop() as loop:
        run = SlotTrial(loop, TEN_MINUTES, tells_quota=tells_quota, **QUOTAS)
        others = run.others_take(4, C, since=4000, until=20_000)
        run.submit([A, B] * 50)
    assert len(others) == 4
    assert run.used(6, 10_000, 19_900) > 0.9
    assert run.held(20_000 + 20 * MINUTE) >= 9
    assert run.refused < 1.5 * 100


def test_a_quota_that_others_use_up_is_told_and_not_hammered() -> None:
    """All five slots, in a membership where nothing of ours runs, from before the run began; for two hours."""
    with virtual_loop() as loop, capture_logs() as logs:
        run = SlotTrial(loop, TEN_MINUTES, per_membership=0, per_account=5)
        taken = run.others_start(5, C)
        shown: list[str] = []
        run.at(3600, lambda: shown.extend(run.slots.held_by_others().values()))
        run.at(7200, lambda: run.others_cancel(taken))
        refused = run.count_refusals_from(7200)
        run.submit([A] * 10)
    assert shown == ["5 of 5"]
    [warning] = [each for each in logs if each["event"] == "slots.held_by_others"]
    assert (warning["log_level"], warning["membership"], warning["slots"]) == ("warning", None, "5 of 5")
    assert run.refused - refused() < 30
    assert run.held(7200 + 20 * MINUTE) == 5
    assert run.slots.held_by_others() == {}


def test_where_nothing_may_be_polled_the_slots_are_used_all_the_same() -> None:
    """By single tries, most of the time."""
    with virtual_loop() as loop:
        run = SlotTrial(loop, SlotSettings(max_poll_seconds=2 * MINUTE), **QUOTAS)
        forbidden = Disturbance(Denied("AccessDeniedException", "no"))
        run.troubles = {LIST: forbidden, GET: forbidden}
        run.submit([A, B] * 30)
    assert run.used(10, MINUTE, max(begin for _, begin, _ in run.ours)) > 0.9


def test_followed_jobs_are_all_seen_to_end_by_few_calls() -> None:
    """`--wait`: also those that run when nothing is left to submit."""
    run = trial([A, B] * 20, DEFAULTS, follows=True, **QUOTAS)
    assert run.ends == 40
    assert run.calls_a_job <= 30
    assert run.service.calls[LIST].total() > 0
    assert run.sent < run.makespan + HALF_AN_HOUR
