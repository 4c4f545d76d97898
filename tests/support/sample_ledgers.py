"""Ledgers for reports: a hand-written story event by event, and a night of any size as a program would write it."""

import heapq
import random
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from batchsubmit.clock import timestamp
from batchsubmit.core.jobs import (
    Absent,
    Event,
    Intent,
    JobFinished,
    JobRejected,
    JobSubmitted,
    JobUnknown,
    Refused,
    RunEnded,
    RunStarted,
    Share,
    job_digest,
    key_text,
)
from batchsubmit.ledger.lines import encode_line

BEGIN = datetime(2026, 11, 22, 22, tzinfo=UTC)
MEMBERSHIPS = tuple(f"{digit * 8}-{digit * 4}-4{digit * 3}-8{digit * 3}-{digit * 12}" for digit in "1357")
MODELS = ("churn-v3", "lookalike-v12", "propensity")
HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    "<!--<script>",
    "=HYPERLINK(1)",
    "line\u2028separated",
    '"><b>bold</b>',
    "{{ 7 * 7 }}",
)
QUOTA = "ServiceQuotaExceededException"


def arn(kind: str, name: str, membership: str = MEMBERSHIPS[0]) -> str:
    """An ARN as the service makes them."""
    return f"arn:aws:cleanrooms-ml:us-east-1:123456789012:membership/{membership}/{kind}/{name}"


def key(number: int) -> str:
    """A job's key."""
    return key_text(job_digest(b"%d" % number))


@dataclass(slots=True)
class Story:
    """Events told one by one, each so many seconds after the begin."""

    events: list[Event] = field(default_factory=list)
    membership: str = MEMBERSHIPS[0]
    quotas: dict[str, int] = field(default_factory=dict)

    def at(self, seconds: float) -> str:
        """A time of the story."""
        return timestamp(BEGIN + timedelta(seconds=seconds))

    def run(self, seconds: float, run: str = "r1", **members: Any) -> None:  # noqa: ANN401 (a test's)
        """A run begins."""
        given = {"batch": "", "manifest": "jobs.csv", "manifest_sha256": "0" * 64, "rows": 0, **members}
        self.events.append(RunStarted(at=self.at(seconds), run=run, version="0", holder="h", **given))

    def end(self, seconds: float, run: str = "r1", *, status: int = 0, reason: str = "", **counts: int) -> None:
        """A run ends."""
        ended = RunEnded(
            at=self.at(seconds), run=run, exit_status=status, reason=reason, counts=counts, quotas=self.quotas
        )
        self.events.append(ended)

    def _stamp(self, seconds: float, name: str) -> dict[str, str]:
        digest = key_text(job_digest(name.encode(errors="surrogatepass")))
        return {"at": self.at(seconds), "job": digest, "membership": self.membership, "name": name}

    def intent(self, seconds: float, name: str, attempt: int = 1) -> None:
        """A call is about to be made."""
        model = arn("trained-model", MODELS[0], self.membership)
        self.events.append(Intent(**self._stamp(seconds, name), attempt=attempt, trained_model=model))

    def accepted(self, seconds: float, name: str, attempt: int = 1, via: str = "start") -> None:
        """The service has it."""
        self.events.append(JobSubmitted(**self._stamp(seconds, name), arn=self.arn(name), attempt=attempt, via=via))

    def refused(self, seconds: float, name: str, code: str = QUOTA, attempt: int = 1, *, cause: str = "slots") -> None:
        """Not accepted now."""
        self.events.append(Refused(**self._stamp(seconds, name), code=code, cause=cause, attempt=attempt))

    def unknown(self, seconds: float, name: str, attempt: int = 1) -> None:
        """No answer."""
        self.events.append(JobUnknown(**self._stamp(seconds, name), reason="ReadTimeoutError", attempt=attempt))

    def absent(self, seconds: float, name: str, attempt: int = 1) -> None:
        """Looked up, and not there."""
        self.events.append(Absent(**self._stamp(seconds, name), attempt=attempt))

    def failed(self, seconds: float, name: str, code: str = "ValidationException", message: str = "no") -> None:
        """Never accepted."""
        self.events.append(JobRejected(**self._stamp(seconds, name), code=code, message=message, attempt=1))

    def finished(
        self, seconds: float, name: str, status: str = "ACTIVE", message: str = "", ended: float | None = None
    ) -> None:
        """At its end."""
        stamp = self._stamp(seconds, name)
        when = "" if ended is None else self.at(ended)
        self.events.append(JobFinished(**stamp, arn=self.arn(name), status=status, message=message, ended=when))

    def arn(self, name: str) -> str:
        """The ARN of this story's job."""
        return arn("trained-model-inference-job", f"id-{len(name)}", self.membership)


def _kind(number: int) -> tuple[str, str]:
    """The membership and trained model of a night's job."""
    membership = MEMBERSHIPS[number % 4]
    return membership, arn("trained-model", MODELS[number % 3], membership)


