"""What a message asks for, wrapped or not, and when it is the same job as another."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from conftest import job_named, request_named
from hypothesis import given
from strategies import JSON_VALUES, REGION

from batchsubmit.config import Settings, SubmitSettings
from batchsubmit.core.jobs import Job, job_digest, key_text
from batchsubmit.queue.message import MOST_BYTES, DeadLetter, Message, MessageReader, Parsed
from batchsubmit.queue.s3_event import Pointer
from batchsubmit.schema import canonical

REQUEST = request_named("one")


def message(body: object, **attributes: str) -> Message:
    """A message with this body, an object or a text."""
    text = body if isinstance(body, str) else json.dumps(body)
    return Message(id="id-1", receipt="r", body=text, attributes=attributes)


def parsed(
    body: object,
    attributes: Mapping[str, str] | None = None,
    *,
    batch: str = "",
    defaults: Mapping[str, Any] | None = None,
) -> Parsed:
    """What a body asks for."""
    settings = Settings(submit=SubmitSettings(batch_id=batch), defaults=defaults or {})
    return MessageReader(settings, region=REGION).parse(message(body, **(attributes or {})))


def key(body: object, attributes: Mapping[str, str] | None = None, *, batch: str = "") -> str:
    """The key of the job that a body asks for."""
    found = parsed(body, attributes, batch=batch)
    assert isinstance(found, Job), found
    assert found.request == REQUEST
    return found.key


def s3_event(name: str = "ObjectCreated:Put", key: str = "in/a+b%C3%A9.csv") -> dict[str, Any]:
    """An S3 event notification."""
    return {
        "Records": [
            {"eventSource": "aws:s3", "eventName": name, "s3": {"bucket": {"name": "bucket"}, "object": {"key": key}}}
        ]
    }


def sns(body: object, **attributes: str) -> dict[str, Any]:
    """An SNS notification."""
    return {
        "Type": "Notification",
        "TopicArn": "arn:aws:sns:us-east-1:111122223333:topic",
        "Message": json.dumps(body),
        "MessageAttributes": {name: {"Type": "String", "Value": value} for name, value in attributes.items()},
    }


def event(detail: object, source: str = "my.app", kind: str = "Job") -> dict[str, Any]:
    """An EventBridge event."""
    return {"version": "0", "id": "1", "detail-type": kind, "source": source, "detail": detail}


def test_a_request_s_key_is_that_of_the_same_row_of_a_manifest() -> None:
    """However its members are ordered, and with nulls for absent ones."""
    wanted = job_named("one").key
    assert key(REQUEST) == wanted
    assert key(dict(reversed(REQUEST.items()))) == wanted
    assert key({**REQUEST, "description": None}) == wanted


def test_the_batch_is_part_of_the_key_wherever_it_is_named() -> None:
    """By the worker, in the body, or by an attribute, the last counting most."""
    nightly = key_text(job_digest(canonical(REQUEST), batch="night"))
    assert key(REQUEST, batch="night") == nightly
    assert key({"request": REQUEST, "batch": "night"}) == nightly
    assert key({"request": REQUEST}, {"batchsubmit-batch": "night"}, batch="other") == nightly


def test_only_the_body_s_own_key_is_accepted_and_the_ordinal_tells_identical_rows_apart() -> None:
    """A key of another body, as a corrected dead letter carries it, is said and goes to the dead letters."""
    second = key_text(job_digest(canonical(REQUEST), ordinal=1))
    assert key(REQUEST, {"batchsubmit-key": second, "batchsubmit-ordinal": "1"}) == second
    assert key(REQUEST, {"batchsubmit-ordinal": "1"}) == second
    assert key(REQUEST, {"batchsubmit-key": job_named("one").key}) == job_named("one").key
    for wrong in (
        {"batchsubmit-key": second},
        {"batchsubmit-key": job_named("two").key},
        {"batchsubmit-key": "Not A Key"},
        {"batchsubmit-ordinal": "-1"},
    ):
        found = parsed(REQUEST, wrong)
        assert isinstance(found, DeadLetter)
        assert (found.code, found.name) == ("InvalidKey", "one")
        assert "remove" in found.reason


def test_a_key_made_without_this_worker_s_defaults_is_the_body_s_too() -> None:
    """They may add a member that whoever enqueued the job did not have."""
    found = parsed(REQUEST, {"batchsubmit-key": job_named("one").key}, defaults={"description": "nightly"})
    assert isinstance(found, Job)
    assert found.key == job_named("one").key
    assert found.request["description"] == "nightly"


def test_a_byte_order_mark_before_the_body_is_read_over() -> None:
    """In the message, and inside an envelope of SNS."""
    text = "\ufeff" + json.dumps(REQUEST)
    assert key(text) == key(sns(REQUEST) | {"Message": text}) == job_named("one").key


@pytest.mark.parametrize("wrapped", [sns(REQUEST), event(REQUEST), sns(event(REQUEST)), event({"request": REQUEST})])
def test_envelopes_are_taken_off(wrapped: object) -> None:
    """Of SNS and EventBridge."""
    assert key(wrapped) == job_named("one").key


def test_sns_attributes_are_the_message_s_own() -> None:
    """Where raw delivery is off, they stand in the envelope."""
    other = key_text(job_digest(canonical(REQUEST), batch="night"))
    assert key(sns(REQUEST, **{"batchsubmit-key": other, "batchsubmit-batch": "night"})) == other


@pytest.mark.parametrize(
    ("body", "location"),
    [
        ({"manifest": "s3://bucket/a.csv"}, "s3://bucket/a.csv"),
        ({"manifest": "s3://bucket/a.csv", "batch": "night"}, "s3://bucket/a.csv"),
        (s3_event(), "s3://bucket/in/a bé.csv"),
        (sns(s3_event()), "s3://bucket/in/a bé.csv"),
        (
            event({"bucket": {"name": "bucket"}, "object": {"key": "a+b.csv"}}, "aws.s3", "Object Created"),
            "s3://bucket/a+b.csv",
        ),
    ],
)
def test_pointers_to_manifests(body: object, location: str) -> None:
    """Our own, S3's notifications with their encoded keys, EventBridge's with plain ones."""
    found = parsed(body)
    assert isinstance(found, Pointer)
    assert found.location == location
    assert found.batch == ("night" if "batch" in str(body) else "")


def test_an_event_s_version_makes_a_pointer_of_its_own() -> None:
    """By S3's spelling and EventBridge's; where a bucket keeps no versions, by the ETag."""
    records = [s3_event(), s3_event(), s3_event()]
    records[0]["Records"][0]["s3"]["object"] |= {"versionId": "v1", "eTag": "e1"}
    records[1]["Records"][0]["s3"]["object"] |= {"eTag": "e1"}
    detail = {"bucket": {"name": "b"}, "object": {"key": "a.csv", "version-id": "v1", "etag": "e1"}}
    found = [parsed(each) for each in (*records, event(detail, "aws.s3", "Object Created"))]
    told = [(each.version, each.etag) for each in found if isinstance(each, Pointer)]
    assert told == [("v1", "e1"), ("", "e1"), ("", ""), ("v1", "e1")]
    assert len({repr(each) for each in found if isinstance(each, Pointer)}) == 4


@pytest.mark.parametrize(
    "body",
    [
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "bucket"},
        s3_event("ObjectRemoved:Delete"),
        event({}, "aws.s3", "Object Deleted"),
        s3_event(key="in/2026-11-23/"),
        s3_event(key="in/_SUCCESS"),
        event({"bucket": {"name": "b"}, "object": {"key": "in/_SUCCESS", "size": 0}}, "aws.s3", "Object Created"),
    ],
)
def test_events_that_ask_for_nothing(body: object) -> None:
    """S3's test event, what was deleted, folders, and the empty marks that Spark and Hadoop leave in them."""
    assert parsed(body) is None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", "NotJson"),
        ("{", "NotJson"),
        ('{"name": "a", "name": "b"}', "NotJson"),
        (sns("x") | {"Message": "{"}, "NotJson"),
        ([], "InvalidRequest"),
        ("null", "InvalidRequest"),
        ({}, "InvalidRequest"),
        ({**REQUEST, "nmae": "x"}, "InvalidRequest"),
        ({"request": REQUEST, "batch": 1}, "InvalidRequest"),
        ({"request": REQUEST, "key": "x"}, "InvalidRequest"),
        ({"manifest": "jobs.csv"}, "InvalidPointer"),
        ({"manifest": "s3://bucket/a", "rows": 1}, "InvalidPointer"),
        ({"Records": s3_event()["Records"] * 2}, "InvalidRequest"),
        ({"Records": [{"s3": {}}]}, "InvalidRequest"),
        ('"' + "x" * MOST_BYTES + '"', "TooLarge"),
    ],
)
def test_what_can_never_work_is_a_dead_letter(body: object, code: str) -> None:
    """Each with its reason."""
    found = parsed(body)
    assert isinstance(found, DeadLetter)
    assert found.code == code
    assert found.reason


