"""Clean Rooms ML's inference jobs as a pure state machine: requests in, answers or a `Refusal` out.

It must not know HTTP, asyncio, files, the shapes of requests (`validation`) or injected faults (`faults`). The time
comes from the clock it is given, so a test or a simulation moves it by hand. Requests are dicts in the API's own member
names, members of the URI included, and valid.
"""

import json
from bisect import bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import count, islice
from math import inf
from random import Random
from typing import Any, Final, TypeAlias
from uuid import NAMESPACE_URL, UUID, uuid5

from batchsubmit.sandbox.records import STARTING, JobRecord, Lifecycle, Status
from batchsubmit.sandbox.refusals import (
    ACCOUNT_QUOTA,
    LISTINGS,
    MEMBERSHIP_QUOTA,
    Operation,
    Refusal,
    over_quota,
)
from batchsubmit.sandbox.resources import CALLER, CHANNEL, MODEL, SandboxResources
from batchsubmit.sandbox.settings import SandboxSettings

Request: TypeAlias = Mapping[str, Any]
Reply: TypeAlias = dict[str, Any]
Clock: TypeAlias = Callable[[], float]
"""Returns Unix seconds."""

ACCEPTED: Final = "accepted"
PAGE_SIZE: Final = 100
_JOB_PATH: Final = "/trained-model-inference-job/"
_CALLER_ARN: Final = "arn:aws:sts::111122223333:assumed-role/sandbox/session"


class CallCounts:
    """Calls by operation and outcome. An outcome is `accepted`, an error code, or `cut` for no answer."""

    def __init__(self) -> None:
        self._outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def count(self, operation: str, outcome: str) -> None:
        """Count one call."""
        self._outcomes[operation][outcome] += 1

    def received(self, operation: str) -> int:
        """Return how many calls of an operation came."""
        return self._outcomes[operation].total()

    def accepted(self, operation: str) -> int:
        """Return how many of them took effect, answered or not."""
        return self._outcomes[operation][ACCEPTED]

    def refused(self, operation: str) -> dict[str, int]:
        """Return how many were refused, by code."""
        return {code: number for code, number in self._outcomes[operation].items() if code != ACCEPTED}

    def by_operation(self) -> dict[str, dict[str, int]]:
        """Return all counts, by outcome."""
        return {operation: dict(outcomes) for operation, outcomes in self._outcomes.items() if outcomes}


class RunningSlots:
    """Counts of held slots, kept as jobs come and go, with the most that were ever held at once."""

    def __init__(self) -> None:
        self.by_membership: Counter[str] = Counter()
        self.by_account: Counter[str] = Counter()
        self.most_by_membership: Counter[str] = Counter()
        self.most_by_account: Counter[str] = Counter()

    def take(self, membership: str, account: str, settings: SandboxSettings) -> None:
        """Take one slot or raise the refusal. A quota of 0 is none."""
        for name, quota, held in (
            (MEMBERSHIP_QUOTA, settings.per_membership, self.by_membership[membership]),
            (ACCOUNT_QUOTA, settings.per_account, self.by_account[account]),
        ):
            if quota and held >= quota:
                raise over_quota(name, quota, named=settings.tells_quota)
        self.by_membership[membership] += 1
        self.by_account[account] += 1
        self.most_by_membership |= self.by_membership
        self.most_by_account |= self.by_account

    def release(self, membership: str, account: str) -> None:
        """Give one slot back."""
        self.by_membership[membership] -= 1
        self.by_account[account] -= 1


