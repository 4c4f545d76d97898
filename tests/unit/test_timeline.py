"""A ledger's events as one record a job: state, timeline, and what each second was waited for."""

import pytest
from sample_ledgers import MEMBERSHIPS, Night, Story

from batchsubmit.core.job_states import Phase
from batchsubmit.core.jobs import Duplicate, JobSubmitted
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.report.timeline import History, Timeline
from batchsubmit.report.waits import Cause


def told(story: Story) -> dict[str, History]:
    """The histories of a story by name."""
    return {history.state.name: history for history in Timeline.of(story.events).histories()}


def waited(history: History) -> dict[str, float]:
    """The causes that cost anything."""
    return {str(cause): round(seconds, 3) for cause, seconds in history.waited.items() if seconds > 0.001}


@pytest.fixture
def story() -> Story:
    """A run that has just begun."""
    story = Story()
    story.run(0)
    return story


def test_a_job_has_its_times_and_its_duration(story: Story) -> None:
    """First intent, acceptance, end."""
    story.intent(1, "a")
    story.accepted(2, "a")
    story.finished(62, "a")
    history = told(story)["a"]
    assert history.state.phase is Phase.FINISHED
    assert history.seconds == 60
    assert history.accepted_at is not None
    assert history.first_intent_at == history.accepted_at - 1


def test_after_a_refusal_by_the_quota_the_job_waits_for_the_quota(story: Story) -> None:
    """Until its next intent; the calls themselves are no wait."""
    story.intent(0, "a")
    story.refused(1, "a")
    story.intent(31, "a", 2)
    story.accepted(32, "a", 2)
    assert waited(told(story)["a"]) == {"quota": 30}


@pytest.mark.parametrize(
    ("cause", "waited_for"),
    [
        ("slots", "quota"),
        ("other_quota", "quota"),
        ("throttled", "throttling"),
        ("conflict", "retry"),
        ("one of a later version", "retry"),
        ("", "retry"),
    ],
)
def test_what_a_job_waits_for_is_the_cause_of_its_refusal_whatever_the_code(
    story: Story, cause: str, waited_for: str
) -> None:
    """A 402 without a code is about a quota all the same."""
    story.intent(0, "a")
    story.refused(1, "a", "402", cause=cause)
    story.intent(5, "a", 2)
    story.accepted(6, "a", 2)
    assert waited(told(story)["a"]) == {waited_for: 4}


def test_what_an_answer_takes_beyond_the_fastest_call_is_the_rate_s(story: Story) -> None:
    """The gate lets calls through one by one."""
    story.intent(0, "a")
    story.accepted(0.25, "a")
    story.intent(0, "b")
    story.accepted(3.25, "b")
    histories = told(story)
    assert waited(histories["a"]) == {}
    assert waited(histories["b"]) == {"rate": 3}


def test_a_call_without_an_answer_and_its_lookup_are_one_wait(story: Story) -> None:
    """From the intent until it is found out."""
    story.intent(0, "a")
    story.unknown(60, "a")
    story.absent(120, "a")
    story.intent(120, "a", 2)
    story.unknown(180, "a", 2)
    story.accepted(200, "a", 2, via="lookup")
    assert waited(told(story)["a"]) == {"lookup": 200}


def test_the_wait_before_the_first_intent_is_the_quota_s_once_the_lane_is_full(story: Story) -> None:
    """Ten seconds for a turn, then for a slot."""
    story.intent(10, "a")
    story.refused(10, "a")
    story.intent(100, "b")
    story.accepted(100, "b")
    assert waited(told(story)["b"]) == {"rate": 10, "quota": 90}


def test_a_full_lane_says_nothing_of_another_membership(story: Story) -> None:
    """Its jobs wait for their turn only."""
    story.intent(0, "a")
    story.refused(0, "a")
    story.membership = MEMBERSHIPS[1]
    story.intent(50, "b")
    story.accepted(50, "b")
    assert waited(told(story)["b"]) == {"rate": 50}


@pytest.mark.parametrize("name", [MEMBERSHIPS[0], "account"])
def test_a_learned_quota_tells_when_the_lane_is_full(story: Story, name: str) -> None:
    """No refusal is needed; a quota of the account counts for every lane."""
    story.quotas = {name: 1}
    story.end(0)
    story.run(0, "r2")
    story.intent(5, "a")
    story.accepted(5, "a")
    story.intent(65, "b")
    story.accepted(65, "b")
    assert waited(told(story)["b"]) == {"rate": 5, "quota": 60}


