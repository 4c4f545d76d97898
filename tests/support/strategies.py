"""Hypothesis strategies for requests and manifests, shared by the property tests.

Texts come from the service model's own patterns and bounds, so that a new botocore is tested as it is.
"""

import codecs
import csv
import io
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from batchsubmit.schema.model import Integer, MapOf, Structure, Text, request_shape
from batchsubmit.schema.patterns import matcher

REGION = "eu-central-1"
MEMBERSHIP = "0123abcd-4567-89ab-cdef-0123456789ab"
ACCOUNT = "111122223333"

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON_VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def examples(thorough: int) -> int:
    """How many examples a test gets that gets so many in the profile `thorough`."""
    return max(1, thorough * settings.default.max_examples // 100)


def arn(
    kind: str,
    name: str = "one",
    *,
    partition: str = "aws",
    region: str = REGION,
    account: str = ACCOUNT,
    membership: str = MEMBERSHIP,
) -> str:
    """A well-formed ARN of a resource within a membership."""
    return f"arn:{partition}:cleanrooms-ml:{region}:{account}:membership/{membership}/{kind}/{name}"


def minimal_request(**members: object) -> dict[str, Any]:
    """A valid request with nothing optional, and these members."""
    return {
        "membershipIdentifier": MEMBERSHIP,
        "name": "job",
        "trainedModelArn": arn("trained-model"),
        "resourceConfig": {"instanceType": "ml.m5.large"},
        "outputConfiguration": {"members": [{"accountId": ACCOUNT}]},
        "dataSource": {"mlInputChannelArn": arn("ml-input-channel")},
    } | members


@st.composite
def valid_requests(draw: st.DrawFn) -> dict[str, Any]:
    """Valid requests, astral and other Unicode names included."""
    shape = request_shape()
    membership, region = draw(_texts(_text("membershipIdentifier"))), draw(st.sampled_from([REGION, "us-gov-west-1"]))
    account = draw(_texts(_text("mlModelInferencePayerAccountId")))

    def arns(kind: str) -> st.SearchStrategy[str]:
        return _ARN_NAMES.map(lambda name: arn(kind, name, region=region, account=account, membership=membership))

    whole = {
        "membershipIdentifier": st.just(membership),
        "trainedModelArn": arns("trained-model"),
        "configuredModelAlgorithmAssociationArn": arns("configured-model-algorithm-association"),
        "dataSource": st.fixed_dictionaries({"mlInputChannelArn": arns("ml-input-channel")}),
        "outputConfiguration": st.fixed_dictionaries(
            {
                "members": st.lists(
                    st.fixed_dictionaries({"accountId": _texts(_text("mlModelInferencePayerAccountId"))}),
                    min_size=1,
                    max_size=1,
                )
            },
            optional={"accept": _ACCEPT},
        ),
        "kmsKeyArn": st.just(f"arn:aws:kms:{region}:{account}:key/\u00e9 \U0001f511"),
        "tags": _TAGS,
    }
    members = {name: whole[name] if name in whole else _values(member) for name, member in shape.members.items()}
    request: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {name: value for name, value in members.items() if name in shape.required},
            optional={name: value for name, value in members.items() if name not in shape.required},
        )
    )
    return request


@st.composite
def any_requests(draw: st.DrawFn) -> dict[str, Any]:
    """Requests that are nearly valid: a few members removed, replaced or added, at any depth."""
    request = draw(valid_requests())
    for _ in range(draw(st.integers(1, 3))):
        node: Any = request
        while True:
            children = [
                child
                for child in (node.values() if isinstance(node, dict) else node)
                if isinstance(child, dict | list) and child
            ]
            if not children or draw(st.booleans()):
                break
            node = draw(st.sampled_from(children))
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            break
        key = draw(st.sampled_from(keys))
        match draw(st.sampled_from(["remove", "replace", "add"])):
            case "remove":
                del node[key]
            case "replace":
                node[key] = draw(JSON_VALUES)
            case "add" if isinstance(node, dict):
                node[draw(st.text(max_size=6))] = draw(JSON_VALUES)
            case _:
                node.append(draw(JSON_VALUES))
    return request


@dataclass(frozen=True, slots=True)
class CsvManifest:
    """A manifest's bytes, and the requests that a reader must find in it."""

    data: bytes
    requests: list[dict[str, Any]]


