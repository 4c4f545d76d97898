"""Clean Rooms ML's inference jobs as a pure state machine: requests in, answers or a `Refusal` out.

It must not know HTTP, asyncio, files, validation of shapes (`form`) or injected faults (`faults`). The time
comes from the clock it is given, so a test or a simulation moves it by hand. Requests are dicts in the API's
own member names, as `form` lets them through, members of the URI included.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import count, islice
from math import inf
from random import Random
from sys import intern
from typing import Any, Final, TypeAlias

from batchsubmit.sandbox import listing as paging
from batchsubmit.sandbox.calls import ACCEPTED, Tally
from batchsubmit.sandbox.listing import OrderedIndex
from batchsubmit.sandbox.quotas import Slots
from batchsubmit.sandbox.records import CANCELLING, STARTING, JobRecord, Lifecycle, new_id, pack
from batchsubmit.sandbox.refusals import (
    CANCEL,
    GET,
    GET_CHANNEL,
    GET_MODEL,
    LIST,
    LIST_TAGS,
    START,
    TAG,
    UNTAG,
    Refusal,
    bare_quota,
    denied,
    invalid,
    over_quota,
)
from batchsubmit.sandbox.resources import Channels, Creation, Models
from batchsubmit.sandbox.settings import SandboxSettings
from batchsubmit.sandbox.validation import merged, tag_problems, without

Request: TypeAlias = Mapping[str, Any]
Reply: TypeAlias = dict[str, Any]
Clock: TypeAlias = Callable[[], float]
"""Returns Unix seconds."""

PAGE_SIZE: Final = 100
_JOB_PATH: Final = "/trained-model-inference-job/"
_CALLER: Final = "123456789012"
"""The account of memberships whose requests name resources of others alone."""


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
        self._indexes: dict[tuple[str, str | None], OrderedIndex] = {}
        self._other_tags: dict[str, dict[str, str]] = {}
        self._accounts: dict[str, str] = {}
        self._lifecycle = Lifecycle(self._settings, self._run_seconds)
        self._latest = 0.0
        self._creation = Creation(self._now)
        self._creation.set(self._settings.creating_seconds)
        self._models = Models(self._settings, self._creation)
        self._channels = Channels(self._settings, self._creation)
        self._serials = count()
        self.slots = Slots()
        self.tally = Tally()
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
        }

    @property
    def settings(self) -> SandboxSettings:
        """The settings in force."""
        return self._settings

    def configure(self, settings: SandboxSettings) -> None:
        """Change the settings from now on: running jobs keep the fate and the duration they have."""
        self._settings = self._lifecycle.settings = self._models.settings = self._channels.settings = settings
        self._creation.set(settings.creating_seconds)

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
        """Let a call of an operation through or raise `Refusal`; what stands before the service asks this first."""
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
        model, membership = intern(request["trainedModelArn"]), intern(request["membershipIdentifier"])
        self._require_permission(request)
        self._models.require_active(model)
        self._channels.require_active(request["dataSource"]["mlInputChannelArn"])
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
            job_id=new_id(self._random),
            arn_prefix=intern(f"{model.rsplit(':', 2)[0]}:{account}:membership/{membership}{_JOB_PATH}"),
            membership=membership,
            account=account,
            name=request["name"],
            model=model,
            version=request.get("trainedModelVersionIdentifier"),
            tags={intern(key): value for key, value in (request.get("tags") or {}).items()} or None,
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
        query = paging.query_of(request)
        last = paging.read(request.get("nextToken"), query)
        limit = 0 if empty else request.get("maxResults") or PAGE_SIZE
        page = list(islice(self._listed(request, last, now), limit + 1))
        reply: Reply = {"trainedModelInferenceJobs": [job.summary() for job in page[:limit]]}
        if empty or len(page) > limit:
            reply["nextToken"] = paging.write(next(self._serials), page[limit - 1].job_id if limit else last, query)
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
        shown = self._models.detail(arn, request["membershipIdentifier"], request.get("versionIdentifier"))
        tags = self._other_tags.get(arn)
        return shown | {"tags": dict(tags)} if tags else shown

    def get_channel(self, request: Request) -> Reply:
        """GetMLInputChannel."""
        arn = request["mlInputChannelArn"]
        shown = self._channels.detail(arn, request["membershipIdentifier"])
        tags = self._other_tags.get(arn)
        return shown | {"tags": dict(tags)} if tags else shown

    def tag(self, request: Request) -> Reply:
        """TagResource."""
        tags = merged(self._tags_of(request["resourceArn"]), request["tags"])
        if problems := tag_problems(tags):
            raise invalid(*problems)
        self._set_tags(request["resourceArn"], tags)
        return {}

    def untag(self, request: Request) -> Reply:
        """UntagResource."""
        tags = without(self._tags_of(request["resourceArn"]), request["tagKeys"])
        self._set_tags(request["resourceArn"], tags)
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
        membership = intern(request["membershipIdentifier"])
        for arn in (request["trainedModelArn"], request["dataSource"]["mlInputChannelArn"]):
            if f":membership/{membership}/" in arn:
                self._accounts[membership] = intern(arn.split(":", 5)[4])
                break
        return self._accounts.get(membership, _CALLER)

    def _now(self) -> float:
        return max(self._latest, self._clock() + self._settings.clock_offset_seconds)

    def _keep(self, job: JobRecord) -> None:
        self._jobs[job.job_id] = job
        for model in (None, job.model):
            self._indexes.setdefault((job.membership, model), OrderedIndex()).add(job.job_id)
        self._lifecycle.begin(job)

    def _listed(self, request: Request, last: str, now: float) -> Iterator[JobRecord]:
        index = self._indexes.get((request["membershipIdentifier"], request.get("trainedModelArn")))
        version = request.get("trainedModelVersionIdentifier")
        visible_before = now - self._settings.list_lag_seconds
        for job_id in index.after(last) if index else ():
            job = self._jobs[job_id]
            if job.created_at <= visible_before and version in (None, job.version):
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
            return job.tags or {}
        if _JOB_PATH in arn:
            raise Refusal("ResourceNotFoundException", f"Inference job {arn} was not found.")
        self._models.require(arn)
        return self._other_tags.get(arn, {})

    def _set_tags(self, arn: str, tags: dict[str, str]) -> None:
        job = self._job(arn)
        if job is not None:
            job.tags = tags or None
        else:
            self._other_tags[arn] = tags
