"""Clean Rooms ML's inference jobs as a pure state machine: requests in, answers or a `Refusal` out.

It must not know HTTP, asyncio, files, the shapes of requests (`validation`) or injected faults (`faults`). The time
comes from the clock it is given, so a test or a simulation moves it by hand. Requests are dicts in the API's own member
names, members of the URI included, and valid.
"""

import base64
import json
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import count, islice
from math import inf
from random import Random
from typing import Any, Final, TypeAlias
from uuid import UUID

from batchsubmit.sandbox.records import CANCELLING, STARTING, JobRecord, Lifecycle, pack
from batchsubmit.sandbox.refusals import (
    ACCOUNT_QUOTA,
    CANCEL,
    GET,
    GET_CHANNEL,
    GET_MODEL,
    LIST,
    LIST_TAGS,
    LISTINGS,
    MEMBERSHIP_QUOTA,
    START,
    TAG,
    UNTAG,
    Refusal,
    bare_quota,
    denied,
    invalid,
    over_quota,
)
from batchsubmit.sandbox.resources import CALLER, CHANNEL, MODEL, SandboxResources
from batchsubmit.sandbox.settings import SandboxSettings
from batchsubmit.sandbox.validation import tag_problems

Request: TypeAlias = Mapping[str, Any]
Reply: TypeAlias = dict[str, Any]
Clock: TypeAlias = Callable[[], float]
"""Returns Unix seconds."""

ACCEPTED: Final = "accepted"
PAGE_SIZE: Final = 100
_JOB_PATH: Final = "/trained-model-inference-job/"


class CallCounts:
    """Calls by operation and outcome. An outcome is `accepted`, an error code, or `cut` for no answer."""

    def __init__(self) -> None:
        self._outcomes: Counter[tuple[str, str]] = Counter()

    def count(self, operation: str, outcome: str) -> None:
        """Count one call."""
        self._outcomes[operation, outcome] += 1

    def received(self, operation: str) -> int:
        """Return how many calls of an operation came."""
        return sum(self.outcomes(operation).values())

    def accepted(self, operation: str) -> int:
        """Return how many of them took effect, answered or not."""
        return self._outcomes[operation, ACCEPTED]

    def refused(self, operation: str) -> dict[str, int]:
        """Return how many were refused, by code."""
        return {code: number for code, number in self.outcomes(operation).items() if code != ACCEPTED}

    def by_operation(self) -> dict[str, dict[str, int]]:
        """Return all counts."""
        return {operation: self.outcomes(operation) for operation, _ in self._outcomes}

    def outcomes(self, operation: str) -> dict[str, int]:
        """Return the counts of one operation by outcome."""
        return {outcome: number for (called, outcome), number in self._outcomes.items() if called == operation}


