"""The checks of one request, rule by rule."""

import json
import subprocess
import sys
from typing import Any

import jsonschema
import pytest
from strategies import ACCOUNT, MEMBERSHIP, REGION, arn, minimal_request

from batchsubmit.schema import Part, RequestChecker, canonical, json_schema, read_json
from batchsubmit.schema.arns import account_of_membership, foreign_arns, partition_of

OTHER_MEMBERSHIP = "f" * 8 + MEMBERSHIP[8:]


def _theirs(kind: str) -> str:
    """The ARN of a resource of another member."""
    return arn(kind, membership=OTHER_MEMBERSHIP, account="9" * 12)


def faults(*, region: str | None = None, own_tag: bool = True, **members: object) -> list[str]:
    """The faults of a request, as text."""
    return [str(fault) for fault in RequestChecker(region=region, own_tag=own_tag).explain(minimal_request(**members))]


def test_a_minimal_request_is_valid() -> None:
    """The other tests change one thing of this."""
    assert faults(region=REGION) == []


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"name": ""}, "name: is empty; must have 1 to 63 characters"),
        ({"name": 5}, "name: is a number; must be text"),
        ({"name": "\U0001f511" * 64}, "has 64 characters; must have 1 to 63 characters"),
        ({"name": "a\ud800"}, "holds half of a surrogate pair; write the whole character"),
        ({"nam": "x"}, "nam: is not a member of the request; did you mean 'name'?"),
        ({"Tags": {}}, "did you mean 'tags'?"),
        ({"membershipIdentifier": MEMBERSHIP.upper()}, f"write it in lower case, '{MEMBERSHIP}'"),
        ({"mlModelInferencePayerAccountId": f" {ACCOUNT}"}, "remove the white space around it"),
        ({"mlModelInferencePayerAccountId": int(ACCOUNT)}, "is a number; must be text"),
        ({"mlModelInferencePayerAccountId": f"{ACCOUNT}\n"}, "does not match"),
        (
            {"resourceConfig": {"instanceType": "ml.m5.huge"}},
            "'ml.m5.huge' is not an instance type; did you mean 'ml.m5",
        ),
        ({"resourceConfig": {"instanceType": "ML.M5.LARGE"}}, "did you mean 'ml.m5.large'?"),
        ({"resourceConfig": {"instanceType": "zzz"}}, "must be one of 94, such as"),
        ({"resourceConfig": None}, "resourceConfig.instanceType: is missing; is required"),
        ({"resourceConfig": []}, "resourceConfig: is a list; must be an object"),
        ({"outputConfiguration": {}}, "outputConfiguration.members.0.accountId: is missing"),
        ({"outputConfiguration": {"members": []}}, "has 0 entries; must be exactly 1"),
        ({"outputConfiguration": {"members": [None]}}, "outputConfiguration.members.0: is null; must be an object"),
        ({"outputConfiguration": {"members": [{"accountId": "1"}]}}, "outputConfiguration.members.0.accountId: '1'"),
        ({"environment": {"A": None}}, "environment.A: is null; must be text, or be left out"),
        ({"environment": {"A": ""}}, "environment.A: is empty"),
        ({"environment": {"1A": "x"}}, "environment.1A: the key '1A' does not match"),
        ({"environment": {f"A{n}": "x" for n in range(17)}}, "environment: has 17 entries; must be at most 16"),
        ({"tags": {"Aws:x": ""}}, "the prefix 'Aws:' is reserved for AWS"),
        ({"tags": {"batchsubmit:key": ""}}, "the prefix 'batchsubmit:' is batchsubmit's own"),
        ({"tags": {"k" * 129: ""}}, "has 129 characters"),
        ({"description": "a\x85"}, ""),
    ],
)
def test_what_is_wrong_is_said_with_the_mend(members: dict[str, Any], expected: str) -> None:
    """One fault for one mistake, naming the member, what it holds and what it should."""
    found = faults(**members)
    assert len(found) == (1 if expected else 0)
    assert all(expected in fault for fault in found)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "is 0; must be 1 to 10"),
        (11, "is 11; must be 1 to 10"),
        (10**30, "is a number of 100 bits; must be 1 to 10"),
        (True, "true is not an integer; must be a whole number from 1 to 10"),
        (2.0, "2.0 is not an integer; write 2"),
        ("2", "'2' is not an integer; write 2"),
        (" 2", "' 2' is not an integer; write 2"),
        ("1e1", "'1e1' is not an integer; write 10"),
        ("2.5", "'2.5' is not an integer; must be a whole number from 1 to 10"),
        (float("nan"), "nan is not an integer; must be a whole number from 1 to 10"),
        ("nan", "must be a whole number"),
        ([], "a list is not an integer"),
    ],
)
def test_integers_are_strict_but_understood(value: object, expected: str) -> None:
    """Neither JSON's true nor 1.0 is an integer; what was meant is offered."""
    (fault,) = faults(resourceConfig={"instanceType": "ml.m5.large", "instanceCount": value})
    assert fault.startswith("resourceConfig.instanceCount: ")
    assert expected in fault


