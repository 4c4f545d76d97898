"""S3's events: whether a message is one, and the object that it is about, which is taken for a manifest. Pure."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

_CREATED = re.compile("(s3:)?ObjectCreated:|Object Created$")
_VERSION, _ETAG = ("versionId", "version-id"), ("eTag", "etag")
"""By S3's own notifications and by EventBridge."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """The message is the jobs of a manifest. `version` and `etag` are an S3 event's, empty where it names none.

    Messages that point to the same version are held under one key, its `repr`.
    """

    location: str
    batch: str
    version: str = ""
    etag: str = ""


def is_s3_event(value: Mapping[str, Any]) -> bool:
    """Whether it is an event of S3's, by its own notification (its test included) or by EventBridge."""
    records = value.get("Records")
    return (
        (value.get("Event") == "s3:TestEvent" and value.get("Service") == "Amazon S3")
        or (value.get("source") == "aws.s3" and "detail-type" in value)
        or (isinstance(records, list) and all(isinstance(each, dict) and "s3" in each for each in records))
    )


def s3_pointer(event: Mapping[str, Any], batch: str) -> Pointer | None:
    """Point to the object that was written; None for another event, a folder, or a mark that a folder's writer leaves.

    Raises AttributeError, KeyError, TypeError, ValueError where the event is of another shape.
    """
    decode: Callable[[str], str] = str  # EventBridge, unlike S3's own notifications, does not encode the key
    kind, where = event.get("detail-type", ""), event.get("detail")
    if "Records" in event:
        (record,) = event["Records"]  # S3 sends one
        kind, where, decode = record["eventName"], record["s3"], unquote_plus
    if where is None or not _CREATED.match(kind):
        return None
    written = where["object"]
    key = decode(written["key"])
    is_mark = key.rpartition("/")[2] == "_SUCCESS" or key.endswith("_$folder$")
    if key.endswith("/") or (is_mark and not written.get("size")):
        return None
    version, etag = (next(filter(None, map(written.get, names)), "") for names in (_VERSION, _ETAG))
    return Pointer(f"s3://{where['bucket']['name']}/{key}", batch, str(version), str(etag).strip('"'))
