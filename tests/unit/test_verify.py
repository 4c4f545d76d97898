"""A ledger held against a service in memory: what is wrong between them, and what the service proves."""

import copy
from collections.abc import Callable, Collection
from datetime import timedelta

import pytest
from conftest import EPOCH, OTHER_MEMBERSHIP, FakeClock, job_arn, job_named
from memory_cleanrooms import Disturbance, MemoryCleanRooms
from memory_ledger import MemoryLedger
from strategies import MEMBERSHIP

from batchsubmit.cleanrooms.reads import ReadError, Reads
from batchsubmit.clock import timestamp
from batchsubmit.config import RetrySettings
from batchsubmit.core.job_states import Action, decide
from batchsubmit.core.jobs import (
    KEY_TAG,
    Accepted,
    Denied,
    Duplicate,
    Event,
    Intent,
    InvalidRequest,
    Job,
    JobFinished,
    JobRejected,
    JobSubmitted,
    JobUnknown,
    NotSent,
    Refused,
    Result,
    Throttled,
    Uncertain,
)
from batchsubmit.manifest.rows_done import NewRows
from batchsubmit.pacing import Pace, RateGate
from batchsubmit.sandbox import SandboxService, SandboxSettings
from batchsubmit.verify import Audit, Discrepancy, Mismatch, Verifier, unexplained

LIST, GET = "ListTrainedModelInferenceJobs", "GetTrainedModelInferenceJob"
FORBIDDEN = Denied("AccessDeniedException", "not authorized")
THROTTLED = Throttled("ThrottlingException", "Rate exceeded")
A, B = job_named("a"), job_named("b")


class Unpaced(RateGate):
    """Keeps no real time: how throttled reads slow down is tested with the gate."""

    async def admit(self) -> bool:
        """Let every call through at once."""
        return True


class Bench:
    """A ledger, a service and a verifier between them, all in memory. The ledger's run lasts for the first minute."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.service = SandboxService(
            SandboxSettings(per_membership=0, per_account=0, job_seconds=3600, seed=1), lambda: clock.now().timestamp()
        )
        self.script: dict[str, list[Result]] = {LIST: [], GET: []}
        self.ledger = MemoryLedger()
        self.later = 0

    def _disturb(self, operation: str, _name: str) -> Disturbance | None:
        planned = self.script.get(operation)
        return Disturbance(planned.pop(0)) if planned else None

    async def start(self, job: Job, *, tagged: bool = True) -> str:
        """Have the service accept a job; gives the ARN."""
        outcome = await MemoryCleanRooms(self.service, tag_jobs=tagged).start(job)
        assert isinstance(outcome, Accepted)
        return outcome.arn

    def intend(self, job: Job, attempt: int = 1) -> None:
        """Note that a call is about to leave."""
        self.ledger.note(Intent(**job.stamp(self.now()), attempt=attempt, trained_model=job.trained_model))

    def submit(self, job: Job, arn: str) -> None:
        """Note a call and its answer."""
        self.intend(job)
        self.ledger.note(JobSubmitted(**job.stamp(self.now()), arn=arn, attempt=1, via="start"))

    async def accept(self, *jobs: Job) -> list[str]:
        """Start jobs and note them as they are; gives the ARNs."""
        arns = [await self.start(job) for job in jobs]
        for job, arn in zip(jobs, arns, strict=True):
            self.submit(job, arn)
        return arns

    def retag(self, arn: str, key: str) -> None:
        """Have someone change a job's tag."""
        job = self.service.job(arn)
        assert job is not None
        job.tags[KEY_TAG] = key

    async def compare(
        self, *, others: Collection[str] = (), rows: NewRows | None = None, tag_jobs: bool = True
    ) -> list[Discrepancy]:
        """Hold one against the other."""
        api = MemoryCleanRooms(self.service, disturb=self._disturb)
        catalog = Reads(api, RetrySettings(), gate=Unpaced(Pace(0)), sleep=self.clock.sleep)
        known = {"rows": rows or NewRows(), "others": others, "tag_jobs": tag_jobs}
        verifier = Verifier(self.ledger.state, catalog, **known, now=self.now())
        window = timestamp(EPOCH), timestamp(EPOCH + timedelta(minutes=1))
        found, self.later = await verifier.compare(window)
        return found

    async def kinds(self, *, others: Collection[str] = ()) -> list[tuple[str, str, str]]:
        """Mismatch, name and ARN of all that is wrong."""
        return [(str(each.kind), each.name, each.arn) for each in await self.compare(others=others)]

    def repair(self, found: Collection[Discrepancy]) -> None:
        """Append what the service proves."""
        for each in found:
            if each.repair is not None:
                self.ledger.note(each.repair)

    def faults(self) -> list[str]:
        """What the ledger's own lines have wrong."""
        return Audit(self.ledger.events).faults

    def now(self) -> str:
        """As a ledger writes it."""
        return timestamp(self.clock.now())