def test_what_a_run_learned_by_its_end_tells_of_its_whole_course(story: Story) -> None:
    """The quotas stand in its last line."""
    story.intent(5, "a")
    story.accepted(5, "a")
    story.intent(65, "b")
    story.accepted(65, "b")
    assert waited(told(story)["b"]) == {"rate": 65}
    story.quotas = {MEMBERSHIPS[0]: 1, "account": 10}
    story.end(70)
    timeline = Timeline.of(story.events)
    assert waited(list(timeline.histories())[1]) == {"rate": 5, "quota": 60}
    assert [run.quotas for run in timeline.runs] == [{MEMBERSHIPS[0]: 1, "account": 10}]


def test_until_a_quota_is_known_aws_s_default_tells_when_a_lane_is_full(story: Story) -> None:
    """Five of a membership; but not where more ran, for then it cannot have been five."""
    for number in range(5):
        story.intent(10, f"n{number}")
        story.accepted(10, f"n{number}")
    story.intent(50, "later")
    assert waited(told(story)["later"]) == {"rate": 10, "quota": 40}
    story.accepted(50, "later")
    assert waited(told(story)["later"]) == {"rate": 50}


def test_the_service_s_own_time_of_a_job_s_end_counts(story: Story) -> None:
    """Not the time at which it was seen."""
    story.intent(1, "a")
    story.accepted(2, "a")
    story.finished(90, "a", ended=62)
    assert told(story)["a"].seconds == 60


def test_nobody_waits_between_runs(story: Story) -> None:
    """A night's pause is not the quota's."""
    story.intent(1, "a")
    story.refused(1, "a")
    story.end(11)
    story.run(10_000, "r2")
    story.intent(10_005, "a", 2)
    story.accepted(10_005, "a", 2)
    story.intent(10_005, "b")
    story.accepted(10_005, "b")
    histories = told(story)
    assert waited(histories["a"]) == {"rate": 1, "quota": 15}
    assert waited(histories["b"]) == {"rate": 6, "quota": 10}


def test_an_open_wait_counts_up_to_the_last_event_and_may_be_read_twice(story: Story) -> None:
    """A report of a running ledger."""
    story.intent(0, "a")
    story.refused(0, "a")
    story.intent(40, "b")
    timeline = Timeline.of(story.events)
    for _ in range(2):
        history = next(iter(timeline.histories()))
        assert waited(history) == {"quota": 40}


def test_a_worker_s_run_does_not_tell_when_jobs_began_to_wait() -> None:
    """It has no manifest, and no wait is invented."""
    story = Story()
    story.run(0, manifest_sha256="", manifest="queue")
    story.intent(1000, "a")
    story.accepted(1000, "a")
    assert waited(told(story)["a"]) == {}


def test_jobs_keep_the_order_of_their_first_event_and_their_batch() -> None:
    """Also those that later runs touch."""
    story = Story()
    story.run(0, batch="one")
    story.failed(1, "a")
    story.run(2, "r2", batch="two")
    story.intent(3, "b")
    story.intent(3, "a")
    timeline = Timeline.of(story.events)
    assert [(each.state.name, each.batch) for each in timeline.histories()] == [
        ("a", "one"),
        ("b", "two"),
    ]


def test_a_record_ends_as_the_book_does() -> None:
    """Packed or not, a job stands where `job_states.fold` says."""
    events = list(Night(jobs=300, until_seconds=9000, hostile=("a\u2028b", "\U0001f600/")).events())
    job = next(event for event in events if isinstance(event, JobSubmitted))
    members = {name: getattr(job, name) for name in ("at", "job", "membership", "name")}
    events += [Duplicate(**members, arn=f"d/{number}", of="x") for number in range(2)]
    book = LedgerState()
    for event in events:
        book.apply(event)
    states = {history.state.job: history.state for history in Timeline.of(events).histories()}
    assert states == {state.job: state for state in book}


def test_every_second_before_acceptance_has_one_cause() -> None:
    """What is waited and called adds up to the time since the run began."""
    timeline = Timeline.of(Night(jobs=400).events())
    began = timeline.runs[0].began_at
    for history in timeline.histories():
        if history.accepted_at is not None:
            calls = history.state.attempt * 0.5
            total = sum(history.waited.values())
            assert total <= history.accepted_at - began + 0.001
            assert total >= history.accepted_at - began - calls
        assert min(history.waited.values()) >= 0
    assert {cause for history in timeline.histories() for cause in history.waited} == set(Cause)
