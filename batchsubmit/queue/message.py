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
from urllib.parse import unquote_plus

from batchsubmit.config import ForeignArns, checked_text
from batchsubmit.core.jobs import Job, JobRejected, job_digest, key_text
from batchsubmit.errors import UsageError
from batchsubmit.log import get_logger
from batchsubmit.manifest.defaults import Defaults, complete, odd_values
from batchsubmit.manifest.jsonl_reader import take_variables
from batchsubmit.schema import Fault, JsonError, RequestChecker, canonical, read_json, without_nulls
from batchsubmit.schema.arns import foreign_arns
from batchsubmit.schema.faults import described

_DEEPEST = 3


@dataclass(frozen=True, slots=True)
class Content:
    """What was in the envelope: a value, and the attributes that came with it."""

    value: Any
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class S3Object:
    """A manifest in S3. `version` and `etag` are those of the event that told of it, empty where it names none."""

    location: str
    version: str = ""
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Objects:
    """An S3 event: the objects that it says were written; none for a test event or an event of another kind."""

    objects: tuple[S3Object, ...]


def _read_text(text: str) -> Any:  # noqa: ANN401 (JSON)
    """Parse a text that may begin with a byte order mark. Raises JsonError."""
    return read_json(text.removeprefix("\ufeff"))


_FIRST_CHARACTERS = (
    (re.compile("\x1f[\x8b\ufffd]|H4sI"), "is gzip data, not JSON; send the text itself"),
    (re.compile("\ufeff?.?\0|\xff\xfe|\xfe\xff|\ufffe|\ufffd\ufffd"), "is UTF-16, not UTF-8; send it as UTF-8"),
)
"""How bytes that are no UTF-8 text begin when a producer made a text of them: by Latin-1, by replacement, by base64."""


def _encoding_words(body: str) -> str:
    """Say of a body that is no JSON what its first bytes show it to be, if they do."""
    return next((f"the body {words}" for pattern, words in _FIRST_CHARACTERS if pattern.match(body)), "")


def unwrap(value: Any, attributes: Mapping[str, str], depth: int = 0) -> Content | Objects:  # noqa: ANN401 (JSON)
    """Take a value out of its envelopes. Raises JsonError where an inner text is no JSON."""
    if not isinstance(value, Mapping) or depth == _DEEPEST:
        return Content(value, attributes)
    if value.get("Type") == "Notification" and "TopicArn" in value and isinstance(value.get("Message"), str):
        inner = {**_sns_attributes(value), **attributes}
        return unwrap(_read_text(value["Message"]), inner, depth + 1)
    if "detail-type" in value and "detail" in value and "source" in value:
        return _event(value, attributes, depth)
    if value.get("Event") == "s3:TestEvent" and value.get("Service") == "Amazon S3":
        return Objects(())
    if _is_s3_event(value):
        return Objects(tuple(filter(None, map(_written, value["Records"]))))
    return Content(value, attributes)


def _event(value: Mapping[str, Any], attributes: Mapping[str, str], depth: int) -> Content | Objects:
    if value["source"] != "aws.s3":
        return unwrap(value["detail"], attributes, depth + 1)
    if value["detail-type"] != "Object Created":
        return Objects(())
    try:
        # EventBridge, unlike S3's own notifications, does not encode the key.
        written, key = value["detail"]["object"], value["detail"]["object"]["key"]
        found = _object(value["detail"]["bucket"]["name"], key, written, version="version-id", etag="etag")
    except (AttributeError, KeyError, TypeError):
        return Content(value, attributes)
    return Objects(() if found is None else (found,))


def _object(bucket: str, key: str, written: Mapping[str, Any], *, version: str, etag: str) -> S3Object | None:
    """Name the object of an event; None for a folder, and for the empty marks that writers of folders leave."""
    is_mark = key.rpartition("/")[2] == "_SUCCESS" or key.endswith("_$folder$")
    if key.endswith("/") or (is_mark and not written.get("size")):
        return None
    return S3Object(f"s3://{bucket}/{key}", str(written.get(version) or ""), str(written.get(etag) or "").strip('"'))


def _sns_attributes(value: Mapping[str, Any]) -> dict[str, str]:
    given = value.get("MessageAttributes")
    if not isinstance(given, Mapping):
        return {}
    return {
        str(name): each["Value"]
        for name, each in given.items()
        if isinstance(each, Mapping) and isinstance(each.get("Value"), str)
    }


def _is_s3_event(value: Mapping[str, Any]) -> bool:
    records = value.get("Records")
    return (
        isinstance(records, list)
        and bool(records)
        and all(isinstance(each, Mapping) and isinstance(each.get("s3"), Mapping) for each in records)
    )


def _written(record: Mapping[str, Any]) -> S3Object | None:
    """Give the object where the record says that it was created."""
    if not str(record.get("eventName", "")).removeprefix("s3:").startswith("ObjectCreated:"):
        return None
    try:
        written = record["s3"]["object"]
        key = unquote_plus(written["key"])
        return _object(record["s3"]["bucket"]["name"], key, written, version="versionId", etag="eTag")
    except (AttributeError, KeyError, TypeError):
        return None


KEY_ATTRIBUTE = "batchsubmit-key"
BATCH_ATTRIBUTE = "batchsubmit-batch"
ORDINAL_ATTRIBUTE = "batchsubmit-ordinal"
"""Which of several identical rows a message is, from 1 on for the second; part of the key."""
MOST_BYTES = 1 << 20
"""SQS's own limit of a message; what is larger came from something that is not SQS."""

