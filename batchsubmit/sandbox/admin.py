"""The sandbox's own calls under `/_sandbox/`: read what the service has, and change it while it runs.

| call | body or query | what it does |
| --- | --- | --- |
| `GET /_sandbox/jobs` | `?request=1` | every accepted job as JSON lines, in the order of acceptance |
| `GET /_sandbox/stats` | | calls by outcome, faults, jobs by status, slots held now and at most |
| `GET /_sandbox/settings` | | the settings in force |
| `PUT /_sandbox/settings` | members of `SandboxSettings` | changes those settings |
| `PUT /_sandbox/quotas` | `per_membership`, `per_account` | changes the quotas |
| `PUT /_sandbox/faults` | members of `FaultPlan` | replaces the faults; `{}` for none |
| `POST /_sandbox/reset` | | forgets jobs, tags and counts, and begins the faults again |

It must not know a web server.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from batchsubmit.sandbox.faults import FaultPlan, Faults
from batchsubmit.sandbox.records import JobRecord, timestamp
from batchsubmit.sandbox.refusals import START
from batchsubmit.sandbox.service import SandboxService

PREFIX: Final = "/_sandbox/"
_LINES_AT_ONCE: Final = 100
_QUOTAS: Final = frozenset({"per_membership", "per_account"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminAnswer:
    """A status and a body in pieces, because a million jobs are too many for one."""

    status_code: int = 200
    content_type: str = "application/json"
    pieces: Iterable[bytes] = ()


class Admin:
    """Answers the calls under `/_sandbox/`."""

    def __init__(self, service: SandboxService, faults: Faults) -> None:
        self._service = service
        self._faults = faults

    def answer(self, method: str, path: str, query: str, body: bytes) -> AdminAnswer:
        """Answer one call: 400 where something does not fit, 404 where there is no such call."""
        try:
            match method, path.removeprefix(PREFIX):
                case "GET", name:
                    return self._look(name, query)
                case "PUT", name:
                    return self._change(name, _object(body))
                case "POST", "reset":
                    self._service.reset()
                    self._faults.configure(self._faults.plan)
                    return _json_answer({})
        except ValueError as error:
            return _json_answer({"message": str(error)}, status_code=400)
        return _no_such_call(method, path)

    def _look(self, name: str, query: str) -> AdminAnswer:
        match name:
            case "jobs":
                pieces = self._job_lines(with_request="request=1" in query)
                return AdminAnswer(content_type="application/x-ndjson", pieces=pieces)
            case "stats":
                return _json_answer(self.stats())
            case "settings":
                return self._settings()
        return _no_such_call("GET", PREFIX + name)

    def _change(self, name: str, changes: dict[str, Any]) -> AdminAnswer:
        match name:
            case "settings":
                return self._change_settings(changes)
            case "quotas":
                return self._change_quotas(changes)
            case "faults":
                self._faults.configure(FaultPlan.from_json(changes))
                return _json_answer({})
        return _no_such_call("PUT", PREFIX + name)

    def stats(self) -> dict[str, Any]:
        """Return what has happened so far."""
        tally, slots = self._service.tally, self._service.slots
        injected: dict[str, dict[str, int]] = {}
        for (operation, fault), number in self._faults.injected.items():
            injected.setdefault(operation, {})[fault] = number
        return {
            "accepted": tally.accepted(START),
            "calls": tally.by_operation(),
            "faults": injected,
            "unspent_faults": len(self._faults.unspent()),
            "statuses": self._service.statuses(),
            "running": {"memberships": +slots.by_membership, "accounts": +slots.by_account},
            "most_running": {"memberships": slots.most_by_membership, "accounts": slots.most_by_account},
        }

    def _job_lines(self, *, with_request: bool) -> Iterator[bytes]:
        """Yield lines by the hundred. The jobs are taken at once: more may come while lines are sent."""
        jobs = self._service.jobs()
        for begin in range(0, len(jobs), _LINES_AT_ONCE):
            shown = (_shown(job, with_request=with_request) for job in jobs[begin : begin + _LINES_AT_ONCE])
            yield b"".join(json.dumps(members).encode() + b"\n" for members in shown)

    def _settings(self) -> AdminAnswer:
        return _json_answer(asdict(self._service.settings))

    def _change_settings(self, changes: dict[str, Any]) -> AdminAnswer:
        self._service.configure(self._service.settings.changed(changes))
        return self._settings()

    def _change_quotas(self, changes: dict[str, Any]) -> AdminAnswer:
        if unknown := changes.keys() - _QUOTAS:
            raise ValueError(f"unknown quota {', '.join(sorted(unknown))}; known are {', '.join(sorted(_QUOTAS))}")
        return self._change_settings(changes)


def _shown(job: JobRecord, *, with_request: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "arn": job.arn,
        "membershipIdentifier": job.membership,
        "account": job.account,
        "name": job.name,
        "trainedModelArn": job.model,
        "status": job.status.value,
        "createTime": timestamp(job.created_at),
        "updateTime": timestamp(job.updated_at),
        "tags": job.tags,
    }
    return shown | {"request": job.request()} if with_request else shown


def _no_such_call(method: str, path: str) -> AdminAnswer:
    return _json_answer({"message": f"there is no {method} {path}"}, status_code=404)


def _object(body: bytes) -> dict[str, Any]:
    parsed = json.loads(body or b"{}")
    if not isinstance(parsed, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004 - one kind of error for a wrong body
    return parsed


def _json_answer(members: dict[str, Any], *, status_code: int = 200) -> AdminAnswer:
    return AdminAnswer(status_code=status_code, pieces=[json.dumps(members, default=sorted).encode()])
