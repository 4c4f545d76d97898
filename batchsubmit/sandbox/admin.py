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
from dataclasses import asdict
from typing import Any, Final

from batchsubmit.sandbox.faults import FaultPlan, Faults
from batchsubmit.sandbox.http import HttpAnswer
from batchsubmit.sandbox.records import JobRecord, timestamp
from batchsubmit.sandbox.refusals import Operation
from batchsubmit.sandbox.service import SandboxService

PREFIX: Final = "/_sandbox/"
_QUOTAS: Final = frozenset({"per_membership", "per_account"})


class Admin:
    """Answers the calls under `/_sandbox/`."""

    def __init__(self, service: SandboxService, faults: Faults) -> None:
        self._service = service
        self._faults = faults

    def answer(self, method: str, path: str, query: str, body: bytes) -> HttpAnswer:
        """Answer one call: 400 where something does not fit, 404 where there is no such call."""
        name = path.removeprefix(PREFIX)
        if (method, name) == ("GET", "jobs"):
            shown = [_shown(job, with_request="request=1" in query) for job in self._service.jobs()]
            lines = b"".join(json.dumps(members).encode() + b"\n" for members in shown)
            return HttpAnswer(content_type="application/x-ndjson", body=lines)
        try:
            status_code, members = 200, self._carry_out(method, name, body)
        except LookupError:
            status_code, members = 404, {"message": f"there is no {method} {path}"}
        except ValueError as error:
            status_code, members = 400, {"message": str(error)}
        return HttpAnswer(status_code=status_code, body=json.dumps(members, default=sorted).encode())

    def _carry_out(self, method: str, name: str, body: bytes) -> dict[str, Any]:
        """Do what a call asks and return what it shows. Raises LookupError where there is no such call."""
        match method, name:
            case "GET", "stats":
                return self._stats()
            case "POST", "reset":
                self._service.reset()
                self._faults.configure(self._faults.plan)
                return {}
            case "PUT", "faults":
                self._faults.configure(FaultPlan.from_json(_object(body)))
                return {}
            case "PUT", "settings" | "quotas":
                changes = _object(body)
                if name == "quotas" and (unknown := changes.keys() - _QUOTAS):
                    known = ", ".join(sorted(_QUOTAS))
                    raise ValueError(f"unknown quota {', '.join(sorted(unknown))}; known are {known}")
                self._service.configure(self._service.settings.changed(changes))
            case "GET", "settings":
                pass
            case _:
                raise LookupError(name)
        return asdict(self._service.settings)

    def _stats(self) -> dict[str, Any]:
        tally, slots = self._service.tally, self._service.slots
        injected: dict[str, dict[str, int]] = {}
        for (operation, fault), number in self._faults.injected.items():
            injected.setdefault(operation, {})[fault] = number
        return {
            "accepted": tally.accepted(Operation.START),
            "calls": tally.by_operation(),
            "faults": injected,
            "unspent_faults": len(self._faults.unspent()),
            "statuses": self._service.statuses(),
            "running": {"memberships": +slots.by_membership, "accounts": +slots.by_account},
            "most_running": {"memberships": slots.most_by_membership, "accounts": slots.most_by_account},
        }


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


def _object(body: bytes) -> dict[str, Any]:
    parsed = json.loads(body or b"{}")
    if not isinstance(parsed, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004 - one kind of error for a wrong body
    return parsed