_ORDINAL = re.compile(r"[0-9]{1,9}", re.ASCII)
_MOST_LISTED = 5


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
class Request:
    """The message is one job."""

    job: Job


@dataclass(frozen=True, slots=True)
class Pointer:
    """The message is the jobs of these manifests."""

    objects: tuple[S3Object, ...]
    batch: str

    @property
    def key(self) -> str:
        """The key under which it is held: the same for each message that points to the same versions."""
        return f"manifest {self.batch!r} {' '.join(map(repr, self.objects))}"


@dataclass(frozen=True, slots=True)
class Nothing:
    """The message asks for nothing, such as S3's test event."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The message can never work: to the dead-letter queue, with this reason."""

    code: str
    reason: str
    membership: str = ""
    name: str = ""

    def rejected(self, message: Message, at: str) -> JobRejected:
        """Make the ledger's record of it, under a key of the message's own."""
        return JobRejected(
            at=at,
            job=message_key(message),
            membership=self.membership,
            name=self.name,
            code=self.code,
            message=f"message {message.id}: {self.reason}",
            attempt=0,
        )


Parsed: TypeAlias = Request | Pointer | Nothing | DeadLetter


class MessageReader:
    """Reads messages. `batch` is for those that name none. Raises UsageError where the defaults cannot be right."""

    def __init__(
        self,
        checker: RequestChecker,
        *,
        defaults: Mapping[str, Any],
        batch: str = "",
        foreign_arns: ForeignArns = "warn",
    ) -> None:
        self._checker = checker
        self._defaults = Defaults(defaults, checker)
        self._batch = batch
        self._foreign_arns = foreign_arns
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
            content = unwrap(_read_text(message.body), message.attributes)
        except JsonError as exc:
            return DeadLetter("NotJson", _encoding_words(message.body) or str(exc))
        try:
            return self._parse_content(content, message)
        except UsageError as exc:
            return DeadLetter("InvalidRequest", str(exc))

    def _parse_content(self, content: Content | Objects, message: Message) -> Parsed:
        if isinstance(content, Objects):
            batch = _batch(message.attributes, self._batch)
            return Pointer(content.objects, batch) if content.objects else Nothing()
        return self._parse_value(content.value, content.attributes)

    def _parse_value(self, value: Any, attributes: Mapping[str, str]) -> Parsed:  # noqa: ANN401 (JSON)
        if not isinstance(value, dict):
            return DeadLetter(
                "InvalidRequest", f"the body is {described(value)}; a message is one request as an object"
            )
        batch = value.get("batch", self._batch)
        if not isinstance(batch, str):
            return DeadLetter("InvalidRequest", f"batch is {described(batch)}; it must be text")
        batch = _batch(attributes, batch)
        if "manifest" in value:
            return _pointer(value, batch)
        if "request" in value:
            if value.keys() - {"request", "batch"} or not isinstance(value["request"], dict):
                return DeadLetter("InvalidRequest", 'beside "request", an object, only "batch" may stand')
            value = value["request"]
        return self._parse_request(value, batch, attributes)

    def _parse_request(self, request: dict[str, Any], batch: str, attributes: Mapping[str, str]) -> Parsed:
        variables, faults = take_variables(request)
        as_sent = deepcopy(request) if KEY_ATTRIBUTE in attributes else request
        faults += complete(request, variables, self._defaults.of_run({"batch": batch}), self._checker)[0]
        foreign = [] if self._foreign_arns == "allow" else list(foreign_arns(request))
        if self._foreign_arns == "error":
            faults += foreign
        if faults:
            reason = _listed(faults)
            return DeadLetter("InvalidRequest", reason, _text(request, "membershipIdentifier"), _text(request, "name"))
        for fault in (*foreign, *odd_values(request, variables)):
            self._warn(fault)
        request = without_nulls(request)
        membership, name = request["membershipIdentifier"], request["name"]
        key, wrong = _key((request, as_sent), batch, attributes)
        if wrong:
            return DeadLetter("InvalidKey", wrong, membership, name)
        return Request(Job(key=key, membership=membership, name=name, request=request))


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


def _batch(attributes: Mapping[str, str], otherwise: str) -> str:
    """The batch id that a message names. Raises UsageError."""
    return checked_text(attributes.get(BATCH_ATTRIBUTE, otherwise), "batch")


def message_key(message: Message) -> str:
    """Make a key of a message's id: each that was sent is one record, however often it is delivered."""
    return key_text(job_digest(f"message {message.id}".encode()))


def _pointer(value: Mapping[str, Any], batch: str) -> Parsed:
    location = value["manifest"]
    if value.keys() - {"manifest", "batch"}:
        return DeadLetter("InvalidPointer", 'beside "manifest" only "batch" may stand')
    if not isinstance(location, str) or not re.fullmatch(r"s3://[^/]+/.+", location, re.DOTALL):
        return DeadLetter("InvalidPointer", '"manifest" names no object; write s3://bucket/key')
    return Pointer((S3Object(location),), batch)


def _listed(faults: list[Fault]) -> str:
    more = f"; and {len(faults) - _MOST_LISTED} more" if len(faults) > _MOST_LISTED else ""
    return "; ".join(map(str, faults[:_MOST_LISTED])) + more


def _text(request: Mapping[str, Any], member: str) -> str:
    value = request.get(member, "")
    return value if isinstance(value, str) else ""