@pytest.fixture
def bench(clock: FakeClock) -> Bench:
    """With nothing submitted."""
    return Bench(clock)


async def test_a_ledger_that_the_service_bears_out_is_clean(bench: Bench) -> None:
    """In every membership, whatever became of the jobs afterwards."""
    [arn, _, _] = await bench.accept(A, B, job_named("c", membership=OTHER_MEMBERSHIP))
    bench.ledger.note(JobFinished(**A.stamp(bench.now()), arn=arn, status="ACTIVE", message=""))
    assert await bench.compare() == []
    assert bench.service.calls[GET].total() == 3


async def test_an_empty_ledger_makes_no_call(bench: Bench) -> None:
    """Nor do rows that never led to one."""
    bench.ledger.note(JobRejected(**A.stamp(bench.now()), code="InvalidRow", message="no", attempt=0))
    assert await bench.compare() == []
    assert (bench.service.calls[LIST].total(), bench.service.calls[GET].total()) == (0, 0)


async def test_an_arn_that_the_service_does_not_know_is_a_ghost(bench: Bench) -> None:
    """Nothing is proven by that, so there is nothing to repair."""
    await bench.accept(A)
    bench.submit(B, job_arn("nowhere"))
    [found] = await bench.compare()
    assert (found.kind, found.job, found.arn, found.repair) == (Mismatch.GHOST, B.key, job_arn("nowhere"), None)
    assert str(found) == f"ghost: b in membership {MEMBERSHIP}: {job_arn('nowhere')}"


async def test_a_finished_job_that_is_gone_is_a_ghost_too(bench: Bench) -> None:
    """The ledger goes by its ARN as before."""
    bench.submit(A, job_arn("a"))
    bench.ledger.note(JobFinished(**A.stamp(bench.now()), arn=job_arn("a"), status="ACTIVE", message=""))
    assert await bench.kinds() == [("ghost", "a", job_arn("a"))]


async def test_an_arn_with_another_key_is_told(bench: Bench) -> None:
    """It exists, but it is another job's."""
    [arn] = await bench.accept(A)
    bench.retag(arn, B.key)
    [found] = await bench.compare()
    assert (found.kind, found.job, found.arn, found.repair) == (Mismatch.WRONG_KEY, A.key, arn, None)


async def test_an_untagged_job_is_taken_at_the_ledger_s_word(bench: Bench) -> None:
    """Where tags are switched off there is no key to compare; only another one would speak against it."""
    bench.submit(A, await bench.start(A, tagged=False))
    assert await bench.compare() == []


async def test_an_untagged_job_that_nobody_claims_is_nobody_s(bench: Bench) -> None:
    """It may be anyone's: neither an orphan, nor proof that an unknown job runs."""
    bench.intend(A)
    await bench.start(A, tagged=False)
    await bench.start(job_named("a console user's"), tagged=False)
    [found] = await bench.compare()
    assert (found.kind, found.arn, found.repair) == (Mismatch.UNKNOWN, "", None)


