"""`batchsubmit logs`: what the service says of jobs that failed, and the last lines of their logs."""

import asyncio
import shlex
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import click

from batchsubmit.app.run import require_region
from batchsubmit.aws import open_client, resolve_region
from batchsubmit.cleanrooms.api import JobDetails
from batchsubmit.cleanrooms.client import CleanRooms, open_cleanrooms, outcome_of
from batchsubmit.cleanrooms.reads import ReadError
from batchsubmit.cli.help import READ_EXITS
from batchsubmit.cli.options import command, conclude, settings_and_json
from batchsubmit.cli.output import say
from batchsubmit.config import Settings
from batchsubmit.core.job_states import LOG_GROUP, JobState, Phase, end_words, has_failed
from batchsubmit.errors import BatchsubmitError, UsageError
from batchsubmit.ledger.location import Location, parse_location
from batchsubmit.ledger.read import fold_ledger
from batchsubmit.schema.arns import region_in
from batchsubmit.text import counted

_MOST_JOBS = 10
_MOST_PAGES = 50


@command(
    ("why did jobs fail?", "batchsubmit logs jobs.ledger.jsonl"),
    ("the last 200 lines of one", "batchsubmit logs jobs.ledger.jsonl churn-001 --lines 200"),
    exits=READ_EXITS | {2: "the ledger cannot be read, or has no such job"},
)
@click.argument("ledger", type=parse_location)
@click.argument("name", required=False)
@click.option("--lines", default=20, show_default=True, metavar="N", help="Lines of each job's log, the last ones.")
@settings_and_json
def logs(ledger: Location, name: str | None, lines: int, settings: Settings, *, as_json: bool) -> int:
    """Print what the service says of the failed jobs of LEDGER, or of job NAME, and the last lines of their logs.

    The lines come from CloudWatch, where the role may read them (logs:FilterLogEvents); else the command that reads
    them is printed.
    """
    found = asyncio.run(_read_logs(ledger, name, settings, lines))
    content = {"ledger": str(ledger), "log_group": LOG_GROUP, "jobs": list(map(asdict, found))}
    words = (line for job in found[:_MOST_JOBS] for line in job.words())
    conclude(words, content, as_json=as_json, are_data=True)
    if not found:
        say(f"{ledger}: no job failed")
    elif len(found) > _MOST_JOBS:
        say(f"{counted(len(found) - _MOST_JOBS, 'more job')} failed: give the name of one")
    return 0


@dataclass(slots=True)
class _JobLogs:
    """One job: what is said of it, its last lines, and why there are none. `stream` begins its log streams' names."""

    name: str
    membership: str
    arn: str
    said: str
    stream: str = ""
    command: str = ""
    lines: tuple[str, ...] = ()
    trouble: str = ""

    @classmethod
    def of(cls, job: JobState) -> "_JobLogs":
        """What the ledger knows."""
        found = cls(job.name, job.membership, job.arn, end_words(job) or str(job.phase))
        if job.phase is Phase.REJECTED:
            found.trouble = "it was not accepted and never ran: it has no logs"
        elif job.arn:
            # That a stream begins with the job's id is an assumption; AWS names the log group only.
            found.stream = job.arn.rpartition("/")[2]
            words = ("aws", "logs", "tail", LOG_GROUP, "--log-stream-name-prefix", found.stream, "--since", "30d")
            found.command = shlex.join((*words, "--region", region_in(job.arn)))
        return found

    def words(self) -> Iterator[str]:
        """Say it to people."""
        yield f"{self.name} (membership {self.membership}): {self.said}"
        if self.stream:
            yield f"  log group {LOG_GROUP}, streams that begin with {self.stream}"
        yield from (f"  | {line.rstrip()}" for line in self.lines)
        if self.trouble:
            yield f"  {'note' if self.lines else 'no lines'}: {self.trouble}"
        if self.command and not self.lines:
            yield f"  read them with: {self.command}"


async def _read_logs(location: Location, name: str | None, settings: Settings, lines: int) -> list[_JobLogs]:
    """Look at the jobs that failed, or at those of a name. Raises UsageError, LedgerError."""
    state = await asyncio.to_thread(fold_ledger, location, region=resolve_region(settings.aws))
    found = [_JobLogs.of(job) for job in state if (job.name == name if name else has_failed(job))]
    if name and not found:
        raise UsageError(f"the ledger {location} has no job named {name!r}; batchsubmit export lists them")
    asked = [each for each in found if each.stream][:_MOST_JOBS]
    try:
        if any(run.sandbox for run in state.runs):
            raise UsageError("the ledger is of a rehearsal: the sandbox is gone, and has no logs")
        region = require_region(resolve_region(settings.aws) or region_in(asked[0].arn if asked else ""))
        async with open_cleanrooms(settings, region=region) as api, open_client("logs", region=region) as client:
            for each in asked:
                await _ask(each, api, client, lines)
    except BatchsubmitError as exc:
        for each in asked:
            each.trouble = each.trouble or str(exc).partition("; nothing was sent")[0]
    return found


async def _ask(found: _JobLogs, api: CleanRooms, client: Any, most: int) -> None:  # noqa: ANN401 (aiobotocore's)
    """Ask the service of the job, and CloudWatch for its last lines."""
    answer = await api.get(found.membership, found.arn)
    if isinstance(answer, JobDetails):
        said = ": ".join(filter(None, (answer.status, answer.code, answer.message)))
        found.said = f"{said} ({answer.logs})" if answer.logs else said
    else:
        found.trouble = str(ReadError("GetTrainedModelInferenceJob", answer))
    last: deque[str] = deque(maxlen=most)
    request = {"logGroupName": LOG_GROUP, "logStreamNamePrefix": found.stream}
    try:
        for _ in range(_MOST_PAGES):
            page = await client.filter_log_events(**request)
            # Local CloudWatches pass over the prefix.
            last.extend(each["message"] for each in page["events"] if each["logStreamName"].startswith(found.stream))
            if not page.get("nextToken"):
                break
            request["nextToken"] = page["nextToken"]
    except Exception as exc:  # noqa: BLE001 (whatever it is, the lines cannot be read)
        found.trouble = str(ReadError("FilterLogEvents", outcome_of(exc, has_left=True))).partition(". Allow")[0]
    else:
        found.lines = tuple(last)
        found.trouble = found.trouble or ("" if last else "there is no line for it in CloudWatch, or not yet")
