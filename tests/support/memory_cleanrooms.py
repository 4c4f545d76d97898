"""The in-memory side of `JobsApi`: the sandbox's state machine without HTTP, for fast tests."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from batchsubmit.cleanrooms.api import Input, JobDetails, JobPage, JobsApi, Resource
from batchsubmit.cleanrooms.responses import read_details, read_refusal, read_resource, read_start, read_summary
from batchsubmit.core.jobs import KEY_TAG, Accepted, Job, Result
from batchsubmit.sandbox import SandboxService
from batchsubmit.sandbox.refusals import Refusal

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Something else than the service's answer reaches the caller; with `took_effect` the call counted all the same."""

    outcome: Result
    took_effect: bool = False


def _undisturbed(operation: str, name: str) -> Disturbance | None:
    del operation, name
    return None


class MemoryCleanRooms:
    """`JobsApi` on a `SandboxService` in this process. `disturb` is asked before each call (operation, job's name)."""

    def __init__(
        self,
        service: SandboxService,
        *,
        tag_jobs: bool = True,
        disturb: Callable[[str, str], Disturbance | None] = _undisturbed,
    ) -> None:
        self._service = service
        self._tag_jobs = tag_jobs
        self._disturb = disturb

    async def start(self, job: Job) -> Result:
        """Make one call and say what it brought."""
        request = dict(job.request)
        if self._tag_jobs:
            request["tags"] = {**request.get("tags", {}), KEY_TAG: job.tag}
        answer = self._call("StartTrainedModelInferenceJob", job.name, request)
        return read_start(job, answer) if isinstance(answer, dict) else answer

    async def list_page(
        self, membership: str, *, trained_model: str | None = None, token: str | None = None
    ) -> JobPage | Result:
        """Read one page of a membership's jobs, or what came instead."""
        request = {"membershipIdentifier": membership, "trainedModelArn": trained_model, "nextToken": token}
        given = {name: value for name, value in request.items() if value is not None}
        answer = self._call("ListTrainedModelInferenceJobs", "", given)
        if not isinstance(answer, dict):
            return answer
        jobs = tuple(read_summary(_with_moments(job)) for job in answer["trainedModelInferenceJobs"])
        return JobPage(jobs=jobs, next_token=answer.get("nextToken"))

    async def get(self, membership: str, arn: str) -> JobDetails | Result:
        """Read all about one job, or what came instead."""
        request = {"membershipIdentifier": membership, "trainedModelInferenceJobArn": arn}
        answer = self._call("GetTrainedModelInferenceJob", "", request)
        return read_details(_with_moments(answer)) if isinstance(answer, dict) else answer

    async def cancel(self, membership: str, arn: str) -> Result:
        """Ask for one job's end."""
        request = {"membershipIdentifier": membership, "trainedModelInferenceJobArn": arn}
        answer = self._call("CancelTrainedModelInferenceJob", "", request)
        return Accepted(arn) if isinstance(answer, dict) else answer

    async def input(self, wanted: Input) -> Resource | Result:
        """Read a trained model or an ML input channel, or what came instead."""
        request = {"membershipIdentifier": wanted.membership}
        if wanted.kind == "channel":
            answer = self._call("GetMLInputChannel", "", request | {"mlInputChannelArn": wanted.arn})
        else:
            version = {"versionIdentifier": wanted.version} if wanted.version else {}
            answer = self._call("GetTrainedModel", "", request | {"trainedModelArn": wanted.arn} | version)
        return read_resource(wanted.arn, _with_moments(answer)) if isinstance(answer, dict) else answer

    def _call(self, operation: str, name: str, request: Mapping[str, Any]) -> dict[str, Any] | Result:
        disturbance = self._disturb(operation, name)
        if disturbance is not None and not disturbance.took_effect:
            return disturbance.outcome
        try:
            reply = dict(self._service.call(operation, dict(request)))
        except Refusal as refusal:
            return read_refusal(refusal.status_code, refusal.code, refusal.message, refusal.members)
        return disturbance.outcome if disturbance is not None else reply


def _with_moments(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Read the times of an answer, as a client of the real service does."""
    times = {name: datetime.fromisoformat(answer[name]) for name in ("createTime", "updateTime") if name in answer}
    return {**answer, **times}


class Wire:
    """`JobsApi` at a distance: a request on its way arrives even where its sender is cancelled or dead."""

    def __init__(self, service: JobsApi, *, seconds: float = 0.01) -> None:
        self._service = service
        self._seconds = seconds
        self.is_cut = False

    async def start(self, job: Job) -> Result:
        """Make one call."""
        return await self._carry(self._service.start(job))

    async def list_page(
        self, membership: str, *, trained_model: str | None = None, token: str | None = None
    ) -> JobPage | Result:
        """Read a page."""
        return await self._carry(self._service.list_page(membership, trained_model=trained_model, token=token))

    async def get(self, membership: str, arn: str) -> JobDetails | Result:
        """Read a job."""
        return await self._carry(self._service.get(membership, arn))

    async def cancel(self, membership: str, arn: str) -> Result:
        """Cancel a job."""
        return await self._carry(self._service.cancel(membership, arn))

    async def _carry(self, call: Coroutine[Any, Any, _Result]) -> _Result:
        if self.is_cut:
            call.close()
            raise asyncio.CancelledError("a dead process makes no call")
        return await asyncio.shield(asyncio.ensure_future(self._travel(call)))

    async def _travel(self, call: Coroutine[Any, Any, _Result]) -> _Result:
        await asyncio.sleep(self._seconds)
        answer = await call
        await asyncio.sleep(self._seconds)
        return answer