async def test_a_job_with_a_key_that_the_ledger_never_had_is_an_orphan(bench: Bench) -> None:
    """Someone's run started it; that it was this ledger's is not proven."""
    await bench.accept(A)
    arn = await bench.start(B)
    [found] = await bench.compare()
    assert (found.kind, found.job, found.name, found.arn) == (Mismatch.ORPHAN, B.key, "b", arn)
    assert found.repair is None


async def test_an_orphan_that_another_ledger_answers_for_is_none(bench: Bench) -> None:
    """By its key."""
    await bench.accept(A)
    await bench.start(B)
    assert await bench.compare(others={B.key}) == []


async def test_a_job_that_two_ledgers_submitted_is_a_duplicate_for_both(bench: Bench) -> None:
    """It is paid for twice; that another ledger knows it makes it no better."""
    await bench.accept(A)
    arn = await bench.start(A)
    assert await bench.kinds(others={A.key}) == [("duplicate", "a", arn)]


@pytest.mark.parametrize(
    "after_intent",
    [
        lambda _: None,
        lambda at: JobUnknown(**A.stamp(at), reason="read time-out", attempt=1),
        lambda at: Refused(**A.stamp(at), code="ThrottlingException", attempt=1),
        lambda at: JobRejected(**A.stamp(at), code="ConflictException", message="", attempt=1),
    ],
    ids=["nothing", "unknown", "refused", "failed"],
)
async def test_an_orphan_of_a_call_that_the_ledger_knows_is_proven_submitted(
    bench: Bench, after_intent: Callable[[str], Event | None]
) -> None:
    """Whatever was thought of the call: its key says that it was accepted. Repaired, nothing is wrong any more."""
    bench.intend(A)
    arn = await bench.start(A)
    if (event := after_intent(bench.now())) is not None:
        bench.ledger.note(event)
    found = await bench.compare()
    assert [(each.kind, each.arn) for each in found] == [(Mismatch.ORPHAN, arn)]
    assert found[0].repair == JobSubmitted(**A.stamp(bench.now()), arn=arn, attempt=1, via="lookup")
    bench.repair(found)
    assert await bench.compare() == []
    assert bench.faults() == []


async def test_a_second_job_with_the_key_of_a_submitted_one_is_a_duplicate(bench: Bench) -> None:
    """Each one; once the ledger has them as such, nothing is wrong any more."""
    [arn] = await bench.accept(A)
    others = sorted([await bench.start(A), await bench.start(A)])
    found = await bench.compare()
    assert [(each.kind, each.arn) for each in found] == [(Mismatch.DUPLICATE, other) for other in others]
    assert [each.repair for each in found] == [Duplicate(**A.stamp(bench.now()), arn=other, of=arn) for other in others]
    bench.repair(found)
    assert await bench.compare() == []
    assert bench.faults() == []


async def test_two_jobs_of_one_unknown_call_are_an_orphan_and_its_duplicate(bench: Bench) -> None:
    """The older one is the job, the younger one runs beside it; one repair is enough for both."""
    bench.intend(A)
    first = await bench.start(A)
    bench.clock.seconds += 5
    second = await bench.start(A)
    found = await bench.compare()
    assert [(each.kind, each.arn) for each in found] == [
        (Mismatch.ORPHAN, first),
        (Mismatch.DUPLICATE, second),
    ]
    assert found[1].repair == Duplicate(**A.stamp(bench.now()), arn=second, of=first)
    bench.repair(found)
    assert await bench.compare() == []
    assert bench.faults() == []


async def test_an_unknown_job_that_the_service_does_not_show_stays_unknown(bench: Bench) -> None:
    """That it is absent takes a settle time to prove, which a comparison does not wait for."""
    bench.intend(A)
    bench.intend(B)
    bench.ledger.note(JobUnknown(**B.stamp(bench.now()), reason="read time-out", attempt=1))
    found = await bench.compare()
    assert [(each.kind, each.name, each.repair) for each in found] == [
        (Mismatch.UNKNOWN, "a", None),
        (Mismatch.UNKNOWN, "b", None),
    ]
    assert "no such job" not in str(found[0])
    assert str(found[0]).endswith("so far; the next submit looks it up")


