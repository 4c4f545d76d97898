"""Reads what a message asks for: a job, the jobs of a manifest, nothing, or something that can never work. Pure.

The body is the request as the API takes it; defaults fill what it lacks. `{"request": {…}, "batch": "…"}` names a
batch, `{"manifest": "s3://…"}` a manifest. A job's key is what the body gives, so that a redelivery, or a second
producer of the same body, has the same key; the key that travels as a message attribute must be that one.
"""

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from batchsubmit.config import Settings, checked_text
from batchsubmit.core.jobs import Job, JobRejected, job_digest, key_text
from batchsubmit.errors import UsageError
from batchsubmit.log import get_logger
from batchsubmit.manifest.defaults import Defaults, complete
from batchsubmit.manifest.jsonl_reader import take_variables
from batchsubmit.outputs.templates import lasting_batch
from batchsubmit.queue.s3_event import Pointer, is_s3_event, s3_pointer
from batchsubmit.schema import Fault, JsonError, RequestChecker, canonical, read_json, without_nulls
from batchsubmit.schema.arns import foreign_arns, text_at
from batchsubmit.schema.faults import described
from batchsubmit.schema.spreadsheets import odd_values

KEY_ATTRIBUTE = "batchsubmit-key"
BATCH_ATTRIBUTE = "batchsubmit-batch"
ORDINAL_ATTRIBUTE = "batchsubmit-ordinal"
"""Which of several identical rows a message is, from 1 on for the second; part of the key."""
MOST_BYTES = 1 << 20
"""SQS's own limit of a message; what is larger came from something that is not SQS."""

