"""A ledger state that packs decided jobs says of each job what the plain fold of its events says."""

import tracemalloc
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from batchsubmit.core.job_states import UNDECIDED, JobState, Phase, fold
from batchsubmit.core.jobs import (
    Absent,
    Duplicate,
    Intent,
    JobEvent,
    JobFinished,
    JobRejected,
    JobSubmitted,
    JobUnknown,
    Refused,
    key_text,
)
from batchsubmit.core.ledger_state import LedgerState

KEYS = [
    *(key_text(bytes([number]) * 16) for number in range(3)),
    "k",
    "a" * 26,
    "A" * 26,
    "a0" * 13,
    "a" * 25 + "\N{ARABIC-INDIC DIGIT ONE}",
    "b" * 26,
]
UUID = "0123abcd-4567-89ab-cdef-0123456789ab"
ARNS = [
    f"arn:x/{UUID}",
    f"arn:y/{UUID}",
    f"arn:x/{UUID.upper()}",
    f"arn:x/{UUID[:-1]}",
    "arn",
    "",
    UUID,
    f"arn:x/{UUID[::-1]}",
]
TIMES = ["2026-11-23T00:00:00.000000Z", "2026-11-23T23:59:59.999999Z", "2026-11-23T00:00:60.000001Z", "yesterday", ""]
texts = st.sampled_from(["", "a", "n\0ul", "é\U0001f600", "x" * 300])


@st.composite
def events(draw: st.DrawFn) -> JobEvent:
    """Any event of one of a few jobs, in no sensible order."""
    key = draw(st.sampled_from(KEYS))
    job = {"at": draw(st.sampled_from(TIMES)), "job": key, "membership": f"m{key[:1]}", "name": f"n{draw(texts)}"}
    attempt, arn = draw(st.integers(0, 3)), draw(st.sampled_from(ARNS))
    made: list[JobEvent] = [
        Intent(**job, attempt=attempt, trained_model=draw(texts)),
        JobSubmitted(**job, arn=arn, attempt=attempt, via="start"),
        Refused(**job, code=draw(texts), attempt=attempt),
        JobUnknown(**job, reason=draw(texts), attempt=attempt),
        Absent(**job, attempt=attempt),
        Duplicate(**job, arn=arn, of="arn"),
        JobRejected(**job, code=draw(texts), message=draw(texts), attempt=attempt),
        JobFinished(**job, arn=arn, status=draw(st.sampled_from(["ACTIVE", "CREATE_FAILED"])), message=draw(texts)),
    ]
    return draw(st.sampled_from(made))


@given(st.lists(events(), max_size=40))
def test_a_state_is_the_fold_of_its_events(history: list[JobEvent]) -> None:
    """Every job, every field, whatever can be packed and whatever cannot."""
    ledger, plain = LedgerState(), dict[str, JobState]()
    for event in history:
        ledger.apply(event)
        plain[event.job] = fold(plain.get(event.job), event)
    assert {key: ledger.get(key) for key in KEYS} == {key: plain.get(key) for key in KEYS}
    assert {state.job: state for state in ledger} == plain
    assert len(ledger) == len(plain)
    assert Counter(each.phase for each in ledger) == Counter(each.phase for each in plain.values())
    assert ledger.counts().total == len(plain)
    assert {state.job for state in ledger.undecided()} == {s.job for s in plain.values() if s.phase in UNDECIDED}
    claimed = {arn for state in plain.values() for arn in (state.arn, *state.duplicates)} & set(ARNS) - {""}
    claims = ledger.claims(set(ARNS) - {""})
    assert claims.keys() == claimed
    assert all(arn in (plain[key].arn, *plain[key].duplicates) for arn, key in claims.items())


@given(st.lists(events(), min_size=1, max_size=20), st.integers(0, 19))
def test_an_intent_that_was_not_written_is_taken_back(history: list[JobEvent], at: int) -> None:
    """The job stands as it did before, packed or not, or is unknown again."""
    ledger = LedgerState()
    for event in history:
        ledger.apply(event)
    job = history[at % len(history)].job
    before = ledger.get(job)
    intent = Intent(at=TIMES[0], job=job, membership="m", name="n", attempt=9, trained_model="model")
    ledger.apply(intent)
    assert (ledger.get(job) == before) is bool(before and before.arn)  # a job that is submitted stays so
    ledger.restore(job, before)
    assert ledger.get(job) == before
    ledger.restore(job, None)
    assert ledger.get(job) is None
    assert job not in {state.job for state in ledger}


def test_a_packed_state_keeps_every_field() -> None:
    """A field that is added to `JobState` must be packed too: here each has a value of its own."""
    values = {
        "job": KEYS[0],
        "membership": "m",
        "name": "n",
        "phase": Phase.FINISHED,
        "attempt": 3,
        "since": TIMES[1],
        "trained_model": "t",
        "arn": ARNS[0],
        "code": "c",
        "message": "é",
        "status": "ACTIVE",
        "logs": "l",
        "doubts": 2,
        "duplicates": (),
        "round": 2,
        "earlier": (ARNS[1],),
    }
    assert set(values) == set(JobState.__struct_fields__)
    state, ledger = JobState(**values), LedgerState()
    ledger.restore(state.job, state)
    assert ledger.get(state.job) == state


def test_an_arn_is_kept_letter_for_letter() -> None:
    """Also one that is nothing but a UUID, which is not made a path."""
    for arn in (UUID, f"/{UUID}", f"arn:aws:x/{UUID}", f"arn:aws:x/{UUID.upper()}", ""):
        state = JobState(
            job=KEYS[0], membership="m", name="n", phase=Phase.SUBMITTED, attempt=1, since=TIMES[1], arn=arn
        )
        ledger = LedgerState()
        ledger.restore(state.job, state)
        assert ledger.get(state.job) == state


def test_a_decided_job_takes_little_memory() -> None:
    """A million of them must fit beside all else; as objects they would take a gigabyte."""
    ledger = LedgerState()
    tracemalloc.start()
    for number in range(10_000):
        job = {"at": TIMES[0], "job": key_text(number.to_bytes(16, "big")), "membership": "m", "name": f"job-{number}"}
        ledger.apply(Intent(**job, attempt=1, trained_model="model"))
        ledger.apply(JobSubmitted(**job, arn=f"arn:x/{number:08}{UUID[8:]}", attempt=1, via="start"))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(ledger) == 10_000
    assert taken < 10_000 * 320