async def test_what_is_decided_is_not_unknown(bench: Bench) -> None:
    """A refused or failed job that the service does not have is as it should be."""
    bench.intend(A)
    bench.ledger.note(Refused(**A.stamp(bench.now()), code="ThrottlingException", attempt=1))
    bench.intend(B)
    bench.ledger.note(JobRejected(**B.stamp(bench.now()), code="ValidationException", message="no", attempt=1))
    assert await bench.compare() == []


@pytest.mark.parametrize(("minutes", "is_ours"), [(-16, False), (-14, True), (15, True), (17, False)])
async def test_jobs_from_outside_of_the_ledger_s_time_are_not_orphans(
    bench: Bench, minutes: int, is_ours: bool
) -> None:
    """A quarter of an hour around the first and the last line, for clocks that differ."""
    bench.clock.seconds = minutes * 60
    arn = await bench.start(B)
    bench.clock.seconds = max(bench.clock.seconds, 0)
    await bench.accept(A)
    assert await bench.kinds() == ([("orphan", "b", arn)] if is_ours else [])


async def test_an_old_submitted_job_is_checked_whatever_its_age(bench: Bench) -> None:
    """The time only tells strangers apart; a claim is a claim."""
    bench.clock.seconds = -3600
    await bench.accept(A)
    bench.service.reset()
    assert [kind for kind, _, _ in await bench.kinds()] == ["ghost"]


async def test_memberships_are_told_apart(bench: Bench) -> None:
    """An orphan of one is not looked for in another, and one without calls is not read at all."""
    await bench.accept(A)
    await bench.start(job_named("stranger", membership=OTHER_MEMBERSHIP))
    assert await bench.compare() == []
    assert bench.service.calls[LIST].total() == 1
    await bench.accept(job_named("b", membership=OTHER_MEMBERSHIP))
    assert [(kind, name) for kind, name, _ in await bench.kinds()] == [("orphan", "stranger")]


async def test_more_jobs_than_a_page_are_all_compared(bench: Bench) -> None:
    """None is an orphan for being on the second page."""
    await bench.accept(*(job_named(f"job-{number}") for number in range(150)))
    arn = await bench.start(B)
    assert await bench.kinds() == [("orphan", "b", arn)]


@pytest.mark.parametrize("trouble", [THROTTLED, Uncertain("500"), NotSent("ConnectTimeout", "")])
@pytest.mark.parametrize("operation", [LIST, GET])
async def test_a_read_that_fails_for_a_time_changes_no_verdict(bench: Bench, operation: str, trouble: Result) -> None:
    """It is tried again; above all, what could not be read is no ghost."""
    await bench.accept(A, B)
    arn = await bench.start(job_named("orphan"))
    bench.script[operation] = [trouble] * 4
    assert await bench.kinds() == [("orphan", "orphan", arn)]
    assert bench.script[operation] == []


@pytest.mark.parametrize("trouble", [THROTTLED, FORBIDDEN, Uncertain("500")])
@pytest.mark.parametrize("operation", [LIST, GET])
async def test_a_service_that_does_not_tell_leads_to_no_verdict(bench: Bench, operation: str, trouble: Result) -> None:
    """An error that names the call and what came of it, instead of half a comparison."""
    await bench.accept(A)
    bench.script[operation] = [trouble] * 99
    with pytest.raises(ReadError, match=operation) as caught:
        await bench.compare()
    assert caught.value.outcome == trouble


async def test_a_job_that_was_deleted_since_it_was_listed_is_no_orphan(bench: Bench) -> None:
    """Only what Get still shows has a key."""
    bench.intend(A)
    await bench.start(A)
    bench.script[GET] = [InvalidRequest("ResourceNotFoundException", "gone")]
    assert [kind for kind, _, _ in await bench.kinds()] == ["unknown"]