@dataclass(slots=True, kw_only=True)
class Night:
    """A batch of any size: four memberships of five slots in an account of ten, some trouble of each kind.

    `until_seconds` cuts the night off as a crash or a report of a run under way would. `hostile` names come first.
    """

    jobs: int
    mean_seconds: float = 900.0
    until_seconds: float | None = None
    hostile: Sequence[str] = ()
    seed: int = 1
    rows: int | None = None

    def events(self) -> Iterator[Event]:
        """The events in order of time."""
        drawn = random.Random(self.seed)
        told = sorted(self._all(drawn), key=lambda pair: pair[0])
        rows = self.rows or self.jobs
        kinds = Counter(map(_kind, range(rows)))
        yield RunStarted(
            at=timestamp(BEGIN),
            run="20261122T220000Z-17",
            batch="nightly-2026-11-22",
            manifest="s3://bucket/jobs.csv",
            manifest_sha256="5" * 64,
            version="0.1.0",
            holder="process 17 on night",
            rows=rows,
            to_do=rows,
            work=tuple(Share(membership, model, "", jobs) for (membership, model), jobs in kinds.items()),
            settings={"rate.max_per_second": "0.5", "submit.batch_id": '"nightly-{date}"'},
        )
        last = 0.0
        for seconds, event in told:
            if self.until_seconds is not None and seconds > self.until_seconds:
                return
            last = seconds
            yield event
        yield RunEnded(
            at=timestamp(BEGIN + timedelta(seconds=last + 1)),
            run="20261122T220000Z-17",
            exit_status=1,
            reason="",
            counts={"rows": rows, "left": rows - self.jobs},
            quotas={"account": 10} | dict.fromkeys(MEMBERSHIPS, 5),
        )

    def _all(self, drawn: random.Random) -> Iterator[tuple[float, Event]]:
        free = [0.5 * number for number in range(10)]
        heapq.heapify(free)
        for number in range(self.jobs):
            begin = heapq.heappop(free)
            name = self.hostile[number] if number < len(self.hostile) else f"churn-{number:06}"
            end = yield from self._job(drawn, number, name, begin + drawn.uniform(0.2, 4))
            heapq.heappush(free, end)

    def _job(
        self, drawn: random.Random, number: int, name: str, begin: float
    ) -> Iterator[tuple[float, Event]]:  # returns the time at which the slot is free again
        membership, model = _kind(number)

        def stamp(seconds: float) -> dict[str, str]:
            at = timestamp(BEGIN + timedelta(seconds=seconds))
            return {"at": at, "job": key(number), "membership": membership, "name": name}

        attempt, luck = 1, drawn.random()
        yield begin, Intent(**stamp(begin), attempt=1, trained_model=model)
        if luck < 0.3:
            code, cause = (QUOTA, "slots") if luck < 0.25 else ("ThrottlingException", "throttled")
            yield begin + 0.1, Refused(**stamp(begin + 0.1), code=code, cause=cause, attempt=1)
            begin, attempt = begin + drawn.uniform(1, 20), 2
            yield begin, Intent(**stamp(begin), attempt=2, trained_model=model)
        elif luck < 0.315:
            yield begin + 60, JobUnknown(**stamp(begin + 60), reason="ReadTimeoutError", attempt=1)
            if luck < 0.306:
                return begin + 60
            begin, attempt = begin + 130, 2
            yield begin - 1, Absent(**stamp(begin - 1), attempt=1)
            yield begin, Intent(**stamp(begin), attempt=2, trained_model=model)
        answered = begin + drawn.uniform(0.08, 0.4)
        if luck > 0.98:
            message = f"Trained model {model} is not ACTIVE (request {uuid.UUID(int=drawn.getrandbits(128))})"
            yield answered, Refused(**stamp(answered), code="ValidationException", cause="invalid", attempt=attempt)
            failed = JobRejected(**stamp(answered), code="ValidationException", message=message, attempt=attempt)
            yield answered, failed
            return answered
        job = arn("trained-model-inference-job", f"{drawn.getrandbits(128):032x}", membership)
        yield answered, JobSubmitted(**stamp(answered), arn=job, attempt=attempt, via="start")
        end = answered + drawn.lognormvariate(0, 0.4) * self.mean_seconds * (1 + number % 3 / 2)
        bad = luck > 0.96
        message = "OutOfMemoryError: container was killed at 15.8 GiB of 16 GiB" if bad else ""
        status = "CREATE_FAILED" if bad else "ACTIVE"
        yield end, JobFinished(**stamp(end), arn=job, status=status, message=message)
        return end

    def write(self, path: Path) -> Path:
        """Write the night as a ledger file."""
        with path.open("wb") as file:
            file.writelines(map(encode_line, self.events()))
        return path


def write_story(path: Path, story: Story) -> Path:
    """Write a story as a ledger file."""
    path.write_bytes(b"".join(map(encode_line, story.events)))
    return path
