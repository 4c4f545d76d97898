"""A book that packs settled jobs says of each job what the plain fold of its events says."""

from hypothesis import given
from hypothesis import strategies as st

from batchsubmit.book import Book
from batchsubmit.book.digests import DIGEST_BYTES, DigestTable, digest_of
from batchsubmit.book.settled import SettledJobs
from batchsubmit.jobs import (
    Absent,
    Duplicate,
    Finished,
    Intent,
    JobEvent,
    JobRejected,
    Refused,
    Submitted,
    Unknown,
    key_text,
)
from batchsubmit.states import UNDECIDED, JobState, Phase, fold

SETTLED = {Phase.SUBMITTED, Phase.FAILED, Phase.FINISHED}
digests = st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES)
few_digests = [bytes([number]) * DIGEST_BYTES for number in range(3)]
KEYS = [
    *map(key_text, few_digests),
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
        Submitted(**job, arn=arn, attempt=attempt, via="start"),
        Refused(**job, code=draw(texts), attempt=attempt),
        Unknown(**job, reason=draw(texts), attempt=attempt),
        Absent(**job, attempt=attempt),
        Duplicate(**job, arn=arn, of="arn"),
        JobRejected(**job, code=draw(texts), message=draw(texts), attempt=attempt),
        Finished(**job, arn=arn, status=draw(st.sampled_from(["ACTIVE", "CREATE_FAILED"])), message=draw(texts)),
    ]
    return draw(st.sampled_from(made))


@given(st.lists(events(), max_size=40))
def test_a_book_is_the_fold_of_its_events(history: list[JobEvent]) -> None:
    """Every job, every field, whatever can be packed and whatever cannot."""
    book, plain = Book(), dict[str, JobState]()
    for event in history:
        book.apply(event)
        plain[event.job] = fold(plain.get(event.job), event)
    assert {key: book.get(key) for key in KEYS} == {key: plain.get(key) for key in KEYS}
    assert {state.job: state for state in book} == plain
    assert len(book) == len(plain)
    assert book.counts() == {phase: sum(s.phase is phase for s in plain.values()) for phase in book.counts()}
    assert sum(book.counts().values()) == len(plain)
    assert {state.job for state in book.undecided()} == {s.job for s in plain.values() if s.phase in UNDECIDED}
    claimed = {arn for state in plain.values() for arn in (state.arn, *state.duplicates)} & set(ARNS) - {""}
    claims = book.claims(set(ARNS) - {""})
    assert claims.keys() == claimed
    assert all(arn in (plain[key].arn, *plain[key].duplicates) for arn, key in claims.items())
    for digest in few_digests:
        phase = book.phase(digest)
        state = plain.get(key_text(digest))
        assert phase is (state.phase if state else None)


@given(st.lists(events(), min_size=1, max_size=20), st.integers(0, 19))
def test_an_intent_that_was_not_written_is_taken_back(history: list[JobEvent], at: int) -> None:
    """The job stands as it did before, packed or not, or is unknown again."""
    book = Book()
    for event in history:
        book.apply(event)
    job = history[at % len(history)].job
    before = book.get(job)
    intent = Intent(at=TIMES[0], job=job, membership="m", name="n", attempt=9, trained_model="model")
    book.apply(intent)
    assert book.get(job) != before
    book.restore(job, before)
    assert book.get(job) == before
    book.restore(job, None)
    assert book.get(job) is None
    assert job not in {state.job for state in book}


@given(digests)
def test_a_digest_is_read_back_from_its_key(digest: bytes) -> None:
    """Letter for letter."""
    assert digest_of(key_text(digest)) == digest


@given(st.text(max_size=30) | st.text(alphabet="abz27019A_+- ", min_size=26, max_size=26))
def test_a_text_that_is_no_key_has_no_digest(text: str) -> None:
    """Two texts never share one."""
    digest = digest_of(text)
    assert digest is None or key_text(digest) == text


@given(st.lists(digests | st.sampled_from(few_digests), max_size=200), st.booleans())
def test_digests_are_numbered_as_they_come(given_digests: list[bytes], has_room: bool) -> None:
    """Each once, and through all growth."""
    table, expected = DigestTable(), dict[bytes, int]()
    if has_room:
        table.make_room(10_000)
    for digest in given_digests:
        assert (table.find(digest) >= 0) == (digest in expected)
        assert table.add(digest) == expected.setdefault(digest, len(expected))
    assert [table.find(digest) for digest in expected] == list(expected.values())
    assert [table[number] for number in range(len(table))] == list(expected)


def test_a_table_grows_past_its_first_room() -> None:
    """Ten thousand digests whose last bits are much alike."""
    table = DigestTable()
    many = [number.to_bytes(12, "big") + (number % 7).to_bytes(4, "big") for number in range(500)]
    many += [number.to_bytes(DIGEST_BYTES, "big") for number in range(10_000)]
    for digest in many:
        table.add(digest)
    assert len(table) == len(set(many))
    assert all(table[table.find(digest)] == digest for digest in many)


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
    }
    assert set(values) == set(JobState.__struct_fields__)
    state, settled = JobState(**values), SettledJobs()
    assert settled.put(few_digests[0], state)
    assert settled.get(few_digests[0]) == state


def test_an_arn_is_kept_letter_for_letter() -> None:
    """Also one that is nothing but a UUID, which is not made a path."""
    uuid = "0123abcd-4567-89ab-cdef-0123456789ab"
    for arn in (uuid, f"/{uuid}", f"arn:aws:x/{uuid}", f"arn:aws:x/{uuid.upper()}", ""):
        state = JobState(
            job=KEYS[0], membership="m", name="n", phase=Phase.SUBMITTED, attempt=1, since=TIMES[1], arn=arn
        )
        settled = SettledJobs()
        assert settled.put(few_digests[0], state)
        assert settled.get(few_digests[0]) == state