async def test_comparing_calls_nothing_but_list_and_get(bench: Bench) -> None:
    """Nothing is started, tagged or cancelled, whatever is wrong."""
    await bench.accept(A)
    await bench.start(A)
    await bench.start(B)
    before = copy.deepcopy(bench.service.calls)
    assert len(await bench.compare()) == 2
    changed = {name for name, calls in bench.service.calls.items() if calls != before.get(name)}
    assert changed == {LIST, GET}


async def test_repairing_only_appends(bench: Bench) -> None:
    """The ledger's bytes before are the beginning of its bytes after, and the unproven adds none."""
    await bench.accept(A)
    bench.intend(B)
    await bench.start(B)
    await bench.start(A)
    bench.submit(job_named("ghost"), job_arn("ghost"))
    await bench.start(job_named("foreign"))
    before = bench.ledger.lines()
    found = await bench.compare()
    bench.repair(found)
    added = bench.ledger.lines().removeprefix(before).splitlines()
    assert bench.ledger.lines().startswith(before)
    assert len(found) == 4
    assert len(added) == 2
    assert sorted(str(each.kind) for each in await bench.compare()) == ["ghost", "orphan"]
    assert bench.faults() == []


ROWS = NewRows(by_key={B.key: (B.membership, B.trained_model, B.name)})
UNSEEN = NewRows(trouble="jobs.csv: there is no such file")


@pytest.mark.parametrize("minutes", [1, 60, 60 * 24 * 30])
async def test_a_job_with_a_row_s_key_is_adopted_whenever_it_started(bench: Bench, minutes: int) -> None:
    """The ledger was restored from a copy that ends before it. Recorded, the row is not started again."""
    await bench.accept(A)
    bench.clock.seconds = minutes * 60
    arn = await bench.start(B)
    [found] = await bench.compare(rows=ROWS)
    assert (found.kind, found.arn) == (Mismatch.ORPHAN, arn)
    assert found.repair == JobSubmitted(**B.stamp(bench.now()), arn=arn, attempt=0, via="lookup")
    bench.repair([found])
    assert decide(bench.ledger.state.get(B.key)) is Action.NOTHING
    assert await bench.compare() == []
    assert bench.faults() == []


async def test_an_adopted_job_that_is_gone_is_a_ghost(bench: Bench) -> None:
    """What was recorded without a call is checked like any other claim."""
    await bench.start(B)
    bench.repair(await bench.compare(rows=ROWS))
    bench.service.reset()
    assert [(kind, name) for kind, name, _ in await bench.kinds()] == [("ghost", "b")]


async def test_two_jobs_of_one_lost_row_are_adopted_with_the_younger_as_duplicate(bench: Bench) -> None:
    """It was paid twice before the copy was restored; one repair records both."""
    first = await bench.start(B)
    bench.clock.seconds += 5
    second = await bench.start(B)
    found = await bench.compare(rows=ROWS)
    assert [(each.kind, each.arn) for each in found] == [
        (Mismatch.ORPHAN, first),
        (Mismatch.DUPLICATE, second),
    ]
    bench.repair(found)
    assert await bench.compare() == []
    assert bench.faults() == []


@pytest.mark.parametrize("minutes", [1, 60])
async def test_a_row_s_job_that_a_lost_retry_started_is_told_whenever_it_started(bench: Bench, minutes: int) -> None:
    """Its tag has the row's key and a round; which of the row's jobs counts is not proven."""
    await bench.accept(A)
    bench.clock.seconds = minutes * 60
    arn = await bench.start(B)
    bench.retag(arn, f"{B.key}.1")
    [found] = await bench.compare(rows=ROWS)
    assert (found.kind, found.job, found.arn, found.repair) == (Mismatch.ORPHAN, B.key, arn, None)
    assert "of a retry that the ledger does not know" in found.detail


async def test_a_membership_that_only_rows_are_in_is_read_too(bench: Bench) -> None:
    """The copy may end before the first job of a membership."""
    far = job_named("far", membership=OTHER_MEMBERSHIP)
    await bench.accept(A)
    arn = await bench.start(far)
    rows = NewRows(by_key={far.key: (OTHER_MEMBERSHIP, far.trained_model, "far")})
    [found] = await bench.compare(rows=rows)
    assert (found.kind, found.membership, found.arn) == (Mismatch.ORPHAN, OTHER_MEMBERSHIP, arn)
    assert found.repair is not None