class _TokenBucket:
    """How AWS limits the calls of one operation: it begins full, refills evenly, and each call takes a token."""

    def __init__(self) -> None:
        self._tokens = inf
        self._at = 0.0

    def takes_token(self, now: float, per_second: float, burst: float) -> bool:
        self._tokens = min(burst, self._tokens + (now - self._at) * per_second)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class SandboxService:
    """The service's state. Each method is one operation; `call` reaches them by name and counts.

    `run_seconds` says how long a job of some name runs; without it the settings do.
    """

    def __init__(
        self, settings: SandboxSettings, clock: Clock, run_seconds: Callable[[str], float] | None = None
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._run_seconds = run_seconds
        self.reset()

    def reset(self) -> None:
        """Forget every job and count; the settings stay."""
        self._random = Random(self.settings.seed)  # noqa: S311 - ids, not secrets
        self._jobs: dict[str, JobRecord] = {}
        self._ids: dict[str, list[str]] = {}  # by membership, sorted
        self._accounts: dict[str, str] = {}
        self._lifecycle = Lifecycle(self.settings, self._run_seconds)
        self._latest = 0.0
        self._resources = SandboxResources(self.settings, self._now)
        self._serials = count()
        self.slots = RunningSlots()
        self.tally = CallCounts()
        limited = (Operation.START, Operation.GET, Operation.LIST)
        self._buckets: dict[str, _TokenBucket] = {operation: _TokenBucket() for operation in limited}
        self._operations: Mapping[str, Callable[[Request], Reply]] = {
            Operation.START: self.start,
            Operation.GET: self.get,
            Operation.LIST: self.list,
            Operation.CANCEL: self.cancel,
            Operation.GET_MODEL: self.get_model,
            Operation.GET_CHANNEL: self.get_channel,
            **{name: partial(self._resources.listing, name) for name in LISTINGS},
        }

    def configure(self, settings: SandboxSettings) -> None:
        """Change the settings from now on: running jobs keep the end and the duration they have."""
        self.settings = self._lifecycle.settings = settings
        self._resources.configure(settings)

    def call(self, operation: str, request: Request) -> Reply:
        """Carry out an operation by its name and count it; raises `Refusal`."""
        try:
            reply = self._operations[operation](request)
        except Refusal as refusal:
            self.tally.count(operation, refusal.code)
            raise
        self.tally.count(operation, ACCEPTED)
        return reply

    def throttle(self, operation: str) -> None:
        """Let a call of an operation through or raise `Refusal`: asked before `call`, and only over HTTP."""
        settings = self.settings
        if operation == Operation.START:
            per_second, burst = settings.starts_per_second, float(settings.start_burst)
        else:
            per_second, burst = settings.reads_per_second, max(settings.reads_per_second, 1.0)
        bucket = self._buckets.get(operation)
        if bucket and per_second and not bucket.takes_token(self._advance(), per_second, burst):
            raise Refusal("ThrottlingException", "Rate exceeded")

    def start(self, request: Request) -> Reply:
        """StartTrainedModelInferenceJob."""
        now = self._advance()
        model, membership = request["trainedModelArn"], request["membershipIdentifier"]
        self._require_permission(request)
        self._resources.require_active(MODEL, model)
        self._resources.require_active(CHANNEL, request["dataSource"]["mlInputChannelArn"])
        account = self._account(request)
        if membership in self.settings.other_quotas:
            raise over_quota(self.settings.other_quotas[membership], 0)
        self.slots.take(membership, account, self.settings)
        kept = {name: value for name, value in request.items() if name != "tags" and value is not None}
        job = JobRecord(
            job_id=str(UUID(int=self._random.getrandbits(128), version=4)),
            arn_prefix=f"{model.rsplit(':', 2)[0]}:{account}:membership/{membership}{_JOB_PATH}",
            membership=membership,
            account=account,
            name=request["name"],
            model=model,
            version=request.get("trainedModelVersionIdentifier"),
            tags=dict(request.get("tags") or {}),
            packed=json.dumps(kept).encode(),
            created_at=now,
            updated_at=now,
        )
        self._jobs[job.job_id] = job
        insort(self._ids.setdefault(membership, []), job.job_id)
        self._lifecycle.begin(job)
        return {"trainedModelInferenceJobArn": job.arn}

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

    def get(self, request: Request) -> Reply:
        """GetTrainedModelInferenceJob."""
        self._advance()
        return self._find(request).detail()

    def list(self, request: Request, *, empty: bool = False) -> Reply:
        """ListTrainedModelInferenceJobs; an `empty` page goes no further, as the real service may answer."""
        now = self._advance()
        last = _last_listed(request)
        limit = 0 if empty else request.get("maxResults") or PAGE_SIZE
        page = list(islice(self._listed(request, last, now), limit + 1))
        reply: Reply = {"trainedModelInferenceJobs": [job.summary() for job in page[:limit]]}
        if empty or len(page) > limit:
            last = page[limit - 1].job_id if limit else last
            # A serial, because botocore's paginators take a token seen twice for an endless loop.
            reply["nextToken"] = f"{next(self._serials)}.{last}.{_bound_to(request)}"
        return reply

    def cancel(self, request: Request) -> Reply:
        """CancelTrainedModelInferenceJob. Cancelling what is being cancelled already changes nothing."""
        now = self._advance()
        job = self._find(request)
        if job.status in STARTING:
            self._lifecycle.cancel(job, now)
        elif job.status is not Status.CANCEL_IN_PROGRESS:
            raise Refusal("ConflictException", f"Inference job {job.arn} is {job.status} and cannot be cancelled.")
        return {}

    def get_model(self, request: Request) -> Reply:
        """GetTrainedModel."""
        arn, version = request["trainedModelArn"], request.get("versionIdentifier")
        return self._resources.model(arn, request["membershipIdentifier"], version)

    def get_channel(self, request: Request) -> Reply:
        """GetMLInputChannel."""
        return self._resources.channel(request["mlInputChannelArn"], request["membershipIdentifier"])

    def jobs(self) -> tuple[JobRecord, ...]:
        """Return every accepted job, in the order of acceptance."""
        self._advance()
        return tuple(self._jobs.values())

    def statuses(self) -> dict[str, int]:
        """Return how many jobs there are of each status."""
        return Counter(job.status.value for job in self.jobs())

    def job(self, arn: str) -> JobRecord | None:
        """Return the job with this ARN, if there is one."""
        job = self._jobs.get(arn.rpartition("/")[2])
        return job if job is not None and job.arn == arn else None

    def next_change_at(self) -> float | None:
        """Return when a running job changes next, in Unix seconds; None if none runs."""
        return self._lifecycle.next_change_at()

    def _advance(self) -> float:
        """Let everything happen that was due, and return the time, which never goes back."""
        self._latest = self._now()
        for job in self._lifecycle.advance(self._latest):
            self.slots.release(job.membership, job.account)
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

    def _listed(self, request: Request, last: str, now: float) -> Iterator[JobRecord]:
        ids = self._ids.get(request["membershipIdentifier"], [])
        model, version = request.get("trainedModelArn"), request.get("trainedModelVersionIdentifier")
        visible_before = now - self.settings.list_lag_seconds
        for position in range(bisect_right(ids, last), len(ids)):
            job = self._jobs[ids[position]]
            if job.created_at <= visible_before and model in (None, job.model) and version in (None, job.version):
                yield job

    def _find(self, request: Request) -> JobRecord:
        arn = request["trainedModelInferenceJobArn"]
        job = self.job(arn)
        if job is None or job.membership != request["membershipIdentifier"]:
            raise Refusal("ResourceNotFoundException", f"Inference job {arn} was not found.")
        return job


def _bound_to(request: Request) -> str:
    """Return what a `nextToken` is bound to: a digest of the membership and the filters."""
    filters = ("membershipIdentifier", "trainedModelArn", "trainedModelVersionIdentifier")
    return str(uuid5(NAMESPACE_URL, json.dumps([request.get(name) for name in filters])))


def _last_listed(request: Request) -> str:
    """Return the id that a page begins behind; without a token it is empty."""
    token: str | None = request.get("nextToken")
    if token is None:
        return ""
    _, last, bound_to = [*token.split("."), "", "", ""][:3]
    if bound_to != _bound_to(request):
        raise Refusal("ValidationException", "nextToken is not valid for this request.")
    return last
