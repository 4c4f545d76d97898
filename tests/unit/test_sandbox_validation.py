"""The sandbox's own validation: each rule lets the right through and stops the wrong."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchsubmit.sandbox.refusals import Operation, Refusal
from batchsubmit.sandbox.validation import Call, RequestValidator

MEMBERSHIP = "11111111-2222-3333-4444-555555555555"
OTHER = "99999999-2222-3333-4444-555555555555"
SCOPE = f"arn:aws:cleanrooms-ml:us-east-1:123456789012:membership/{MEMBERSHIP}"
START = "StartTrainedModelInferenceJob"
PATH = f"/memberships/{MEMBERSHIP}/trained-model-inference-jobs"
VALIDATOR = RequestValidator()
FULL: dict[str, Any] = {
    "membershipIdentifier": MEMBERSHIP,
    "name": "job",
    "trainedModelArn": f"{SCOPE}/trained-model/m",
    "trainedModelVersionIdentifier": OTHER,
    "configuredModelAlgorithmAssociationArn": f"{SCOPE}/configured-model-algorithm-association/a",
    "resourceConfig": {"instanceType": "ml.m5.xlarge", "instanceCount": 1},
    "outputConfiguration": {"accept": "text/csv", "members": [{"accountId": "123456789012"}]},
    "dataSource": {"mlInputChannelArn": f"{SCOPE}/ml-input-channel/c"},
    "description": "d",
    "containerExecutionParameters": {"maxPayloadInMB": 6},
    "environment": {"A": "b"},
    "kmsKeyArn": "arn:aws:kms:us-east-1:123456789012:key/k",
    "tags": {"k": "v"},
    "mlModelInferencePayerAccountId": "123456789012",
}
MISSING = object()


def changed(where: str, value: object) -> dict[str, Any]:
    """Return the full request with one member, given by its dotted path, changed or taken out."""
    request = copy.deepcopy(FULL)
    *parents, last = where.split(".")
    place: Any = request
    for parent in parents:
        place = place[int(parent)] if parent.isdigit() else place[parent]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value
    return request


def problems(where: str, value: object) -> list[str]:
    """Return the problems of a request with one change."""
    return VALIDATOR.problems(START, changed(where, value))


GOOD: list[tuple[str, object]] = [
    ("name", "\U0001f600" * 63),
    ("name", "a\tb"),
    ("name", " x "),
    ("name", "\u00a0"),
    ("description", ""),
    ("description", None),
    ("description", "a\r\n\tb"),
    ("description", "\U0001f600" * 255),
    ("description", MISSING),
    ("outputConfiguration.accept", ""),
    ("resourceConfig.instanceCount", 10),
    ("resourceConfig.instanceCount", None),
    ("containerExecutionParameters", {}),
    ("environment", {}),
    ("environment", {f"K{number}": "v" for number in range(16)}),
    ("environment", {"_a": "\n\x00\u2028"}),
    ("environment", {"A": "x" * 10240}),
    ("tags", {f"k{number}": "" for number in range(50)}),
    ("tags", {"awsome": "aws:value"}),
    ("tags", {"\U0001f600" * 128: "\U0001f600" * 256}),
    ("kmsKeyArn", MISSING),
    ("configuredModelAlgorithmAssociationArn", MISSING),
]

BAD: list[tuple[str, object, str]] = [
    ("name", MISSING, "'name' failed to satisfy constraint: Member must not be null"),
    ("name", None, "must not be null"),
    ("name", 1, "must be a string"),
    ("name", True, "must be a string"),
    ("name", "", "greater than or equal to 1"),
    ("name", "x" * 64, "less than or equal to 63"),
    ("name", "  ", "regular expression"),
    ("name", "a\nb", "regular expression"),
    ("name", "a\n", "regular expression"),
    ("name", "a\ud800", "valid Unicode"),
    ("name", "\ufffe", "regular expression"),
    ("description", "x" * 256, "less than or equal to 255"),
    ("description", "\x0b", "regular expression"),
    ("nonsense", 1, "'nonsense' failed to satisfy constraint: Member is not known"),
    ("resourceConfig", [], "must be an object"),
    ("resourceConfig.nonsense", None, "not known"),
    ("resourceConfig.instanceType", "ml.m5.tiny", "enum value set: [ml."),
    ("resourceConfig.instanceCount", 0, "greater than or equal to 1"),
    ("resourceConfig.instanceCount", 11, "less than or equal to 10"),
    ("resourceConfig.instanceCount", True, "must be an integer"),
    ("resourceConfig.instanceCount", 1.0, "must be an integer"),
    ("resourceConfig.instanceCount", "1", "must be an integer"),
    ("resourceConfig.instanceCount", 10**30, "less than or equal to 10"),
    ("containerExecutionParameters.maxPayloadInMB", 101, "less than or equal to 100"),
    ("outputConfiguration.accept", "a\u2028b", "regular expression"),
    ("outputConfiguration.accept", "x" * 257, "less than or equal to 256"),
    ("outputConfiguration.members", [], "greater than or equal to 1"),
    ("outputConfiguration.members", [{"accountId": "123456789012"}] * 2, "less than or equal to 1"),
    ("outputConfiguration.members", [None], "must not be null"),
    ("outputConfiguration.members", {}, "must be a list"),
    ("outputConfiguration.members.0.accountId", MISSING, "members.1.member.accountId"),
    ("outputConfiguration.members.0.accountId", "12345678901", "12"),
    ("outputConfiguration.members.0.accountId", "12345678901\u0661", "regular expression"),
    ("outputConfiguration.members.0.accountId", 123456789012, "must be a string"),
    ("environment", {"1A": "b"}, "regular expression"),
    ("environment", {"A": ""}, "greater than or equal to 1"),
    ("environment", {"A": None}, "must not be null"),
    ("environment", {"A": 1}, "must be a string"),
    ("environment", {"A": "x" * 10241}, "less than or equal to 10240"),
    ("environment", {f"K{number}": "v" for number in range(17)}, "less than or equal to 16"),
    ("tags", {f"k{number}": "" for number in range(51)}, "at most 50"),
    ("tags", {"aws:x": ""}, "aws:"),
    ("tags", {"AwS:x": ""}, "aws:"),
    ("tags", {"": ""}, "greater than or equal to 1"),
    ("tags", {"k" * 129: ""}, "less than or equal to 128"),
    ("tags", {"k": "v" * 257}, "less than or equal to 256"),
    ("tags", {"k": "\udc00"}, "valid Unicode"),
    ("trainedModelArn", FULL["trainedModelArn"] + "\n", "regular expression"),
    ("trainedModelArn", f"{SCOPE}/trained-model-inference-job/m", "regular expression"),
    (
        "dataSource.mlInputChannelArn",
        f"{SCOPE}/ml-input-channel/c".replace("us-east-1", "eu-west-1"),
        "Region",
    ),
    ("dataSource.mlInputChannelArn", f"{SCOPE}/ml-input-channel/c".replace("arn:aws:", "arn:aws-cn:"), "Partition"),
    (
        "kmsKeyArn",
        "arn:aws:kms:eu-west-1:123456789012:key/k",
        "'kmsKeyArn' failed to satisfy constraint: Region",
    ),
    ("trainedModelVersionIdentifier", OTHER.replace("9", "A"), "regular expression"),
    ("mlModelInferencePayerAccountId", "x" * 12, "regular expression"),
]


@pytest.mark.parametrize(
    ("where", "value"), GOOD, ids=lambda value: "missing" if value is MISSING else repr(value)[:40]
)
def test_what_aws_takes_passes(where: str, value: object) -> None:
    """Each limit is itself allowed."""
    assert problems(where, value) == []


@pytest.mark.parametrize(
    ("where", "value", "said"), BAD, ids=lambda value: "missing" if value is MISSING else repr(value)[:40]
)
def test_what_aws_would_not_take_is_named(where: str, value: object, said: str) -> None:
    """One problem, with its place and its constraint."""
    found = problems(where, value)
    assert len(found) >= 1
    assert any(said in problem for problem in found)
    assert all(problem.startswith("Value at '") for problem in found)


@pytest.mark.parametrize("where", list(VALIDATOR.shapes[f"{START}Request"]["required"]))
def test_every_required_member_is_required(where: str) -> None:
    """As the model has them."""
    assert len(problems(where, MISSING)) == 1


@pytest.mark.parametrize(
    "where", ["trainedModelArn", "configuredModelAlgorithmAssociationArn", "dataSource.mlInputChannelArn"]
)
def test_an_arn_may_be_of_another_membership_and_account(where: str) -> None:
    """AWS says so of the association, and forbids it nowhere of model and channel."""
    own = f"{SCOPE}/ml-input-channel/c" if "Channel" in where else FULL[where]
    assert problems(where, own.replace(MEMBERSHIP, OTHER).replace("123456789012", "999988887777")) == []


def test_all_problems_are_in_one_message_without_the_values() -> None:
    """In the words AWS puts around them; a value may be private."""
    request = changed("name", "secret\n") | {"description": 7}
    with pytest.raises(Refusal) as caught:
        VALIDATOR.require(START, request)
    assert caught.value.code == "ValidationException"
    assert caught.value.message.startswith("2 validation errors detected: Value at ")
    assert "secret" not in caught.value.message


def test_the_region_of_the_signature_is_the_one_that_counts() -> None:
    """A call signed for another region does not reach these ARNs."""
    assert VALIDATOR.problems(START, FULL, "us-east-1") == []
    assert len(VALIDATOR.problems(START, FULL, "eu-west-1")) == 4


def test_the_region_is_read_from_the_authorization_header() -> None:
    """It stands third in the credential scope."""
    signed = "AWS4-HMAC-SHA256 Credential=AKID/20261123/eu-west-1/cleanrooms-ml/aws4_request, SignedHeaders=x"
    assert Call(method="GET", path="/", authorization=signed).region == "eu-west-1"
    assert Call(method="GET", path="/").region is None


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b'{"name": NaN}',
        b'{"name": ' + b"[" * 100_000,
        b'{"name": ' + b"1" * 5000 + b"}",
    ],
)
def test_a_body_that_cannot_be_read_is_refused(body: bytes) -> None:
    """Broken JSON, or none."""
    with pytest.raises(Refusal) as caught:
        VALIDATOR.read(Call(method="POST", path=PATH, body=body))
    assert caught.value.code == "SerializationException"


def test_lone_surrogates_written_as_escapes_are_found() -> None:
    """JSON lets them through; AWS does not. A pair of them is one character."""
    for text, fine in (("\\ud83d\\ude00", True), ("\\ud83d", False), ("\\ude00\\ud83d", False)):
        body = json.dumps({name: FULL[name] for name in FULL if name != "membershipIdentifier"})
        body = body.replace('"job"', f'"{text}"')
        operation, request = VALIDATOR.read(Call(method="POST", path=PATH, body=body.encode()))
        assert (VALIDATOR.problems(operation, request) == []) is fine


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("maxResults=0", "greater than or equal to 1"),
        ("maxResults=101", "less than or equal to 100"),
        ("maxResults=1.0", "must be an integer"),
        ("maxResults=%D9%A1", "must be an integer"),
        ("nextToken=", "greater than or equal to 1"),
        ("trainedModelArn=x", "trainedModelArn"),
        ("nonsense=1", "not known"),
        ("nextToken=%FF", "UTF-8"),
    ],
)
def test_a_wrong_query_is_refused(query: str, said: str) -> None:
    """List's members come as text and are held against their shapes."""
    with pytest.raises(Refusal, match=said):
        VALIDATOR.require(*VALIDATOR.read(Call(method="GET", path=PATH, query=query)))