@pytest.mark.parametrize(("own_tag", "most"), [(True, 49), (False, 50)])
def test_our_own_tag_takes_one_of_fifty(own_tag: bool, most: int) -> None:
    """The service allows 50 tags of the user's, ours included."""
    assert faults(own_tag=own_tag, tags={str(n): "" for n in range(most)}) == []
    (fault,) = faults(own_tag=own_tag, tags={str(n): "" for n in range(most + 1)})
    assert f"has {most + 1} tags; at most {most} are possible" in fault


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("cleanrooms-ml", "cleanroom-ml"),
        (ACCOUNT, "12345"),
        ("membership/", "memberships/"),
        ("/trained-model/", "/model/"),
        (f":{REGION}", ""),
    ],
)
def test_the_part_of_an_arn_that_is_wrong_is_named(wrong: str, right: str) -> None:
    """And the whole pattern is not shown."""
    (fault,) = faults(trainedModelArn=arn("trained-model").replace(wrong, right))
    assert "[0-9a-f]{8}" not in fault
    assert repr(right.strip("/")) in fault or not right
    assert "six parts" in fault or "must be" in fault or "must match [0-9]{12}" in fault


def test_aws_tags_are_refused_without_being_counted() -> None:
    """Tags with the prefix aws: do not count against the 50."""
    assert len(faults(tags={"aws:a": ""} | {str(n): "" for n in range(49)})) == 1


@pytest.mark.parametrize(
    ("members", "region", "expected"),
    [
        ({"trainedModelArn": arn("trained-model", region="eu-west-1")}, None, ["mlInputChannelArn: is in region"]),
        ({"trainedModelArn": arn("trained-model", membership=OTHER_MEMBERSHIP)}, None, []),
        ({"trainedModelArn": arn("trained-model", account="9" * 12)}, None, []),
        (
            {"configuredModelAlgorithmAssociationArn": _theirs("configured-model-algorithm-association")},
            REGION,
            [],
        ),
        (
            {"trainedModelArn": arn("trained-model").replace("aws", "aws-cn")},
            None,
            ["mlInputChannelArn: is in partition"],
        ),
        ({"kmsKeyArn": f"arn:aws-cn:kms:{REGION}:{ACCOUNT}:key/x"}, REGION, ["kmsKeyArn: is in partition aws-cn"]),
        ({}, "us-east-1", ["trainedModelArn: is in region", "dataSource.mlInputChannelArn: is in region"]),
        ({"kmsKeyArn": f"arn:aws:kms:us-east-1:{ACCOUNT}:key/x"}, None, ["kmsKeyArn: is in region us-east-1"]),
        ({"kmsKeyArn": f"arn:aws:kms:{REGION}:999999999999:key/x"}, REGION, []),
        ({"dataSource": {"mlInputChannelArn": []}}, REGION, ["dataSource.mlInputChannelArn: is a list"]),
        ({"dataSource": "x"}, REGION, ["dataSource: is text"]),
        (
            {"configuredModelAlgorithmAssociationArn": arn("trained-model")},
            None,
            ["must be configured-model-algorithm-association"],
        ),
    ],
)
def test_arns_must_agree(members: dict[str, Any], region: str | None, expected: list[str]) -> None:
    """With the client's region and its partition, or with each other; ill-formed ones have one fault."""
    found = faults(region=region, **members)
    assert len(found) == len(expected)
    assert all(part in fault for part, fault in zip(expected, found, strict=True))


