"""The Python API against a sandbox: the same ledger and keys as the command, in the caller's own loop."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing, closing
from typing import Any

import pytest
from conftest import MEMBERSHIP, Program, Sandbox, csv_text, request_named
from local_aws import LocalAws
from strategies import ACCOUNT, arn

from batchsubmit import (
    Finished,
    LedgerError,
    ManifestError,
    Outcome,
    Rejected,
    StoppedError,
    Submitted,
    Unknown,
    UsageError,
    open_batch,
    submit_jobs,
)

LEDGER = "jobs.ledger.jsonl"
NAMES = ["a", "b", "c", "d", "e"]
START, LIST = "StartTrainedModelInferenceJob", "ListTrainedModelInferenceJobs"


def requests(names: list[str]) -> Iterator[dict[str, Any]]:
    """The jobs of `csv_text`, as a program has them."""
    for name in names:
        yield {
            "name": name,
            "membershipIdentifier": MEMBERSHIP,
            "trainedModelArn": arn("trained-model", membership=MEMBERSHIP),
            "resourceConfig": {"instanceType": "ml.m5.large"},
            "outputConfiguration": {"members": [{"accountId": ACCOUNT}]},
            "dataSource": {"mlInputChannelArn": arn("ml-input-channel", membership=MEMBERSHIP)},
        }


async def until(condition: Callable[[], bool]) -> None:
    """Look again and again until it holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (another process cannot set an event of ours)
            await asyncio.sleep(0.01)


async def read_all(told: list[Outcome]) -> None:
    """Submit everything and take down what is told."""
    async with open_batch(ledger=LEDGER) as batch:
        async for outcome in batch.submit(requests(NAMES)):
            told.append(outcome)  # noqa: PERF401 (what was told before an exception counts)