@st.composite
def csv_manifests(draw: st.DrawFn) -> CsvManifest:
    """Valid CSV manifests: dotted columns or JSON cells, any delimiter, line end and quoting, BOM or not."""
    requests = [_csv_able(request) for request in draw(st.lists(valid_requests(), min_size=1, max_size=4))]
    as_json = draw(st.sets(st.sampled_from(["resourceConfig", "outputConfiguration", "dataSource"]))) | {
        # An empty value cannot be told from none in a cell of its own.
        name
        for name in ("tags", "environment")
        if draw(st.booleans()) or any("" in request.get(name, {}).values() for request in requests)
    }
    rows = [_flat(request, as_json) for request in requests]
    header = draw(st.permutations(sorted({name for row in rows for name in row})))
    line_end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    out = io.StringIO(newline="")
    # The minimal quoting of csv.writer forgets the line ends that are not its own.
    quoting = draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])) if line_end == "\r\n" else csv.QUOTE_ALL
    writer = csv.writer(out, delimiter=draw(st.sampled_from(",;\t")), lineterminator=line_end, quoting=quoting)
    writer.writerow(header)
    for row in rows:
        writer.writerow([row.get(name, "") for name in header])
        out.write(draw(st.sampled_from(["", line_end])))
    bom = draw(st.sampled_from([b"", codecs.BOM_UTF8]))
    return CsvManifest(bom + out.getvalue().encode(), requests)


# Drawn by number: the tables behind st.characters take Hypothesis seconds to build.
_CHARACTERS = st.sampled_from(
    "aZ09 ,;\t\n\r\"'{}.=\0\x7f\x85\xa0\u00e9\u2028\ud7ff\ue000\ufffd\U00010000\U0001f511\U0010ffff"
) | (st.integers(0x20, 0x10FFFF - 0x800).map(lambda number: chr(number if number < 0xD800 else number + 0x800)))
_LINE_CHARACTERS = _CHARACTERS.filter(lambda character: character not in "\n\r\x85\u2028\u2029")
_ACCEPT = st.text(alphabet=_LINE_CHARACTERS, max_size=20)
_ARN_NAMES = st.text(alphabet="-aZ09_/.", min_size=1, max_size=30)
_TAG_KEYS = st.text(alphabet=_CHARACTERS, min_size=1, max_size=8).filter(
    lambda key: not key.lower().startswith(("aws:", "batchsubmit:"))
)
_TAGS = st.dictionaries(_TAG_KEYS, st.text(alphabet=_CHARACTERS, max_size=8), max_size=5)
_VARIABLE_NAMES = st.text(alphabet="aZ_09", min_size=1, max_size=9).map(lambda text: f"V{text}")
_ENVIRONMENT = st.dictionaries(_VARIABLE_NAMES, st.text(alphabet=_CHARACTERS, min_size=1, max_size=8), max_size=4)


def _text(name: str) -> Text:
    shape = request_shape().members[name]
    assert isinstance(shape, Text)
    return shape


@cache
def _texts(shape: Text) -> st.SearchStrategy[str]:
    if shape.choices:
        return st.sampled_from(shape.choices)
    if shape.pattern is not None and "{" in shape.pattern:
        return st.from_regex(shape.pattern, fullmatch=True, alphabet="0123456789abcdef-")
    matches = matcher(shape.pattern)
    alphabet = _CHARACTERS.filter(lambda character: bool(matches(f"a{character}a")))
    return st.text(alphabet=alphabet, min_size=shape.least or 0, max_size=min(shape.most or 20, 20)).filter(matches)


def _values(shape: object) -> st.SearchStrategy[Any]:
    match shape:
        case Text():
            return _texts(shape)
        case Integer():
            return st.integers(shape.least, shape.most)
        case Structure():
            members = {name: _values(member) for name, member in shape.members.items()}
            return st.fixed_dictionaries(
                {name: value for name, value in members.items() if name in shape.required},
                optional={name: value for name, value in members.items() if name not in shape.required},
            )
        case MapOf():
            return _ENVIRONMENT
    raise TypeError(f"no strategy for {shape}")


def _csv_able(request: dict[str, Any]) -> dict[str, Any]:
    """The request without what no CSV cell can say: empty texts, empty structures and NUL."""
    able: dict[str, Any] = {}
    for name, value in request.items():
        kept: Any = value
        if isinstance(value, dict):
            pairs = ((key.replace("\0", "0"), item) for key, item in value.items())
            kept = {k: v.replace("\0", "0") if isinstance(v, str) else v for k, v in pairs if name == "tags" or v != ""}
        if kept not in ("", {}):
            able[name] = kept
    return able


def _flat(request: dict[str, Any], as_json: set[str]) -> dict[str, str]:
    cells: dict[str, str] = {}

    def walk(value: object, path: str) -> None:
        if path in as_json:
            cells[path] = json.dumps(value, ensure_ascii=False)
        elif isinstance(value, dict):
            for key, item in value.items():
                walk(item, f"{path}.{key}" if path else key)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                walk(item, f"{path}.{index}")
        else:
            cells[path] = str(value)

    walk(request, "")
    return cells
