"""Clean Rooms ML's inference jobs as a pure state machine: requests in, answers or a `Refusal` out.

It must not know HTTP, asyncio, files, the shapes of requests (`validation`) or injected faults (`faults`). The time
comes from the clock it is given, so a test or a simulation moves it by hand. Requests are dicts in the API's own member
names, members of the URI included, and valid.
"""

from bisect import bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from heapq import heappop, heappush
from itertools import count, islice
from math import inf, log
from random import Random
from typing import Any, Final, TypeAlias
from uuid import UUID

from batchsubmit.sandbox.refusals import ACCOUNT_QUOTA, LISTINGS, MEMBERSHIP_QUOTA, Operation, Refusal, over_quota
from batchsubmit.sandbox.resources import CALLER, SandboxResources, collaboration, wire_time
from batchsubmit.sandbox.settings import SandboxSettings

Request: TypeAlias = Mapping[str, Any]
Reply: TypeAlias = dict[str, Any]
_Asked: TypeAlias = tuple[tuple[str, str], ...]

ACCEPTED: Final = "accepted"
PAGE_SIZE: Final = 100
_LISTED_BY: Final = ("membershipIdentifier", "trainedModelArn", "trainedModelVersionIdentifier")
_JOB_PATH: Final = "/trained-model-inference-job/"
_LIMITED: Final = (Operation.START, Operation.GET, Operation.LIST)
_CALLER_ARN: Final = "arn:aws:sts::111122223333:assumed-role/sandbox/session"


class Status(StrEnum):
    """Where a job stands."""

    CREATE_PENDING = "CREATE_PENDING"
    CREATE_IN_PROGRESS = "CREATE_IN_PROGRESS"
    CREATE_FAILED = "CREATE_FAILED"
    ACTIVE = "ACTIVE"
    CANCEL_IN_PROGRESS = "CANCEL_IN_PROGRESS"
    INACTIVE = "INACTIVE"


_ENDED_BY_ITSELF: Final = frozenset({Status.ACTIVE, Status.CREATE_FAILED})
_STARTING: Final = frozenset({Status.CREATE_PENDING, Status.CREATE_IN_PROGRESS})

_USUAL_FAILURE: Final = "The inference container exited with a non-zero status (sandbox)."
_SUMMARIZED: Final = (
    "membershipIdentifier",
    "name",
    "trainedModelArn",
    "configuredModelAlgorithmAssociationArn",
    "trainedModelVersionIdentifier",
    "outputConfiguration",
    "description",
    "mlModelInferencePayerAccountId",
)


@dataclass(slots=True, kw_only=True, eq=False)
class JobRecord:
    """A job as the service keeps it. Times are Unix seconds."""

    job_id: str
    arn: str
    membership: str
    account: str
    name: str
    request: Mapping[str, Any]
    """The accepted request, without the members that are null."""
    created_at: float
    updated_at: float
    status: Status = Status.CREATE_PENDING
    run_seconds: float = 0.0
    failure_message: str = _USUAL_FAILURE
    unpublished: str = ""
    """Why the job's logs and metrics are not published; empty where they are."""

    @property
    def tags(self) -> dict[str, str]:
        """The job's tags."""
        tags: dict[str, str] = self.request.get("tags", {})
        return tags

    def summary(self) -> dict[str, object]:
        """Return the job as List shows it."""
        shown = {name: self.request[name] for name in _SUMMARIZED if name in self.request}
        return shown | {"collaborationIdentifier": collaboration(self.membership)} | self._progress()

    def detail(self) -> dict[str, object]:
        """Return the job as Get shows it."""
        shown = dict(self.request) | self._progress()
        if self.status is Status.CREATE_FAILED:
            shown["statusDetails"] = {"statusCode": "INTERNAL_ERROR", "message": self.failure_message}
        return shown

    def _progress(self) -> dict[str, object]:
        shown: dict[str, object] = {
            "trainedModelInferenceJobArn": self.arn,
            "status": self.status.value,
            "createTime": wire_time(self.created_at),
            "updateTime": wire_time(self.updated_at),
        }
        if self.status in _ENDED_BY_ITSELF:
            published = "PUBLISH_FAILED" if self.unpublished else "PUBLISH_SUCCEEDED"
            shown |= {"metricsStatus": published, "logsStatus": published}
            if self.unpublished:
                shown |= {"metricsStatusDetails": self.unpublished, "logsStatusDetails": self.unpublished}
        return shown