async def test_later_jobs_that_are_no_row_s_are_another_ledger_s(bench: Bench) -> None:
    """Those of the nights after this one: not told, not counted, and not even read."""
    await bench.accept(A)
    bench.clock.seconds = 86400
    for night in range(5):
        await bench.start(job_named(f"night-{night}"))
    assert await bench.compare(rows=ROWS) == []
    assert bench.later == 0
    assert bench.service.calls[GET].total() == 1


async def test_a_later_job_of_a_row_s_name_with_another_key_is_another_ledger_s(bench: Bench) -> None:
    """The same row in another night's batch; without all rows of the manifest that is not certain."""
    await bench.accept(A)
    bench.clock.seconds = 86400
    await bench.start(job_named("a", description="another batch"))
    await bench.start(job_named("b", description="another batch"))
    assert (await bench.compare(rows=ROWS), bench.later) == ([], 0)
    assert (await bench.compare(rows=UNSEEN), bench.later) == ([], 2)


async def test_without_the_manifest_later_jobs_are_counted_and_not_judged(bench: Bench) -> None:
    """Another ledger's, or lost: nobody can tell. Those that a known ledger has are known."""
    await bench.accept(A)
    bench.clock.seconds = 86400
    arn = await bench.start(B)
    assert (await bench.compare(rows=UNSEEN), bench.later) == ([], 1)
    assert (await bench.compare(rows=UNSEEN, others={arn}), bench.later) == ([], 0)


async def test_a_call_that_the_ledger_knows_is_found_however_late(bench: Bench) -> None:
    """Its key is the ledger's; no time says otherwise."""
    bench.intend(A)
    bench.clock.seconds = 86400
    arn = await bench.start(A)
    assert await bench.kinds() == [("orphan", "a", arn)]


async def test_an_untagged_job_with_a_row_s_name_is_told_where_ours_carry_no_tags(bench: Bench) -> None:
    """The next run would start the row beside it; nothing is proven, so nothing is recorded."""
    await bench.accept(A)
    arn = await bench.start(B, tagged=False)
    assert await bench.compare(rows=ROWS) == []
    [found] = await bench.compare(rows=ROWS, tag_jobs=False)
    assert (found.kind, found.job, found.arn, found.repair) == (Mismatch.ORPHAN, B.key, arn, None)
    assert await bench.compare(rows=ROWS, tag_jobs=False, others={arn}) == []


async def test_an_unknown_job_with_an_untagged_one_of_its_name_is_not_said_to_be_absent(bench: Bench) -> None:
    """It may be it; only its row can tell."""
    bench.intend(A)
    await bench.start(A, tagged=False)
    [found] = await bench.compare(tag_jobs=False)
    assert str(found) == (
        f"unknown: a in membership {MEMBERSHIP}: an untagged job has its name, and may be it or not; "
        "the next submit compares it with the row"
    )


async def test_what_a_run_has_under_way_is_explained_by_its_ledger(bench: Bench) -> None:
    """Calls without an answer yet, and those whose answer came while the service was read; a lost job is not."""
    bench.intend(A)
    await bench.start(A)
    arn = await bench.start(B)
    await bench.start(job_named("foreign"))
    bench.intend(job_named("c"))
    found = await bench.compare()
    assert len(found) == 4
    bench.submit(B, arn)
    assert [each.name for each in unexplained(found, bench.ledger.state)] == ["foreign"]


async def test_a_run_under_way_explains_no_ghost_and_no_duplicate(bench: Bench) -> None:
    """What has been submitted can be judged at any time."""
    [_, gone] = await bench.accept(A, B)
    await bench.start(A)
    bench.retag(gone, "someone-else-s")
    found = await bench.compare()
    assert unexplained(found, bench.ledger.state) == found
    assert {each.kind for each in found} == {Mismatch.DUPLICATE, Mismatch.WRONG_KEY}
