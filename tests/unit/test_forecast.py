"""The one estimate of when a batch will be done: honest intervals, slots, the rate of starts, and what ledgers tell."""

import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from statistics import fmean, pstdev

import msgspec
import pytest

from batchsubmit.clock import timestamp
from batchsubmit.core.job_durations import RunTimes
from batchsubmit.core.jobs import Event, Intent, JobFinished, JobRejected, JobSubmitted, RunEnded, RunStarted, Share
from batchsubmit.forecast import (
    Finish,
    JobClass,
    LaneWork,
    RunHistory,
    SlotCounts,
    assumed_times,
    draw,
    forecast,
    lanes_of,
)

BEGIN = datetime(2026, 11, 23, tzinfo=UTC)
KIND = JobClass("model", "ml.m5.xlarge")
HOUR = assumed_times(3600.0, doubt=0.0, spread=0.0)


def lanes(count: int, *, number: int = 2, running: tuple[float, ...] = ()) -> list[LaneWork]:
    """So many jobs in some memberships of one account, each with jobs of these ages running."""
    return [
        LaneWork(waiting=Counter({KIND: count // number}), running=[(KIND, age) for age in running])
        for _ in range(number)
    ]


def drawn(dice: Random, count: int) -> list[float]:
    """Log-normal times around half an hour."""
    return [dice.lognormvariate(math.log(1800), 0.35) for _ in range(count)]


def seen(seconds: list[float], *, cut: list[float] | None = None) -> RunTimes:
    """RunTimes of jobs that have ended, and of some that were cut short."""
    times = RunTimes()
    for each in seconds:
        times.add(KIND, each)
    for each in cut or ():
        times.add(KIND, each, ended=False)
    return times


def means(times: RunTimes) -> list[float]:
    """The mean job of each of many beliefs."""
    dice = Random(3)
    return [fmean(draw(times, times.known_class(KIND), dice)) for _ in range(300)]


def finish(
    work: list[LaneWork], times: RunTimes, *, per_membership: int = 5, per_account: int = 10, per_second: float = 0.0
) -> Finish:
    """An estimate that must be there."""
    quotas = SlotCounts(per_membership=per_membership, per_account=per_account)
    found = forecast(work, quotas, times, per_second=per_second)
    assert found is not None
    return found


def at_best(seconds: list[float], slots: int) -> float:
    """When the last of these jobs ends if each takes the first slot that is free."""
    ends = [0.0] * slots
    for each in seconds:
        ends.sort()
        ends[0] += each
    return max(ends)


@pytest.mark.parametrize("history", [5, 30, 200])
def test_the_interval_is_honest_however_many_jobs_were_seen(history: int) -> None:
    """Over many batches about four times in five, whatever the doubt; too wide would be as wrong."""
    inside = 0
    for seed in range(60):
        dice = Random(9_000 + seed)
        estimate = finish(lanes(60), seen(drawn(dice, history)))
        truth = 1.02 * at_best(drawn(dice, 60), 10)
        inside += estimate.low_seconds <= truth <= estimate.high_seconds
    assert 40 <= inside <= 57


def test_a_million_jobs_take_as_long_as_their_work_needs_on_the_slots() -> None:
    """A minute each on ten slots: 100,000 minutes, and a little for each turn."""
    estimate = finish(lanes(1_000_000), assumed_times(60.0, doubt=0.0, spread=0.0))
    assert estimate.seconds == pytest.approx(6_000_000, rel=0.05)


def test_an_uneven_batch_waits_for_the_slots_of_its_largest_membership() -> None:
    """Five slots do nearly all of the work, however many the account has."""
    work = [LaneWork(waiting=Counter({KIND: 1000})), LaneWork(waiting=Counter({KIND: 10}))]
    assert finish(work, HOUR).seconds == pytest.approx(200 * 3600, rel=0.06)


def test_jobs_that_run_now_delay_the_rest() -> None:
    """Ten running jobs of an hour, just begun, hold all slots."""
    assert finish(lanes(10), HOUR).seconds == pytest.approx(3600, rel=0.1)
    assert finish(lanes(10, running=(0.0,) * 5), HOUR).seconds == pytest.approx(7200, rel=0.1)


def test_a_batch_of_which_only_running_jobs_are_left_ends_with_them() -> None:
    """Nothing is to do, but it is not done."""
    assert finish(lanes(0, running=(600.0,)), HOUR).seconds == pytest.approx(3000, rel=0.1)


def test_what_a_running_job_still_needs_depends_on_its_age() -> None:
    """A young one needs about a whole job, an old one a little more of its age."""
    times = seen(drawn(Random(1), 100))
    young, old = (finish(lanes(0, number=1, running=(age,)), times).seconds for age in (0.0, 36_000.0))
    assert 1000 < young < 2700
    assert 0 < old < 7200


def test_short_jobs_wait_for_the_rate_of_starts() -> None:
    """A hundred jobs of a second at one call a second, of which the first three come at once."""
    work, times = lanes(100), assumed_times(1.0, doubt=0.0, spread=0.0)
    assert finish(work, times, per_second=1.0).seconds == pytest.approx(98, rel=0.1)
    assert finish(work, times).seconds < 15
    assert finish(lanes(100_000), times, per_second=1.0).seconds == pytest.approx(100_000, rel=0.1)


def test_nothing_to_do_is_done_now_and_nothing_known_is_no_estimate() -> None:
    """A batch of which no job has ended may take any time."""
    assert finish([], RunTimes()).seconds == 0
    assert forecast(lanes(10), SlotCounts(), RunTimes()) is None
    assert forecast(lanes(10), SlotCounts(), seen([], cut=[25.0])) is None


def test_the_same_question_has_the_same_answer() -> None:
    """Whoever asks."""
    times = seen(drawn(Random(1), 30))
    assert forecast(lanes(20), SlotCounts(), times) == forecast(lanes(20), SlotCounts(), times)


def test_each_process_has_the_same_answer() -> None:
    """Plan and watch are two: nothing may depend on how Python orders a set of strings."""
    program = (
        "from batchsubmit.forecast import *; times = RunTimes()\n"
        "for n in range(40): times.add(JobClass(f'model {n % 4}'), 60.0 + n)\n"
        "waiting = Counter({JobClass(f'model {n}'): 30 for n in range(4)})\n"
        "print(forecast([LaneWork(waiting=waiting) for _ in 'ab'], SlotCounts(), times))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in "123"
    }
    assert len(told) == 1


def test_the_fewer_jobs_were_seen_the_more_beliefs_differ() -> None:
    """The doubt is the standard error of what was seen, never less than that of a few."""
    few, some, many = (pstdev(means(seen(drawn(Random(count), count)))) for count in (3, 30, 300))
    assert few > 1.5 * some > 2 * many > 0
    assert pstdev(means(seen([60.0] * 3))) > 5  # equal times of a few do not prove that all are equal


def test_jobs_cut_short_make_the_expectation_longer() -> None:
    """Half of the jobs still ran when someone looked last: their times are longer than what was seen of them."""
    ends = [float(seconds) for seconds in range(1, 51)]
    assert fmean(means(seen(ends, cut=[25.0] * 50))) > fmean(means(seen(ends))) + 5


def test_a_word_on_the_mean_is_taken_with_a_doubt() -> None:
    """About a sixth."""
    believed = means(assumed_times(1800.0))
    assert fmean(believed) == pytest.approx(1800, rel=0.05)
    assert 0.1 < pstdev(believed) / 1800 < 0.2


def test_a_kind_of_jobs_is_judged_by_its_own_else_by_its_model_else_by_all() -> None:
    """From three of its own on."""
    times = RunTimes()
    for kind, count in ((JobClass("a", "large"), 3), (JobClass("a", "small"), 2), (JobClass("b", "small"), 2)):
        for _ in range(count):
            times.add(kind, 60.0)
    assert times.known_class(JobClass("a", "large")) == JobClass("a", "large")
    assert times.known_class(JobClass("a", "small")) == JobClass("a")
    assert times.known_class(JobClass("b", "small")) == JobClass()


def at(seconds: float) -> str:
    """A moment of the ledger."""
    return timestamp(BEGIN + timedelta(seconds=seconds))


def run(*work: Share, to_do: int | None = None, **told: int) -> RunStarted:
    """The beginning of a run with this work."""
    told["to_do"] = sum(share.jobs for share in work) if to_do is None else to_do
    name = {"run": "r", "batch": "", "manifest": "m", "manifest_sha256": "0", "version": "1", "holder": "h"}
    return RunStarted(at=at(0), **name, work=work, **told)


def begun(job: str, intended: float, submitted: float, *, via: str = "start") -> Iterator[Event]:
    """A job's way to its acceptance."""
    stamp = {"job": job, "membership": "a", "name": job}
    yield Intent(at=at(intended), **stamp, attempt=1, trained_model="model", instance_type="ml.m5.xlarge")
    yield JobSubmitted(at=at(submitted), **stamp, arn=f"arn:{job}", attempt=1, via=via)


def ended(job: str, seen_at: float, *, of_service: float | None = None) -> Event:
    """A job's end."""
    told = at(of_service) if of_service is not None else ""
    arn = f"arn:{job}"
    return JobFinished(
        at=at(seen_at), job=job, membership="a", name=job, arn=arn, status="ACTIVE", message="", ended=told
    )


def read(*events: Event) -> RunHistory:
    """Read one ledger."""
    progress = RunHistory()
    for event in events:
        progress.apply(event)
    return progress


def test_a_job_s_time_is_from_its_acceptance_to_its_own_end() -> None:
    """The service's own time where it is there, else when the end was seen."""
    progress = read(*begun("a", 0, 1), *begun("b", 0, 0.5), ended("a", 100, of_service=61), ended("b", 100))
    assert progress.times().ended() == [60.0, 99.5]
    assert progress.running(BEGIN, RunTimes()) == {}


def test_a_service_whose_clock_is_behind_is_not_believed() -> None:
    """No job ends before it begins."""
    assert read(*begun("a", 0, 100), ended("a", 110, of_service=50)).times().ended() == [10.0]


def test_a_job_that_was_found_by_a_lookup_began_with_its_intent() -> None:
    """It was found later than it was accepted."""
    assert read(*begun("a", 0, 50, via="lookup"), ended("a", 60)).times().ended() == [60.0]


def test_a_job_without_an_end_ran_at_least_until_the_last_look() -> None:
    """And is taken to run until it would be half as old again as the longest that was seen."""
    progress = read(*begun("a", 0, 1), *begun("b", 0, 1), ended("b", 31), *begun("c", 40, 41))
    times = progress.times()
    assert fmean(means(times)) > 30
    assert progress.running(BEGIN + timedelta(seconds=43), seen([30.0])) == {"a": [(KIND, 42.0), (KIND, 2.0)]}
    assert progress.running(BEGIN + timedelta(seconds=50), seen([30.0])) == {"a": [(KIND, 9.0)]}


def test_what_waits_counts_down_as_jobs_are_decided() -> None:
    """The begin of a run tells what is to do; what was judged by a sample of the rows may be of another kind."""
    work = Share("a", "model", "ml.m5.xlarge", 1), Share("a", "other", "", 2)
    failed = JobRejected(at=at(3), job="c", membership="a", name="c", code="X", message="", attempt=1)
    intent, _ = begun("c", 2, 3)
    events = [run(*work), *begun("a", 0, 1), ended("a", 61), *begun("b", 61, 62), ended("b", 122), intent, failed]
    done = read(*events).finish(BEGIN + timedelta(seconds=122))
    assert done is not None
    assert done.seconds == 0
    less = read(*events[:-2]).finish(BEGIN + timedelta(seconds=122))
    assert less is not None
    assert less.seconds == pytest.approx(60, rel=0.6)


def test_the_run_of_an_earlier_version_has_no_estimate() -> None:
    """It does not tell its work."""
    progress = read(run(to_do=25), *begun("a", 0, 1), ended("a", 61))
    assert progress.finish(BEGIN + timedelta(seconds=61)) is None


def test_a_worker_s_ledger_has_no_end_to_expect() -> None:
    """More may come from its queue at any time."""
    worker = msgspec.structs.replace(run(), manifest_sha256="")
    jobs = [*begun("a", 0, 1), ended("a", 61), *begun("b", 61, 62)]
    assert read(worker, *jobs).finish(BEGIN + timedelta(seconds=70)) is None
    assert read(run(), *jobs).finish(BEGIN + timedelta(seconds=70)) is not None


def test_quotas_are_those_set_else_learned_else_aws_s_and_what_runs_is_allowed() -> None:
    """And it is said where they are assumed."""
    end = RunEnded(at=at(9), run="r", exit_status=0, reason="", counts={}, quotas={"a": 3, "account": 20})
    progress = read(run(Share("a", "model", "", 1)), end)
    here = lanes_of({("a", KIND): 1}, {})
    assert progress.slots(here, per_membership=0, per_account=0) == (
        SlotCounts(per_membership=3, per_account=20),
        False,
    )
    assert progress.slots(here, per_membership=7, per_account=8) == (SlotCounts(per_membership=7, per_account=8), False)
    crowded = lanes_of({}, {"b": [(KIND, 1.0)] * 12})
    assert read().slots(crowded, per_membership=0, per_account=0) == (
        SlotCounts(per_membership=12, per_account=12),
        True,
    )


def test_a_display_s_words_are_made_every_few_seconds_only() -> None:
    """Its picture is drawn more often."""
    progress = read(run(Share("a", "model", "ml.m5.xlarge", 10)), *begun("a", 0, 1), ended("a", 61))
    first = progress.words(BEGIN + timedelta(seconds=61))
    assert first.startswith("ETA ")
    for event in begun("b", 61, 62):
        progress.apply(event)
    assert progress.words(BEGIN + timedelta(seconds=64)) is first
    assert progress.words(BEGIN + timedelta(seconds=75)) is not first