class SandboxService:
    """The service's state. `call` carries out its operations, by name.

    `clock` gives Unix seconds. `run_seconds` says how long a job of some name runs; without it the settings do.
    """

    def __init__(
        self, settings: SandboxSettings, clock: Callable[[], float], run_seconds: Callable[[str], float] | None = None
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._run_seconds = run_seconds
        self.reset()

    def reset(self) -> None:
        """Forget every job and count; the settings stay."""
        self._ids_drawn, self._runs_drawn = Random(self.settings.seed), Random(self.settings.seed)  # noqa: S311 - no secrets
        self._jobs: dict[str, JobRecord] = {}
        self._ids: dict[str, list[str]] = {}  # by membership, sorted
        self._accounts: dict[str, str] = {}
        self._due: list[tuple[float, int, Status, JobRecord]] = []  # a heap of coming changes
        self._order = count()
        self._latest = 0.0
        self._resources = SandboxResources(self.settings, self._now)
        self._tokens: dict[str, tuple[_Asked, str]] = {}  # with the id that the page goes on behind
        self.running: Counter[str] = Counter()
        """Held slots by membership, and by account."""
        self.calls: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """Calls by operation and outcome: `accepted`, an error code, or `cut` for no answer."""
        self._call_tokens: dict[str, tuple[float, float]] = {}  # by operation, with the time of the last call
        self._operations: Mapping[str, Callable[[Request], Reply]] = {
            Operation.START: self.start,
            Operation.GET: lambda request: self._find(request).detail(),
            Operation.LIST: self._list,
            Operation.CANCEL: self.cancel,
            Operation.GET_MODEL: self._resources.model,
            Operation.GET_CHANNEL: self._resources.channel,
            **{name: partial(self._resources.listing, name) for name in LISTINGS},
        }

    def configure(self, settings: SandboxSettings) -> None:
        """Change the settings from now on: running jobs keep the end and the duration they have."""
        self.settings = settings
        self._resources.configure(settings)

    def call(self, operation: str, request: Request) -> Reply:
        """Carry out an operation by its name and count it; raises `Refusal`."""
        try:
            reply = self._operations[operation](request)
        except Refusal as refusal:
            self.calls[operation][refusal.code] += 1
            raise
        self.calls[operation][ACCEPTED] += 1
        return reply

    def throttle(self, operation: str) -> None:
        """Let a call of an operation through or raise `Refusal`: asked before `call`, and only over HTTP.

        Each operation has a bucket of tokens, as with AWS: it begins full and refills evenly, and a call takes one.
        """
        settings, now = self.settings, self._advance()
        per_second, burst = settings.reads_per_second, max(settings.reads_per_second, 1.0)
        if operation == Operation.START:
            per_second, burst = settings.starts_per_second, float(settings.start_burst)
        if operation not in _LIMITED or not per_second:
            return
        left, at = self._call_tokens.get(operation, (inf, now))
        left = min(burst, left + (now - at) * per_second)
        is_limited = left < 1
        self._call_tokens[operation] = (left if is_limited else left - 1), now
        if is_limited:
            raise Refusal("ThrottlingException", "Rate exceeded")

    def start(self, request: Request) -> Reply:
        """StartTrainedModelInferenceJob, uncounted."""
        now = self._advance()
        model, membership = request["trainedModelArn"], request["membershipIdentifier"]
        self._require_permission(request)
        self._resources.require_active(model)
        self._resources.require_active(request["dataSource"]["mlInputChannelArn"])
        account = self._account(request)
        self._take_slot(membership, account)
        job_id = str(UUID(int=self._ids_drawn.getrandbits(128), version=4))
        job = JobRecord(
            job_id=job_id,
            arn=f"{model.rsplit(':', 2)[0]}:{account}:membership/{membership}{_JOB_PATH}{job_id}",
            membership=membership,
            account=account,
            name=request["name"],
            request={name: value for name, value in request.items() if value is not None},
            created_at=now,
            updated_at=now,
        )
        self._jobs[job_id] = job
        insort(self._ids.setdefault(membership, []), job_id)
        self._plan_run(job)
        return {"trainedModelInferenceJobArn": job.arn}

    def _plan_run(self, job: JobRecord) -> None:
        """Draw how a new job runs and ends: now, so that a seed repeats it whenever it is looked at."""
        settings, drawn = self.settings, self._runs_drawn
        mean, sigma = settings.job_seconds, settings.job_sigma
        if self._run_seconds:
            job.run_seconds = self._run_seconds(job.name)
        else:
            job.run_seconds = drawn.lognormvariate(log(mean) - sigma * sigma / 2, sigma) if mean and sigma else mean
        failing = drawn.random() < settings.failure_probability or job.name in settings.failing_names
        job.failure_message = settings.failure_messages.get(job.name, _USUAL_FAILURE)
        job.unpublished = settings.unpublished
        runs_at = job.created_at + settings.pending_seconds
        self._plan(job, runs_at, Status.CREATE_IN_PROGRESS)
        self._plan(job, runs_at + job.run_seconds, Status.CREATE_FAILED if failing else Status.ACTIVE)

    def _plan(self, job: JobRecord, at: float, status: Status) -> None:
        heappush(self._due, (at, next(self._order), status, job))

    def _require_permission(self, request: Request) -> None:
        resources = (
            request["trainedModelArn"],
            request["dataSource"]["mlInputChannelArn"],
            request.get("configuredModelAlgorithmAssociationArn", ""),
            request["membershipIdentifier"],
            request["name"],
        )
        for resource in resources:
            if resource in self.settings.denied:
                denied = f"not authorized to perform: cleanrooms-ml:{Operation.START} on resource: {resource}"
                raise Refusal("AccessDeniedException", f"User: {_CALLER_ARN} is {denied}")

    def _take_slot(self, membership: str, account: str) -> None:
        """Take a slot of each quota or raise the refusal. A quota of 0 is none."""
        settings = self.settings
        if membership in settings.other_quotas:
            raise over_quota(settings.other_quotas[membership], 0)
        for name, holder, quota in (
            (MEMBERSHIP_QUOTA, membership, settings.per_membership),
            (ACCOUNT_QUOTA, account, settings.per_account),
        ):
            if quota and self.running[holder] >= quota:
                raise over_quota(name, quota, named=settings.tells_quota)
        self.running.update((membership, account))

    def _list(self, request: Request) -> Reply:
        """Return a page; one of 0 jobs goes no further, as the real service may answer."""
        asked = tuple((name, request[name]) for name in _LISTED_BY if request.get(name) is not None)
        last = ""
        if (token := request.get("nextToken")) is not None:
            asked_before, last = self._tokens.get(token, ((), ""))
            if asked_before != asked:
                raise Refusal("ValidationException", "nextToken is not valid for this request.")
        limit = request.get("maxResults", PAGE_SIZE)
        page = list(islice(self._listed(asked, last), limit + 1))
        reply: Reply = {"trainedModelInferenceJobs": [job.summary() for job in page[:limit]]}
        if not limit or len(page) > limit:
            # Each is another, because botocore's paginators take a token seen twice for an endless loop.
            reply["nextToken"] = token = f"page-{len(self._tokens)}"
            self._tokens[token] = asked, page[limit - 1].job_id if limit else last
        return reply

    def cancel(self, request: Request) -> Reply:
        """CancelTrainedModelInferenceJob, uncounted. Cancelling what is being cancelled already changes nothing."""
        job = self._find(request)
        if job.status in _STARTING:
            job.status, job.updated_at = Status.CANCEL_IN_PROGRESS, self._latest
            self._plan(job, self._latest + self.settings.cancel_seconds, Status.INACTIVE)
        elif job.status is not Status.CANCEL_IN_PROGRESS:
            raise Refusal("ConflictException", f"Inference job {job.arn} is {job.status} and cannot be cancelled.")
        return {}

    def jobs(self) -> tuple[JobRecord, ...]:
        """Return every accepted job, in the order of acceptance."""
        self._advance()
        return tuple(self._jobs.values())

    def statuses(self) -> dict[str, int]:
        """Return how many jobs there are of each status."""
        return Counter(job.status.value for job in self.jobs())

    def job(self, arn: str) -> JobRecord | None:
        """Return the job with this ARN, if there is one."""
        self._advance()
        job = self._jobs.get(arn.rpartition("/")[2])
        return job if job is not None and job.arn == arn else None

    def next_change_at(self) -> float | None:
        """Return when a running job changes next, in Unix seconds; None if none runs."""
        while self._due:
            at, _, status, job = self._due[0]
            if job.status in _STARTING or status is Status.INACTIVE:
                return at
            heappop(self._due)  # void, for the job was cancelled
        return None

    def _advance(self) -> float:
        """Let everything happen that was due, at its own time, and return the time, which never goes back."""
        self._latest = self._now()
        while (at := self.next_change_at()) is not None and at <= self._latest:
            *_, status, job = heappop(self._due)
            job.status, job.updated_at = status, at
            if status is not Status.CREATE_IN_PROGRESS:
                self.running.subtract((job.membership, job.account))
        return self._latest

    def _account(self, request: Request) -> str:
        """Tell a membership's account by an ARN of its own; the service knows it by the caller."""
        membership = request["membershipIdentifier"]
        for arn in (request["trainedModelArn"], request["dataSource"]["mlInputChannelArn"]):
            if f":membership/{membership}/" in arn:
                self._accounts[membership] = arn.split(":", 5)[4]
                break
        return self._accounts.get(membership, CALLER)

    def _now(self) -> float:
        return max(self._latest, self._clock())

    def _listed(self, asked: _Asked, last: str) -> Iterator[JobRecord]:
        """Give the jobs that have what is asked for, and stand behind an id."""
        ids = self._ids.get(dict(asked)["membershipIdentifier"], [])
        visible_before = self._advance() - self.settings.list_lag_seconds
        for position in range(bisect_right(ids, last), len(ids)):
            job = self._jobs[ids[position]]
            if job.created_at <= visible_before and all(job.request.get(name) == value for name, value in asked):
                yield job

    def _find(self, request: Request) -> JobRecord:
        arn = request["trainedModelInferenceJobArn"]
        job = self.job(arn)
        if job is None or job.membership != request["membershipIdentifier"]:
            raise Refusal("ResourceNotFoundException", f"Inference job {arn} was not found.")
        return job
