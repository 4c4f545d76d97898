"""What other services wrap around a message: SNS notifications, EventBridge events, S3 event notifications. Pure.

A body that is none of these comes out as it went in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus

from batchsubmit.schema import read_json

_DEEPEST = 3


@dataclass(frozen=True, slots=True)
class Content:
    """What was in the envelope: a value, and the attributes that came with it."""

    value: Any
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Objects:
    """An S3 event: the objects that it says were written; none for a test event or an event of another kind."""

    locations: tuple[str, ...]


def unwrap(value: Any, attributes: Mapping[str, str], depth: int = 0) -> Content | Objects:  # noqa: ANN401 (JSON)
    """Take a value out of its envelopes. Raises JsonError where an inner text is no JSON."""
    if not isinstance(value, Mapping) or depth == _DEEPEST:
        return Content(value, attributes)
    if value.get("Type") == "Notification" and "TopicArn" in value and isinstance(value.get("Message"), str):
        inner = {**_sns_attributes(value), **attributes}
        return unwrap(read_json(value["Message"]), inner, depth + 1)
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
        return Objects((f"s3://{value['detail']['bucket']['name']}/{value['detail']['object']['key']}",))
    except (KeyError, TypeError):
        return Content(value, attributes)


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


def _written(record: Mapping[str, Any]) -> str | None:
    """Give the object's URL where the record says that it was created."""
    if not str(record.get("eventName", "")).removeprefix("s3:").startswith("ObjectCreated:"):
        return None
    try:
        return f"s3://{record['s3']['bucket']['name']}/{unquote_plus(record['s3']['object']['key'])}"
    except (KeyError, TypeError):
        return None