def test_a_dead_letter_is_recorded_with_the_message_s_id_and_what_is_known_of_the_job() -> None:
    """Under a key of the message, so that a second message of the same body is a second record."""
    letter = parsed({**REQUEST, "resourceConfig": {}})
    assert isinstance(letter, DeadLetter)
    rejected = letter.rejected(message(""), "2026-11-23T00:00:00.000000Z")
    assert (rejected.name, rejected.membership) == ("one", REQUEST["membershipIdentifier"])
    assert rejected.message.startswith("message id-1: resourceConfig.instanceType: ")
    other = letter.rejected(Message(id="id-2", receipt="", body=""), "")
    assert rejected.job != other.job


def test_defaults_fill_what_a_message_lacks() -> None:
    """With place-holders, as for rows of a manifest."""
    lacking = {name: value for name, value in REQUEST.items() if name != "name"} | {"var": {"day": "one"}}
    found = parsed(lacking, defaults={"name": "{day}"})
    assert isinstance(found, Job)
    assert found.request == REQUEST


@given(JSON_VALUES)
def test_no_json_is_worse_than_a_dead_letter(value: object) -> None:
    """Nothing that anyone can send is an exception."""
    bodies = (
        value,
        event(value),
        {"Records": [value, {"s3": value}]},
        {**REQUEST, "resourceConfig": value, "var": value},
    )
    assert all(isinstance(parsed(each), DeadLetter | Job | None) for each in bodies)
