"""Whatever happens to a job, what may be done with it follows the same few rules."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from batchsubmit.core.job_states import UNDECIDED, Action, JobState, Retry, decide, fold
from batchsubmit.core.jobs import Absent, Intent, JobEvent, JobFinished, JobRejected, JobSubmitted, JobUnknown, Refused
from batchsubmit.core.ledger_state import LedgerState

JOB = {"at": "2026-11-23T00:00:00.000000Z", "job": "k", "membership": "m", "name": "n"}


@st.composite
def lives(draw: st.DrawFn) -> list[JobEvent]:
    """Lives of a job as runs, crashes and lookups write them."""
    events: list[JobEvent] = []
    for attempt in range(1, draw(st.integers(1, 6)) + 1):
        events.append(Intent(**JOB, attempt=attempt, trained_model=f"model-{attempt}"))
        doubt: list[JobEvent] = draw(st.sampled_from([[], [JobUnknown(**JOB, reason="lost", attempt=attempt)]]))
        events += doubt
        end = draw(st.sampled_from(["submitted", "failed", "again", "crash"]))
        if end == "submitted":
            via = "lookup" if doubt else "start"
            events.append(JobSubmitted(**JOB, arn=f"arn-{attempt}", attempt=attempt, via=via))
            if draw(st.booleans()):
                status = draw(st.sampled_from(["ACTIVE", "CREATE_FAILED"]))
                events.append(JobFinished(**JOB, arn=f"arn-{attempt}", status=status, message=""))
            break
        if end == "failed" and not doubt:
            events.append(JobRejected(**JOB, code="c", message="", attempt=attempt))
            break
        if end == "crash":
            break
        events.append(Absent(**JOB, attempt=attempt) if doubt else Refused(**JOB, code="c", attempt=attempt))
    return events


def state_of(events: list[JobEvent]) -> JobState | None:
    """The fold of a life."""
    state: JobState | None = None
    for event in events:
        state = fold(state, event)
    return state


@given(lives())
def test_a_job_is_sent_only_when_its_last_attempt_is_proven_not_accepted(events: list[JobEvent]) -> None:
    """At every moment of its life, for a killed run ends at any of them."""
    for count in range(len(events) + 1):
        seen = events[:count]
        may_send = decide(state_of(seen)) is Action.SUBMIT
        assert may_send == (not seen or isinstance(seen[-1], Refused | Absent))


@given(lives())
def test_an_intent_without_an_answer_is_always_undecided(events: list[JobEvent]) -> None:
    """And looked up, whatever the user says of failed jobs."""
    for count in range(1, len(events) + 1):
        state = state_of(events[:count])
        assert state is not None
        if isinstance(events[count - 1], Intent | JobUnknown):
            assert state.phase in UNDECIDED
            assert decide(state, retry=Retry()) is Action.LOOK_UP
        else:
            assert state.phase not in UNDECIDED


@given(lives())
def test_an_attempt_number_and_an_arn_are_never_forgotten(events: list[JobEvent]) -> None:
    """The next attempt counts on, the cancel command needs the ARN."""
    state = state_of(events)
    assert state is not None
    assert state.attempt == max(getattr(event, "attempt", 0) for event in events)
    assert state.arn == next((event.arn for event in events if isinstance(event, JobSubmitted)), "")
    assert state.trained_model == f"model-{state.attempt}"


@given(st.lists(lives(), max_size=6), st.randoms(use_true_random=False))
def test_jobs_do_not_touch_one_another(all_lives: list[list[JobEvent]], random: Random) -> None:
    """However their events are interleaved in the ledger."""
    book = LedgerState()
    left = {str(number): list(life) for number, life in enumerate(all_lives)}
    while left:
        key = random.choice(sorted(left))
        event = left[key].pop(0)
        book.apply(type(event)(**{**{name: getattr(event, name) for name in event.__struct_fields__}, "job": key}))
        if not left[key]:
            del left[key]
    for number, life in enumerate(all_lives):
        alone, together = state_of(life), book.get(str(number))
        assert alone is not None
        assert together is not None
        assert (together.phase, together.attempt, together.arn) == (alone.phase, alone.attempt, alone.arn)
    assert book.counts().total == len(all_lives)