@pytest.mark.parametrize(
    ("members", "account", "expected"),
    [
        ({}, "", []),
        ({"configuredModelAlgorithmAssociationArn": _theirs("configured-model-algorithm-association")}, "", []),
        ({"trainedModelArn": _theirs("trained-model")}, "", ["trainedModelArn: is of another membership"]),
        (
            {"dataSource": {"mlInputChannelArn": _theirs("ml-input-channel")}},
            "",
            ["dataSource.mlInputChannelArn: is of another membership"],
        ),
        (
            {"dataSource": {"mlInputChannelArn": arn("ml-input-channel", account="9" * 12)}},
            "",
            ["dataSource.mlInputChannelArn: is of another account, '999999999999'"],
        ),
        (
            {},
            "9" * 12,
            ["trainedModelArn: is of another account", "mlInputChannelArn: is of another account"],
        ),
        ({"trainedModelArn": 7, "dataSource": "x"}, "", []),
        ({"membershipIdentifier": "ill-formed"}, "", []),
    ],
)
def test_trained_models_and_channels_of_others_are_found(
    members: dict[str, Any], account: str, expected: list[str]
) -> None:
    """By membership, and by the account that the membership has elsewhere; never an association."""
    found = list(map(str, foreign_arns(minimal_request(**members), account)))
    assert len(found) == len(expected)
    assert all(part in fault for part, fault in zip(expected, found, strict=True))


def test_a_membership_s_account_comes_from_an_arn_of_its_own() -> None:
    """Where all ARNs are of others, nothing tells it."""
    theirs = {"mlInputChannelArn": _theirs("ml-input-channel")}
    assert account_of_membership(minimal_request(trainedModelArn=_theirs("trained-model"))) == ACCOUNT
    assert account_of_membership(minimal_request(trainedModelArn=_theirs("trained-model"), dataSource=theirs)) == ""


@pytest.mark.parametrize(
    ("region", "partition"),
    [("eu-central-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("nowhere", None)],
)
def test_a_region_has_a_partition(region: str, partition: str | None) -> None:
    """As botocore knows them."""
    assert partition_of(region) == partition


def test_environment_values_are_never_quoted() -> None:
    """Faults are printed and logged, and an environment value may be a secret."""
    secret = "s3cret" * 2000
    assert "s3cret" not in "".join(faults(environment={"A": secret, "B": "s3cret\ud800"}))


def test_a_found_fault_is_found_again() -> None:
    """Only good values are remembered."""
    checker = RequestChecker()
    bad, good = minimal_request(name=" "), minimal_request(name="x")
    spelled = [checker.spelled(request, checker.part_of(request)) for request in (bad, good, bad, good)]
    assert [each is None for each in spelled] == [True, False, True, False]


def test_what_requests_share_is_checked_once_and_the_rest_always() -> None:
    """A part that was found good is not looked at again; name, description and environment are."""
    checker, part = RequestChecker(), Part()
    good = minimal_request(tags={"a": "1"})
    assert checker.spelled(good, part) == checker.spelled(good, part) == canonical(good)
    for members in ({"name": " "}, {"environment": {"1A": "x"}}, {"description": "\0"}):
        assert checker.spelled(good | members, part) is None
    assert checker.spelled(good | {"name": "other"}, part) == canonical(good | {"name": "other"})


def test_canonical_is_sorted_compact_utf8() -> None:
    """Keys derive from it: not a byte may ever change."""
    assert (
        canonical({"b": {"z": 1, "a": "\u00e9\U0001f511"}, "a": [1]})
        == '{"a":[1],"b":{"a":"\u00e9\U0001f511","z":1}}'.encode()
    )


def test_json_schema_is_one() -> None:
    """It passes the metaschema, knows the enum and refuses strangers."""
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(json.loads(json.dumps(schema)))
    assert validator.is_valid(minimal_request(var={"partition": "1"}) | {"var.day": "2"})
    assert not validator.is_valid(minimal_request(nam="x"))
    assert not validator.is_valid(minimal_request(tags={"AWS:x": ""}))
    assert not validator.is_valid(minimal_request(resourceConfig={"instanceType": "ml.m5.huge"}))


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ('{"a":1,"a":2}', 8),
        ('{"a":NaN}', 6),
        ("[1,", 4),
        ('"\\ud800"', 2),
        ('"a\\ud83dx\\ude00"', 3),
        ('"\\ude00"', 2),
        ("1 2", 3),
    ],
)
def test_bad_json_is_found_by_column(text: str, column: int) -> None:
    """The character is named, counted from 1."""
    with pytest.raises(ValueError, match=f"character {column}:"):
        read_json(text)


def test_pairs_of_surrogate_escapes_are_one_character() -> None:
    """And an escaped backslash before a u is no escape at all."""
    assert read_json('"\\ud83d\\udd11 \\\\ud800"') == "\U0001f511 \\ud800"


def test_importing_the_schema_loads_no_client() -> None:
    """Half a second that `batchsubmit schema` and `validate` should not pay."""
    program = "import sys, batchsubmit.schema, batchsubmit.manifest.check\n"
    program += "print([m for m in ('aiobotocore', 'botocore.session', 'aiohttp') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