class SlotCounts:
    """Counts of held slots, kept as jobs come and go, with the most that were ever held at once."""

    def __init__(self) -> None:
        self.by_membership: Counter[str] = Counter()
        self.by_account: Counter[str] = Counter()
        self.most_by_membership: Counter[str] = Counter()
        self.most_by_account: Counter[str] = Counter()

    def take(self, membership: str, account: str, *, per_membership: int, per_account: int) -> None:
        """Take one slot or raise the refusal. A quota of 0 is none."""
        if per_membership and self.by_membership[membership] >= per_membership:
            raise over_quota(MEMBERSHIP_QUOTA, per_membership)
        if per_account and self.by_account[account] >= per_account:
            raise over_quota(ACCOUNT_QUOTA, per_account)
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
        self._settings = settings
        self._clock = clock
        self._run_seconds = run_seconds
        self.reset()

    def reset(self) -> None:
        """Forget every job, tag and count; the settings stay."""
        self._random = Random(self._settings.seed)  # noqa: S311 - ids, not secrets
        self._jobs: dict[str, JobRecord] = {}
        self._ids: dict[str, list[str]] = {}  # by membership, sorted
        self._other_tags: dict[str, dict[str, str]] = {}
        self._accounts: dict[str, str] = {}
        self._lifecycle = Lifecycle(self._settings, self._run_seconds)
        self._latest = 0.0
        self._resources = SandboxResources(self._settings, self._now)
        self._serials = count()
        self.slots = SlotCounts()
        self.tally = CallCounts()
        self._buckets = {operation: _TokenBucket() for operation in (START, GET, LIST)}
        self._operations: Mapping[str, Callable[[Request], Reply]] = {
            START: self.start,
            GET: self.get,
            LIST: self.list,
            CANCEL: self.cancel,
            GET_MODEL: self.get_model,
            GET_CHANNEL: self.get_channel,
            TAG: self.tag,
            UNTAG: self.untag,
            LIST_TAGS: self.list_tags,
            **{name: partial(self._resources.listing, name) for name in LISTINGS},
        }

    @property
    def settings(self) -> SandboxSettings:
        """The settings in force."""
        return self._settings

    def configure(self, settings: SandboxSettings) -> None:
        """Change the settings from now on: running jobs keep the end and the duration they have."""
        self._settings = self._lifecycle.settings = settings
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
        settings = self._settings
        if operation == START:
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
        settings = self._settings
        if membership in settings.other_quotas:
            raise over_quota(settings.other_quotas[membership], 0)
        try:
            self.slots.take(
                membership, account, per_membership=settings.per_membership, per_account=settings.per_account
            )
        except Refusal as refusal:
            raise (refusal if settings.tells_quota else bare_quota()) from None
        job = JobRecord(
            job_id=str(UUID(int=self._random.getrandbits(128), version=4)),
            arn_prefix=f"{model.rsplit(':', 2)[0]}:{account}:membership/{membership}{_JOB_PATH}",
            membership=membership,
            account=account,
            name=request["name"],
            model=model,
            version=request.get("trainedModelVersionIdentifier"),
            tags=dict(request.get("tags") or {}),
            packed=pack(request),
            created_at=now,
            updated_at=now,
        )
        self._keep(job)
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
            if resource in self._settings.denied:
                raise denied(resource)

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
            reply["nextToken"] = _token(next(self._serials), page[limit - 1].job_id if limit else last, request)
        return reply

    def cancel(self, request: Request) -> Reply:
        """CancelTrainedModelInferenceJob. Cancelling what is being cancelled already changes nothing."""
        now = self._advance()
        job = self._find(request)
        if job.status in STARTING:
            self._lifecycle.cancel(job, now)
        elif job.status not in CANCELLING:
            raise Refusal("ConflictException", f"Inference job {job.arn} is {job.status} and cannot be cancelled.")
        return {}

    def get_model(self, request: Request) -> Reply:
        """GetTrainedModel."""
        arn = request["trainedModelArn"]
        shown = self._resources.model(arn, request["membershipIdentifier"], request.get("versionIdentifier"))
        return self._with_tags(arn, shown)

    def get_channel(self, request: Request) -> Reply:
        """GetMLInputChannel."""
        arn = request["mlInputChannelArn"]
        return self._with_tags(arn, self._resources.channel(arn, request["membershipIdentifier"]))

    def tag(self, request: Request) -> Reply:
        """TagResource."""
        tags = self._tags_of(request["resourceArn"]) | request["tags"]
        if problems := tag_problems(tags):
            raise invalid(*problems)
        self._set_tags(request["resourceArn"], tags)
        return {}

    def untag(self, request: Request) -> Reply:
        """UntagResource."""
        tags = self._tags_of(request["resourceArn"])
        left = {key: value for key, value in tags.items() if key not in request["tagKeys"]}
        self._set_tags(request["resourceArn"], left)
        return {}

    def list_tags(self, request: Request) -> Reply:
        """ListTagsForResource."""
        return {"tags": dict(self._tags_of(request["resourceArn"]))}

    def jobs(self) -> tuple[JobRecord, ...]:
        """Return every accepted job, in the order of acceptance."""
        self._advance()
        return tuple(self._jobs.values())

    def statuses(self) -> dict[str, int]:
        """Return how many jobs there are of each status."""
        self._advance()
        return {status.value: number for status, number in self._lifecycle.statuses.items() if number}

    def name_of(self, arn: str) -> str | None:
        """Return the name of the job with this ARN, if there is one."""
        job = self._job(arn)
        return job.name if job else None

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
        return max(self._latest, self._clock() + self._settings.clock_offset_seconds)

    def _keep(self, job: JobRecord) -> None:
        self._jobs[job.job_id] = job
        insort(self._ids.setdefault(job.membership, []), job.job_id)
        self._lifecycle.begin(job)

    def _listed(self, request: Request, last: str, now: float) -> Iterator[JobRecord]:
        ids = self._ids.get(request["membershipIdentifier"], [])
        model, version = request.get("trainedModelArn"), request.get("trainedModelVersionIdentifier")
        visible_before = now - self._settings.list_lag_seconds
        for position in range(bisect_right(ids, last), len(ids)):
            job = self._jobs[ids[position]]
            if job.created_at <= visible_before and model in (None, job.model) and version in (None, job.version):
                yield job

    def _find(self, request: Request) -> JobRecord:
        arn = request["trainedModelInferenceJobArn"]
        job = self._job(arn)
        if job is None or job.membership != request["membershipIdentifier"]:
            raise Refusal("ResourceNotFoundException", f"Inference job {arn} was not found.")
        return job

    def _job(self, arn: str) -> JobRecord | None:
        job = self._jobs.get(arn.rpartition("/")[2])
        return job if job is not None and job.arn == arn else None

    def _tags_of(self, arn: str) -> dict[str, str]:
        job = self._job(arn)
        if job is not None:
            return job.tags
        if _JOB_PATH in arn:
            raise Refusal("ResourceNotFoundException", f"Inference job {arn} was not found.")
        self._resources.require(MODEL, arn)
        return self._other_tags.get(arn, {})

    def _set_tags(self, arn: str, tags: dict[str, str]) -> None:
        job = self._job(arn)
        if job is not None:
            job.tags = tags
        else:
            self._other_tags[arn] = tags

    def _with_tags(self, arn: str, shown: Reply) -> Reply:
        tags = self._other_tags.get(arn)
        return shown | {"tags": dict(tags)} if tags else shown


def _query_of(request: Request) -> list[Any]:
    """Return what a `nextToken` is bound to: the membership and the filters."""
    return [
        request["membershipIdentifier"],
        request.get("trainedModelArn"),
        request.get("trainedModelVersionIdentifier"),
    ]


def _token(serial: int, last: str, request: Request) -> str:
    """Return the token of the page behind the job `last`, opaque to the caller.

    `serial` makes every token another one: botocore's paginators take a token seen twice for an endless loop.
    """
    return base64.urlsafe_b64encode(json.dumps([serial, last, *_query_of(request)]).encode()).decode()


def _last_listed(request: Request) -> str:
    """Return the id that a page begins behind; without a token it is empty."""
    token: str | None = request.get("nextToken")
    if token is None:
        return ""
    try:
        _, last, *bound_to = json.loads(base64.b64decode(token.encode(), altchars=b"-_", validate=True))
        if bound_to == _query_of(request) and isinstance(last, str):
            return last
    except (ValueError, TypeError, RecursionError):
        pass
    raise Refusal("ValidationException", "nextToken is not valid for this request.")