def test_a_query_is_read() -> None:
    """Integers become integers, a signature is passed over, an encoded ARN is one segment."""
    call = Call(method="GET", path=PATH, query="maxResults=7&nextToken=a%2Bb%3D&X-Amz-Date=x")
    assert VALIDATOR.read(call)[1] == {"membershipIdentifier": MEMBERSHIP, "maxResults": 7, "nextToken": "a+b="}
    get = Call(method="GET", path=f"/memberships/{MEMBERSHIP}/trained-models/arn%3Aaws%2Fx")
    assert VALIDATOR.read(get)[1] == {"membershipIdentifier": MEMBERSHIP, "trainedModelArn": "arn:aws/x"}


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("PUT", PATH), ("GET", f"{PATH}/arn:aws/x"), ("GET", "/memberships//trained-models/x")],
)
def test_an_unknown_path_is_an_unknown_operation(method: str, path: str) -> None:
    """Also an ARN whose slashes are not encoded."""
    with pytest.raises(Refusal) as caught:
        VALIDATOR.read(Call(method=method, path=path))
    assert (caught.value.code, caught.value.status_code) == ("UnknownOperationException", 404)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()) | st.sampled_from(list(FULL)), inner),
)


@given(operation=st.sampled_from(list(Operation)), request=JSON)
def test_arbitrary_json_never_crashes_the_form(operation: str, request: object) -> None:
    """It has problems or none, and says so in text."""
    assert all(isinstance(problem, str) for problem in VALIDATOR.problems(operation, request))


@given(member=st.sampled_from(list(FULL)), value=JSON)
def test_a_request_with_one_member_of_anything_never_crashes_the_form(member: str, value: object) -> None:
    """The rules between members come only after the shapes have passed."""
    assert isinstance(VALIDATOR.problems(START, FULL | {member: value}), list)


@given(body=st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_arbitrary_bodies_are_read_or_refused(body: bytes) -> None:
    """Nothing else comes out."""
    with pytest.raises(Refusal) as caught:  # none of these names a membership's model
        VALIDATOR.require(*VALIDATOR.read(Call(method="POST", path=PATH, body=body)))
    assert caught.value.status_code == 400