@pytest.fixture(autouse=True)
def _here(submitting: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is pointed at the sandbox, in the program's folder."""
    monkeypatch.chdir(submitting.folder)
    for name, value in submitting.environment.items():
        monkeypatch.setenv(name, value)


async def test_outcomes_come_while_the_run_goes_on(sandbox: Sandbox) -> None:
    """The first is there while others wait for a slot; the ends of jobs come where they are followed."""
    sandbox.configure(per_membership=2, job_seconds=0.3, failing_names=["b"])
    told = []
    async with open_batch(ledger=LEDGER, wait=True) as batch, aclosing(batch.submit(requests(NAMES))) as stream:
        async for outcome in stream:
            if not told:
                assert sandbox.calls() < 2 * len(NAMES)
                assert len(sandbox.jobs()) < len(NAMES)
            told.append(outcome)
    assert isinstance(told[0], Submitted)
    ends = {each.name: each.is_good for each in told if isinstance(each, Finished)}
    assert ends == {"a": True, "b": False, "c": True, "d": True, "e": True}
    assert sorted(each.arn for each in told if isinstance(each, Submitted)) == sorted(j["arn"] for j in sandbox.jobs())
    assert batch.summary is not None
    assert batch.summary.exit_status == 1


def test_a_job_is_sent_once_whether_by_the_command_or_by_the_api(submitting: Program, sandbox: Sandbox) -> None:
    """Keys and ledger are the same, and both ways round."""
    (submitting.folder / "jobs.csv").write_text(csv_text(NAMES[:3]))
    assert submitting.run("submit", "jobs.csv", "--batch-id", "x").status == 0
    report = submit_jobs(requests(NAMES), ledger=LEDGER, batch="x")
    assert [each.name for each in report.submitted if each.earlier] == NAMES[:3]
    assert "<svg" in report._repr_html_()
    assert sorted(each.arn for each in report.submitted) == sorted(job["arn"] for job in sandbox.jobs())
    (submitting.folder / "jobs.csv").write_text(csv_text(NAMES))
    again = submitting.run("submit", "jobs.csv", "--batch-id", "x", "--json")
    assert again.summary["submitted_before"] == len(NAMES)
    assert sorted(sandbox.names()) == NAMES
    assert submitting.run("verify", LEDGER, "--offline").status == 0


def test_nothing_is_sent_where_one_request_is_wrong(sandbox: Sandbox) -> None:
    """The problems have the numbers of the requests."""
    with pytest.raises(ManifestError) as caught:
        submit_jobs([*requests(["a", "b"]), {"name": "c"}, *requests(["a"])], ledger=LEDGER)
    assert {problem.line for problem in caught.value.problems} == {3, 4}  # type: ignore[attr-defined]
    assert any(note.startswith("requests:3:") for note in caught.value.__notes__)  # a traceback shows them
    assert sandbox.calls() == 0


async def test_a_request_that_the_service_refuses_is_an_outcome(sandbox: Sandbox) -> None:
    """With the service's own words; it is tried again only where that is asked for."""
    sandbox.disturb({"fault": "validation", "name": "b"})
    report = submit_jobs(requests(NAMES), ledger=LEDGER)
    assert [(type(each), each.name, each.code) for each in report.rejected] == [(Rejected, "b", "ValidationException")]
    assert not report.is_good
    assert [each.earlier for each in submit_jobs(requests(NAMES), ledger=LEDGER).rejected] == [True]
    assert submit_jobs(requests(NAMES), ledger=LEDGER, retry_failed=True).is_good


def test_a_job_that_cannot_be_looked_up_is_told_as_unknown(sandbox: Sandbox) -> None:
    """And is not sent again by the next call, which finds it."""
    sandbox.disturb({"fault": "lost_after", "name": "a"}, probabilities={LIST: {"access_denied": 1.0}})
    report = submit_jobs(requests(["a"]), ledger=LEDGER)
    assert [type(each) for each in report.outcomes] == [Unknown]
    assert not report.is_good
    sandbox.disturb()
    assert submit_jobs(requests(["a"]), ledger=LEDGER).is_good
    assert sandbox.names() == ["a"]


def test_unknown_jobs_are_sent_again_where_that_is_asked_for(sandbox: Sandbox) -> None:
    """As the command's --resubmit-unknown; the one that ran all the same is then there twice."""
    sandbox.disturb({"fault": "lost_after", "name": "a"}, probabilities={LIST: {"access_denied": 1.0}})
    assert [type(each) for each in submit_jobs(requests(["a"]), ledger=LEDGER).outcomes] == [Unknown]
    report = submit_jobs(requests(["a"]), ledger=LEDGER, resubmit_unknown=True)
    assert [type(each) for each in report.outcomes] == [Submitted]
    assert sandbox.names() == ["a", "a"]


def test_identical_requests_are_jobs_of_their_own_where_that_is_allowed(sandbox: Sandbox) -> None:
    """In their number, also when the call is repeated with one more."""
    with pytest.raises(ManifestError):
        submit_jobs(requests(["a", "a"]), ledger=LEDGER)
    assert len(submit_jobs(requests(["a", "a"]), ledger=LEDGER, allow_duplicates=True).submitted) == 2
    again = submit_jobs(requests(["a", "a", "a"]), ledger=LEDGER, allow_duplicates=True)
    assert sorted(each.earlier for each in again.submitted) == [False, True, True]
    assert sandbox.names() == ["a", "a", "a"]


def test_wrong_requests_are_left_out_where_that_is_asked_for_and_told_as_failed(sandbox: Sandbox) -> None:
    """With what is wrong, by every call."""
    some = [*requests(["a"]), {**next(requests(["b"])), "resourceConfig": {"instanceType": "ml.none"}}]
    for earlier in (False, True):
        report = submit_jobs(some, ledger=LEDGER, skip_invalid=True)
        assert [each.name for each in report.submitted] == ["a"]
        [failed] = report.rejected
        assert (failed.name, failed.code, failed.earlier) == ("b", "InvalidRow", earlier)
        assert "resourceConfig.instanceType" in failed.message
        assert not report.is_good
    assert sandbox.names() == ["a"]


def test_canaries_go_first_and_hold_back_the_rest_where_one_ends_badly(sandbox: Sandbox) -> None:
    """As the command's --canary."""
    sandbox.configure(job_seconds=0.1, failing_names=["b"])
    assert len(submit_jobs(requests(["x", "y"]), ledger=LEDGER, canary=1).submitted) == 2
    with pytest.raises(StoppedError, match="canaries did not finish well"):
        submit_jobs(requests(NAMES), ledger=LEDGER, canary=2)
    assert sorted(sandbox.names()) == ["a", "b", "x", "y"]


def test_a_misspelt_choice_is_a_type_error() -> None:
    """Not something that is passed over."""
    with pytest.raises(TypeError, match="retry_faild"):
        submit_jobs([], ledger=LEDGER, retry_faild=True)  # type: ignore[call-arg]


async def test_cancellation_awaits_the_calls_under_way(submitting: Program, sandbox: Sandbox) -> None:
    """Their answers are in the ledger, and the next call goes on."""
    sandbox.disturb({"fault": "slow_answer", "times": 2, "seconds": 0.5})
    sandbox.configure(per_membership=2)

    task = asyncio.create_task(read_all([]))
    await until(lambda: len(sandbox.jobs()) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(submitting.arns(LEDGER)) == 2
    assert submitting.events(LEDGER)[-1]["reason"] == "cancelled"
    sandbox.configure(per_membership=0)
    assert submit_jobs(requests(NAMES), ledger=LEDGER).is_good
    assert sorted(sandbox.names()) == NAMES


async def test_a_second_cancellation_does_not_wait(submitting: Program, sandbox: Sandbox) -> None:
    """What it cuts short is looked up by the next call."""
    sandbox.disturb({"fault": "slow_answer", "times": 5, "seconds": 45})

    task = asyncio.create_task(read_all([]))
    await until(lambda: len(sandbox.jobs()) == len(NAMES))
    task.cancel()
    await asyncio.wait([task], timeout=0.2)
    assert not task.done()
    task.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert submitting.arns(LEDGER) == []
    sandbox.disturb()
    assert submit_jobs(requests(NAMES), ledger=LEDGER).is_good
    assert sorted(sandbox.names()) == NAMES


async def test_leaving_the_stream_ends_the_run_in_good_order(submitting: Program, sandbox: Sandbox) -> None:
    """Nothing runs on behind the caller's back, and what the caller raises comes out as it is."""
    sandbox.configure(per_membership=2)
    batches = []

    async def work() -> None:
        async with open_batch(ledger=LEDGER) as batch:
            batches.append(batch)
            async for _ in batch.submit(requests(NAMES)):
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await work()
    assert submitting.events(LEDGER)[-1]["event"] == "run_ended"
    assert not [task for task in asyncio.all_tasks() if "submit" in task.get_name()]
    with pytest.raises(UsageError, match="closed"):
        await anext(batches[0].submit(requests(NAMES)))


async def test_what_stops_the_run_is_raised_after_the_outcomes(sandbox: Sandbox) -> None:
    """Jobs that are left are no outcome; the words say why and what to do."""
    sandbox.disturb({"fault": "none"}, {"fault": "expired_token", "operation": START, "times": 9})
    told: list[Outcome] = []
    with pytest.raises(StoppedError, match=r"left: submit the same requests again"):
        await read_all(told)
    assert [type(each) for each in told] == [Submitted]


async def test_one_batch_may_be_submitted_to_again_but_not_at_once(sandbox: Sandbox) -> None:
    """Two runs within a second are two runs; a ledger file has one writer."""
    sandbox.configure(per_membership=1)
    async with open_batch(ledger=LEDGER) as batch:
        assert [each.name async for each in batch.submit(requests(["a"]))] == ["a"]
        assert [each.earlier async for each in batch.submit(requests(["a"]))] == [True]
        assert [each async for each in batch.submit([])] == []
        async with aclosing(batch.submit(requests(NAMES))) as stream:
            await anext(stream)
            with pytest.raises(LedgerError):
                await anext(batch.submit(requests(NAMES)))


async def test_a_call_prints_nothing_and_leaves_signals_alone(
    sandbox: Sandbox, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Its lines go to the logger of the library, for whoever wants them; also beside a running loop."""
    sandbox.disturb({"fault": "validation", "name": "b"})
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    caplog.set_level(logging.INFO, "batchsubmit")
    async with open_batch(ledger=LEDGER) as batch:
        async for _ in batch.submit(requests(NAMES)):
            assert {number: signal.getsignal(number) for number in before} == before
    assert capfd.readouterr() == ("", "")
    assert any("job.rejected" in line and "run=" in line for line in caplog.messages)


def test_an_interrupted_wait_in_a_notebook_drains_the_run(submitting: Program, sandbox: Sandbox) -> None:
    """The interrupt stops the thread's work as well."""
    sandbox.configure(per_membership=1)

    def interrupt() -> None:
        while not sandbox.jobs():
            pass
        os.kill(os.getpid(), signal.SIGINT)

    async def cell() -> None:
        threading.Thread(target=interrupt).start()
        submit_jobs(requests(NAMES), ledger=LEDGER)

    # Not asyncio.run, which takes Ctrl-C itself: a notebook's kernel lets it come as KeyboardInterrupt.
    with closing(asyncio.new_event_loop()) as loop, pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(cell())
    assert submitting.events(LEDGER)[-1]["reason"] == "cancelled"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batchsubmit")]


def test_a_rehearsal_needs_no_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sandbox=True` is the command's --sandbox."""
    for name in ("AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_CLEANROOMSML"):
        monkeypatch.delenv(name)
    assert submit_jobs([request_named("a")], ledger=LEDGER, sandbox=True).is_good


async def test_two_batches_of_one_program_share_a_table(
    submitting: Program, sandbox: Sandbox, aws: LocalAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each job is sent by one of them, and told by both."""
    shared = {
        "AWS_ENDPOINT_URL_DYNAMODB": aws.url,
        "BATCHSUBMIT_AWS__READ_TIMEOUT_SECONDS": "0.5",
        "BATCHSUBMIT_AWS__CONNECT_TIMEOUT_SECONDS": "0.5",
        "BATCHSUBMIT_LEDGER__LEASE_SECONDS": "2",
    }
    submitting.environment |= shared
    for name, value in shared.items():
        monkeypatch.setenv(name, value)
    assert submitting.run("ledger", "create-table", "api").status == 0
    names = [f"job-{number:03}" for number in range(40)]

    async def work() -> dict[str, Submitted]:
        async with open_batch(ledger="dynamodb://api") as batch:
            outcomes = [each async for each in batch.submit(requests(names))]
        return {each.name: each for each in outcomes if isinstance(each, Submitted)}

    one, other = await asyncio.gather(work(), work())
    assert sorted(sandbox.names()) == sorted(one) == sorted(other) == names
    assert {each.arn for each in one.values()} == {each.arn for each in other.values()}
    assert [one[name].earlier + other[name].earlier for name in names] == [1] * len(names)
    assert submitting.run("verify", "dynamodb://api").status == 0