_BYTE_ORDER_MARK = "\ufeff"
_DEEPEST = 3
_MOST_LISTED = 5
_ORDINAL = re.compile(r"[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One delivery of a message. `attributes` are the texts among `wire_attributes`, which are as SQS gave them."""

    id: str
    receipt: str
    body: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    wire_attributes: Mapping[str, Any] = field(default_factory=dict)
    receives: int = 1
    sent_at: float = 0.0
    group: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The message can never work: to the dead-letter queue, with this reason."""

    code: str
    reason: str
    membership: str = ""
    name: str = ""

    def rejected(self, message: Message, at: str) -> JobRejected:
        """Make the ledger's record of it, under a key of the message's own, however often it is delivered."""
        return JobRejected(
            at=at,
            job=key_text(job_digest(f"message {message.id}".encode())),
            membership=self.membership,
            name=self.name,
            code=self.code,
            message=f"message {message.id}: {self.reason}",
            attempt=0,
        )


Parsed: TypeAlias = Job | Pointer | DeadLetter | None
"""None where the message asks for nothing, such as S3's test event."""


def _sns_attributes(value: Mapping[str, Any]) -> dict[str, str]:
    given = value.get("MessageAttributes")
    named = given.items() if isinstance(given, Mapping) else ()
    return {name: text for name, each in named if isinstance(each, dict) and isinstance(text := each.get("Value"), str)}


class MessageReader:
    """Reads messages. Raises UsageError where defaults or batch id of the settings cannot be right."""

    def __init__(self, settings: Settings, *, region: str) -> None:
        self._checker = RequestChecker(region=region, own_tag=settings.submit.tag_jobs)
        self._defaults = Defaults(settings.defaults, self._checker)
        self._batch = lasting_batch(settings.submit)
        self._foreign_arns = settings.checks.foreign_arns
        self._warned: set[str] = set()

    def _warn(self, fault: Fault) -> None:
        """Log a warning the first time that one of its kind is met."""
        kind = f"{fault.path} {fault.wrong.partition(',')[0]}"
        if kind not in self._warned:
            self._warned.add(kind)
            get_logger().warning("checks.warning", reason=str(fault))

    def parse(self, message: Message) -> Parsed:
        """Find out what a message asks for."""
        size = len(message.body.encode(errors="surrogatepass"))
        if size > MOST_BYTES:
            return DeadLetter("TooLarge", f"the body has {size:,} bytes; a message has at most {MOST_BYTES:,}")
        try:
            return self._parse(read_json(message.body.removeprefix(_BYTE_ORDER_MARK)), message.attributes, _DEEPEST)
        except JsonError as exc:
            return DeadLetter("NotJson", str(exc))
        except UsageError as exc:
            return DeadLetter("InvalidRequest", str(exc))

    def _parse(self, value: Any, attributes: Mapping[str, str], depth: int) -> Parsed:  # noqa: ANN401 (JSON)
        """Take a value out of its envelopes, and read it. Raises JsonError, UsageError."""
        if not isinstance(value, dict):
            raise UsageError(f"the body is {described(value)}; a message is one request as an object")
        if depth and value.get("Type") == "Notification" and isinstance(value.get("Message"), str):
            inner = read_json(value["Message"].removeprefix(_BYTE_ORDER_MARK))
            return self._parse(inner, {**_sns_attributes(value), **attributes}, depth - 1)
        if depth and is_s3_event(value):
            try:
                return s3_pointer(value, self._batch_in(value, attributes))
            except (AttributeError, KeyError, TypeError, ValueError) as exc:
                raise UsageError("the body is an S3 event, and not of one object as S3 sends it") from exc
        if depth and {"detail-type", "detail", "source"} <= value.keys():
            return self._parse(value["detail"], attributes, depth - 1)
        batch = self._batch_in(value, attributes)
        if "manifest" in value:
            return _pointer(value, batch)
        if "request" in value:
            if value.keys() - {"request", "batch"} or not isinstance(value["request"], dict):
                raise UsageError('beside "request", an object, only "batch" may stand')
            value = value["request"]
        return self._parse_request(value, batch, attributes)

    def _batch_in(self, value: Mapping[str, Any], attributes: Mapping[str, str]) -> str:
        """The batch id that a message names. Raises UsageError."""
        batch = attributes.get(BATCH_ATTRIBUTE, value.get("batch", self._batch))
        if not isinstance(batch, str):
            raise UsageError(f"batch is {described(batch)}; it must be text")
        return checked_text(batch, "batch")

    def _parse_request(self, request: dict[str, Any], batch: str, attributes: Mapping[str, str]) -> Job | DeadLetter:
        variables, faults = take_variables(request)
        as_sent = deepcopy(request) if KEY_ATTRIBUTE in attributes else request
        faults += complete(request, variables, self._defaults.of_run({"batch": batch}), self._checker)[0]
        foreign = [] if self._foreign_arns == "allow" else list(foreign_arns(request))
        if self._foreign_arns == "error":
            faults += foreign
        if faults:
            reason = "; ".join(map(str, faults[:_MOST_LISTED]))
            more = f"; and {len(faults) - _MOST_LISTED} more" if len(faults) > _MOST_LISTED else ""
            texts = (text_at(request, member) for member in ("membershipIdentifier", "name"))
            return DeadLetter("InvalidRequest", reason + more, *texts)
        for fault in (*foreign, *odd_values(request, variables)):
            self._warn(fault)
        request = without_nulls(request)
        membership, name = request["membershipIdentifier"], request["name"]
        key, wrong = _key((request, as_sent), batch, attributes)
        if wrong:
            return DeadLetter("InvalidKey", wrong, membership, name)
        return Job(key=key, membership=membership, name=name, request=request)


def _key(requests: Sequence[Mapping[str, Any]], batch: str, attributes: Mapping[str, str]) -> tuple[str, str]:
    """Make a job's key of its request; gives it, or what is wrong with the attributes that came with the request.

    `enqueue` makes the key of a whole request. Where defaults of this worker add to it, that as it was sent counts too.
    """
    ordinal = attributes.get(ORDINAL_ATTRIBUTE, "0")
    if not _ORDINAL.fullmatch(ordinal):
        return "", f"the attribute {ORDINAL_ATTRIBUTE} is no whole number; remove it, or send the row again"
    spelled = map(canonical, map(without_nulls, requests))
    keys = [key_text(job_digest(each, batch=batch, ordinal=int(ordinal))) for each in spelled]
    said = attributes.get(KEY_ATTRIBUTE, keys[0])
    if said in keys:
        return said, ""
    right = "remove the attribute to submit the body as a job of its own"
    return "", f"the attribute {KEY_ATTRIBUTE} is {said[:40]!r}, and the body's key is {keys[0]}; {right}"


def _pointer(value: Mapping[str, Any], batch: str) -> Pointer | DeadLetter:
    location = value["manifest"]
    if value.keys() - {"manifest", "batch"}:
        return DeadLetter("InvalidPointer", 'beside "manifest" only "batch" may stand')
    if not isinstance(location, str) or not re.fullmatch(r"s3://[^/]+/.+", location, re.DOTALL):
        return DeadLetter("InvalidPointer", '"manifest" names no object; write s3://bucket/key')
    return Pointer(location, batch)
