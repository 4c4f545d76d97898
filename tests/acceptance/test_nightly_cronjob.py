"""A whole night from the CronJob's own command line: a crash, an overlap, a deadline, the page of the morning."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import get_session
from browser import find_chromium, open_browser
from conftest import CSV_HEADER, Ended, Program, Sandbox, csv_text
from deploy_samples import pod_specs
from local_aws import moto
from strategies import REGION
from test_interrupt import until

MEMBERSHIPS = tuple(f"{digit * 8}-{digit * 4}-4{digit * 3}-8{digit * 3}-{digit * 12}" for digit in "135")
NAMES = [f"churn-{number:03}" for number in range(300)]
FAILING = [NAMES[number] for number in (25, 45, 66, 87, 108, 129, 185, 238, 291)]
"""Apart, so that in no start more than 5 % of those decided so far have failed, wherever the night is cut."""
LEDGER = "nightly.ledger.jsonl"
MANIFEST = CSV_HEADER + "".join(
    csv_text([name], membership=MEMBERSHIPS[number % 3]).removeprefix(CSV_HEADER) for number, name in enumerate(NAMES)
)
CONTAINER = pod_specs()["kubernetes-nightly.yaml"]["containers"][0]
FAR = "2099-01-01T06:00:00Z"

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True, slots=True)
class Account:
    """S3, and the topic of the notices, from outside."""

    notices_url: str

    def object(self, key: str) -> bytes:
        """An object of the bucket."""
        return asyncio.run(self._object(key))

    def notices(self) -> list[dict[str, Any]]:
        """What was told since the last look."""
        return asyncio.run(self._notices())

    async def _object(self, key: str) -> bytes:
        async with get_session().create_client("s3", region_name=REGION) as client:
            answer = await client.get_object(Bucket="example-batches", Key=key)
            return bytes(await answer["Body"].read())

    async def _notices(self) -> list[dict[str, Any]]:
        async with get_session().create_client("sqs", region_name=REGION) as client:
            answer = await client.receive_message(QueueUrl=self.notices_url, MaxNumberOfMessages=10)
            return [json.loads(json.loads(each["Body"])["Message"]) for each in answer.get("Messages", ())]


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, credentials: None) -> Iterator[Account]:
    """The bucket with the manifest, and the topic."""
    with moto() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        yield Account(asyncio.run(_furnished()))


async def _furnished() -> str:
    session = get_session()
    async with session.create_client("s3", region_name="us-east-1") as client:
        await client.create_bucket(Bucket="example-batches")
        await client.put_object(Bucket="example-batches", Key="manifests/nightly.csv", Body=MANIFEST.encode())
    async with (
        session.create_client("sns", region_name="us-east-1") as sns,
        session.create_client("sqs", region_name=REGION) as sqs,
    ):
        topic = await sns.create_topic(Name="batchsubmit-nightly")
        url: str = (await sqs.create_queue(QueueName="notices"))["QueueUrl"]
        arn = f"arn:aws:sqs:{REGION}:123456789012:notices"
        await sns.subscribe(TopicArn=topic["TopicArn"], Protocol="sqs", Endpoint=arn)
        return url


@dataclass(frozen=True, slots=True)
class CronJob:
    """The container's own arguments and variables; its volume is the program's folder, the region that of the rows."""

    program: Program

    def arguments(self, deadline: str) -> list[str]:
        """The command line, to end at another time than at six."""
        given = {"06:00": deadline}
        return [given.get(each, each).replace("/data/", f"{self.program.folder}/") for each in CONTAINER["args"]]

    def start(self, deadline: str = FAR) -> Ended:
        """Let it run to its end."""
        return self.program.run(*self.arguments(deadline))

    def page(self) -> str:
        """The page of the night."""
        [page] = self.program.folder.glob("nightly-20*.html")
        return page.read_text()


@pytest.fixture
def cron(submitting: Program, account: Account, sandbox: Sandbox) -> CronJob:
    """The CronJob, pointed at local services with AWS's default quotas and jobs of a third of a second."""
    variables = {pair["name"]: pair["value"] for pair in CONTAINER["env"]} | {"AWS_REGION": REGION}
    submitting.environment |= variables
    sandbox.configure(per_membership=5, per_account=10, job_seconds=0.33, failing_names=FAILING)
    return CronJob(submitting)


def in_seconds(seconds: float) -> str:
    """A deadline so far ahead."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_a_night_is_crashed_cut_by_its_deadline_told_in_the_morning_and_ended_by_the_next_start(
    cron: CronJob, account: Account, sandbox: Sandbox
) -> None:
    """300 jobs in 3 memberships, 3 % of which fail: each is sent once, and the page answers what people ask it."""
    with cron.program.running(*cron.arguments(FAR)) as process:
        until(lambda: len(sandbox.jobs()) >= 40)
        overlapping = cron.start()
        until(lambda: len(sandbox.jobs()) >= 150)
        process.kill()
        process.communicate()
    assert overlapping.status == 4
    assert "is in use by run" in overlapping.stderr
    assert [each["exit_status"] for each in account.notices()] == [4]

    cut = cron.start(in_seconds(5.0))
    assert cut.status == 3
    left = len(NAMES) - len(sandbox.jobs())
    assert 0 < left < 150, cut.stderr
    assert f"{left:,} pending" in cut.stderr
    page = cron.page()
    assert _answers(page, left=left)
    [told] = account.notices()
    assert (told["exit_status"], told["counts"]["pending"]) == (3, left)
    [name] = {Path(url).name for url in told["uploaded"]} - {LEDGER}
    assert account.object(f"results/{name}").decode() == page
    assert account.object(f"results/{LEDGER}") == (cron.program.folder / LEDGER).read_bytes()
    _look(next(cron.program.folder.glob("nightly-20*.html")))

    # Of the few jobs that are left, more than the 5 % that are allowed may be among those that fail.
    ended = cron.program.run(*cron.arguments(FAR), "--max-failures", "50%")
    assert ended.status == 1, ended.stderr
    assert f"300 submitted, {300 - left} of them by earlier runs" in ended.stderr
    assert "291 succeeded" in ended.stderr
    assert "9 failed" in ended.stderr
    assert "Nothing is pending." in cron.page()
    again = cron.start()
    assert again.status == 1, again.stderr
    assert "Nothing to do: all 300 jobs were submitted before" in again.stderr
    assert sorted(sandbox.names()) == NAMES
    assert account.object(f"results/{LEDGER}") == (cron.program.folder / LEDGER).read_bytes()


def _answers(page: str, *, left: int) -> bool:
    """Whether the head of the page has what ran, what failed and why, what is left, and when it would be done."""
    head = page[page.index("<header") : page.index("</header>")]
    for words in (
        f"{300 - left} of 300 jobs submitted, ",
        " failed, for one reason, INTERNAL_ERROR.",
        "The last run stopped because its deadline had come; the same command goes on.",
        f"{left} jobs pending, at the last pace ",
        "Started again at once, all would be submitted in ",
        "), finished in ",
    ):
        assert words in head
    return "exited with a non-zero status" in page


def _look(page: Path) -> None:
    """Open it where there is a browser: nothing is complained of, and the failures can be shown alone."""
    if find_chromium() is None:
        return

    async def look() -> None:
        async with open_browser() as browser:
            await browser.open(page)
            await browser.click("a.show")
            await browser.until("document.getElementById('found').textContent.includes(' of ')")
            assert browser.problems == []

    asyncio.run(look())
