"""Two readings of one service model, written apart: whatever validation passes, the sandbox accepts, and back.

The sandbox's check shares no code with ours, so a disagreement is a mistake in one of them. Requests that differ from
valid ones in a single member come from the model's shapes, so that a new botocore is tested as it is.
"""

import asyncio
import io
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import pytest
from botocore.awsrequest import prepare_request_dict
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.serialize import create_serializer
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from memory_cleanrooms import MemoryCleanRooms
from strategies import (
    ACCOUNT,
    JSON_VALUES,
    MEMBERSHIP,
    REGION,
    CsvManifest,
    any_requests,
    arn,
    csv_manifests,
    examples,
    minimal_request,
    valid_requests,
)

from batchsubmit.core.jobs import KEY_TAG, Accepted, Job
from batchsubmit.manifest.check import Terms, open_reader, take_inventory
from batchsubmit.manifest.file import ManifestFile
from batchsubmit.sandbox import Faults, SandboxService, SandboxSettings
from batchsubmit.sandbox.refusals import Operation
from batchsubmit.sandbox.server import Exchange, HttpAnswer
from batchsubmit.sandbox.validation import Call, RequestValidator
from batchsubmit.schema import Fault, RequestChecker, without_nulls
from batchsubmit.schema.model import (
    MOST_TAGS,
    OWN_PREFIX,
    Integer,
    ListOf,
    MapOf,
    Shape,
    Structure,
    Text,
    request_shape,
)

OTHER_REGION = "us-gov-west-1"
OTHER_ACCOUNT = "999988887777"
OTHER_MEMBERSHIP = "fedcba98-7654-3210-fedc-ba9876543210"
KEY = "a" * 26
VALIDATOR = RequestValidator()
REGIONS: list[str | None] = [None, REGION, OTHER_REGION]
CHECKERS = {
    (region, own_tag): RequestChecker(region=region, own_tag=own_tag) for region in REGIONS for own_tag in (False, True)
}

# Characters at which Java and Python, or two careful readers of one pattern, may part.
CHARACTERS = st.sampled_from(
    "a\0\t\n\x0b\x0c\r\x1c\x1f \x7f\x80\x85\xa0\u0130\u0660\u200b\u2028\u2029\u3000\ud7ff\ud800\udbff\udc00\udfff"
    "\ue000\ufdd0\ufeff\ufffd\ufffe\uffff\U00010000\U0001f511\U000103ff\U0010ffff:/._-"
)
KEY_STARTS = st.sampled_from(
    ["aws:", "AWS:", "Aws:", "aWs:x", "aws", "aws\uff1a", " aws:", "aw\u017f:", "batchsubmit", ""]
)
LONGEST = 10_241


def _texts_near(shape: Text, value: str) -> st.SearchStrategy[object]:
    """Texts around a valid one: at the bounds, with odd characters anywhere, or of another type."""
    least, most = shape.least or 0, min(shape.most or 64, LONGEST)
    lengths = st.sampled_from(sorted({0, max(least - 1, 0), least, most, most + 1}))
    padding = CHARACTERS | st.just(value[-1:] or "a")
    padded = st.builds(lambda length, more: (value + more * length)[:length], lengths, padding)
    inserted = st.builds(
        lambda at, more: value[:at] + more + value[at:],
        st.integers(0, len(value)),
        st.text(CHARACTERS, min_size=1, max_size=3),
    )
    respelled = st.sampled_from([value.upper(), value.title(), value[1:], value[:-1], value * 2, f" {value} "])
    return padded | inserted | respelled | st.text(CHARACTERS, max_size=4) | st.sampled_from(shape.choices or ("",))


def _integers_near(shape: Integer) -> st.SearchStrategy[object]:
    least, most = shape.least or 0, shape.most or 0
    numbers = [least - 1, least, most, most + 1, -1, 0, 2**63, 2**64, float(least), 1.5, str(least), f" {most}"]
    return st.sampled_from([*numbers, True, False, float("nan"), float("inf"), -0.0])


def _lists_near(value: list[Any]) -> st.SearchStrategy[object]:
    return st.sampled_from([value, [], value * 2, [None], [*value, None], [[]], [{}], {"0": value}])


def _maps_near(shape: MapOf, name: str, value: Mapping[str, str]) -> st.SearchStrategy[object]:
    """Maps with as many entries as are just possible, and with odd keys and values."""
    counts = {(shape.least or 0), (shape.most or 0) - 1, shape.most or 0, (shape.most or 0) + 1}
    if name == "tags":
        counts |= {MOST_TAGS - 1, MOST_TAGS, MOST_TAGS + 1}
    many = st.sampled_from(sorted(count for count in counts if count >= 0)).map(
        lambda count: {f"k{number}": "v" for number in range(count)}
    )
    keys = st.builds(str.__add__, KEY_STARTS, st.text(CHARACTERS, max_size=3)) | _texts_near(shape.key, "k")
    values = st.just("v") | JSON_VALUES
    if isinstance(shape.value, Text):
        values |= _texts_near(shape.value, "v")
    odd = st.dictionaries(keys, values, max_size=2)
    return st.builds(lambda first, second: {**first, **second}, many | st.just(dict(value)), odd)


def _near(shape: Shape, path: tuple[str | int, ...], value: Any) -> st.SearchStrategy[object]:  # noqa: ANN401 (JSON)
    anything = st.none() | JSON_VALUES
    match shape:
        case Text():
            return _texts_near(shape, value if isinstance(value, str) else "a") | anything
        case Integer():
            return _integers_near(shape) | anything
        case ListOf():
            return _lists_near(value if isinstance(value, list) else []) | anything
        case MapOf():
            return _maps_near(shape, str(path[-1]), value if isinstance(value, dict) else {}) | anything
    extra = {"surprise": 1, "": None, "Name": "x"}
    known = value if isinstance(value, dict) else {}
    more = st.dictionaries(st.sampled_from(sorted(extra)), st.sampled_from(list(extra.values())), max_size=1)
    return st.sampled_from([{}, [], known]) | more.map(lambda odd: {**known, **odd}) | anything


def _places(shape: Shape, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Shape]]:
    """Every member of the request, by the steps that lead to it."""
    if path:
        yield path, shape
    match shape:
        case Structure():
            for name, member in shape.members.items():
                yield from _places(member, (*path, name))
        case ListOf():
            yield from _places(shape.item, (*path, 0))


PLACES = list(_places(request_shape()))
WHOLE = minimal_request(
    trainedModelVersionIdentifier=OTHER_MEMBERSHIP,
    configuredModelAlgorithmAssociationArn=arn("configured-model-algorithm-association"),
    resourceConfig={"instanceType": "ml.m5.large", "instanceCount": 2},
    outputConfiguration={"accept": "text/csv", "members": [{"accountId": OTHER_ACCOUNT}]},
    description="one\ntwo",
    containerExecutionParameters={"maxPayloadInMB": 6},
    environment={"A": "b"},
    kmsKeyArn=f"arn:aws:kms:{REGION}:{OTHER_ACCOUNT}:key/k",
    tags={"team": "growth"},
    mlModelInferencePayerAccountId=ACCOUNT,
)


@st.composite
def changed_requests(draw: st.DrawFn) -> dict[str, Any]:
    """Valid requests with one or two members that are at a bound, just beyond it, or altogether odd."""
    request = json.loads(draw(st.sampled_from([json.dumps(WHOLE), json.dumps(minimal_request())])))
    for _ in range(draw(st.integers(1, 2))):
        (*steps, last), shape = draw(st.sampled_from(PLACES))
        node: Any = request
        for step in steps:
            node = node.get(step) if isinstance(node, dict) else node[step] if isinstance(node, list) and node else None
        if isinstance(node, dict):
            node[last] = draw(_near(shape, (*steps, last), node.get(last)))
        elif isinstance(node, list) and isinstance(last, int):
            node[last:] = [draw(_near(shape, (*steps, last), node[last] if node else None))]
    return request


@st.composite
def contradictory_requests(draw: st.DrawFn) -> dict[str, Any]:
    """Requests of well-formed members, which may be of several partitions, regions, accounts and memberships."""

    def place() -> dict[str, str]:
        return {
            "partition": draw(st.sampled_from(["aws", "aws", "aws", "aws-us-gov"])),
            "region": draw(st.sampled_from([REGION, REGION, REGION, OTHER_REGION])),
            "account": draw(st.sampled_from([ACCOUNT, ACCOUNT, ACCOUNT, OTHER_ACCOUNT])),
            "membership": draw(st.sampled_from([MEMBERSHIP, MEMBERSHIP, MEMBERSHIP, OTHER_MEMBERSHIP])),
        }

    request = minimal_request(
        trainedModelArn=arn("trained-model", **place()),
        dataSource={"mlInputChannelArn": arn("ml-input-channel", "membership/x/y", **place())},
        configuredModelAlgorithmAssociationArn=arn("configured-model-algorithm-association", **place()),
        kmsKeyArn=f"arn:{place()['partition']}:kms:{place()['region']}:{place()['account']}:key/membership/{OTHER_MEMBERSHIP}/\u2603",
    )
    for optional in draw(st.sets(st.sampled_from(["configuredModelAlgorithmAssociationArn", "kmsKeyArn"]))):
        request[optional] = None
    return request


ODD_REQUESTS = changed_requests() | contradictory_requests()
REQUESTS = ODD_REQUESTS | any_requests() | valid_requests()
CIRCUMSTANCES = st.sampled_from(list(CHECKERS))


def _tagged(request: dict[str, Any]) -> dict[str, Any]:
    """The request as it leaves, with our own tag."""
    tags = request.get("tags")
    return {**request, "tags": {**(tags or {}), KEY_TAG: KEY}} if tags is None or isinstance(tags, dict) else request


def _named(names: int, prefix: str = "k") -> dict[str, Any]:
    return minimal_request(tags={f"{prefix}{number}": "v" for number in range(names)})


def known_examples(test: Callable[..., None]) -> Callable[..., None]:
    """What is worth a try each time."""
    for request in (
        *(_named(count) for count in (MOST_TAGS - 1, MOST_TAGS, MOST_TAGS + 1, 200, 201)),
        _named(1, "AwS:"),
        *(minimal_request(name=name) for name in (" ", "\u3000", " \x85", "\t\u2028", "\x85", "\U0010ffff" * 63)),
        *(minimal_request(name=name) for name in ("\U0010ffff" * 64, "\ud83d\ude00", "\ud800", "a\n", "\ufffe")),
        minimal_request(resourceConfig={"instanceType": "ml.m5.large", "instanceCount": True}),
        minimal_request(environment={"a\n": "b"}),
        minimal_request(outputConfiguration={"accept": "a\x85", "members": [{"accountId": ACCOUNT}]}),
        minimal_request(membershipIdentifier=MEMBERSHIP + "\n"),
        minimal_request(dataSource={"mlInputChannelArn": arn("ml-input-channel", partition="aws-us-gov")}),
        minimal_request(trainedModelArn=arn("trained-model", partition="aws-cn")),
    ):
        for circumstances in CHECKERS:
            test = example(request, circumstances)(test)
    return test


def assert_alike(request: dict[str, Any], circumstances: tuple[str | None, bool]) -> bool:
    """Hold one judge against the other, over the request as it is and as it leaves; returns whether it is good."""
    region, own_tag = circumstances
    faults = CHECKERS[circumstances].explain(request)
    if not faults:
        assert VALIDATOR.problems(Operation.START, request, region) == []
        leaving = without_nulls(request)
        assert VALIDATOR.problems(Operation.START, _tagged(leaving) if own_tag else leaving, region) == []
    elif not any(map(_is_ours, faults)):
        assert VALIDATOR.problems(Operation.START, _tagged(request) if own_tag else request, region), faults
    return not faults


def _is_ours(fault: Fault) -> bool:
    """Whether a fault is stricter than the service on purpose: our own tags' prefix."""
    return repr(OWN_PREFIX) in fault.wrong


@known_examples
@given(REQUESTS, CIRCUMSTANCES)
@settings(max_examples=examples(500), suppress_health_check=[HealthCheck.too_slow])
def test_what_passes_is_accepted_and_what_the_sandbox_refuses_is_refused(
    request: dict[str, Any], circumstances: tuple[str | None, bool]
) -> None:
    """And validation costs nobody a request that the service would take."""
    assert_alike(request, circumstances)


@given(JSON_VALUES)
def test_the_sandbox_refuses_what_is_no_request(value: Any) -> None:  # noqa: ANN401 (JSON)
    """Not even the outermost object may be taken for granted."""
    assert VALIDATOR.problems(Operation.START, value)


@pytest.mark.parametrize(("path", "shape"), PLACES, ids=[".".join(map(str, path)) for path, _ in PLACES])
def test_each_member_is_judged_alike(path: tuple[str | int, ...], shape: Shape) -> None:
    """Around the bounds of one member at a time. Both verdicts must come up: agreement would prove little without."""
    verdicts = set()

    @given(st.data())
    @settings(max_examples=examples(120), database=None, derandomize=True)
    def judge(data: st.DataObject) -> None:
        request = json.loads(json.dumps(WHOLE))
        node: Any = request
        for step in path[:-1]:
            node = node[step]
        node[path[-1]] = data.draw(_near(shape, path, node[path[-1]]))
        verdicts.add(assert_alike(request, (REGION, True)))

    judge()
    assert verdicts == {True, False}


class Service:
    """The sandbox behind both of its doors: calls in memory, and rest-json without a web server."""

    def __init__(self) -> None:
        service = SandboxService(
            SandboxSettings(per_membership=0, per_account=0, starts_per_second=0), lambda: 1_800_000_000.0
        )
        self.in_memory = MemoryCleanRooms(service)
        self._exchange = Exchange(service, Faults())

    def start(self, job: Job) -> HttpAnswer:
        """Put a job on the wire as botocore would, and let the sandbox judge it."""
        operation = _model().operation_model(Operation.START)
        wire = create_serializer("rest-json").serialize_to_request(_tagged(dict(job.request)), operation)
        prepare_request_dict(wire, endpoint_url="http://localhost")
        return self._exchange.answer(Call(method=wire["method"], path=wire["url_path"], body=wire["body"]))


@cache
def _model() -> ServiceModel:
    return ServiceModel(Loader().load_service_model("cleanroomsml", "service-2"))


def _assert_accepted(data: bytes, manifest_format: str) -> int:
    """Submit every row of a manifest that the inventory lets pass; returns their number."""
    spooled = ManifestFile(label="m", format=manifest_format, sha256="", file=io.BytesIO(data))  # type: ignore[arg-type]
    reader = open_reader(spooled, defaults={}, checker=CHECKERS[None, True])
    index = take_inventory(reader, Terms(allow_duplicates=True)).index
    service = Service()
    for number in range(len(index)):
        job = index.job(number, batch="")
        assert job is not None
        assert isinstance(asyncio.run(service.in_memory.start(job)), Accepted)
        answer = service.start(job)
        assert (answer.status_code, answer.error_code) == (200, None), answer.body
    return len(index)


@given(csv_manifests())
@settings(max_examples=examples(50))
def test_every_row_of_a_good_csv_manifest_is_accepted(manifest: CsvManifest) -> None:
    """From the file's bytes, through inventory and index, to an ARN."""
    assert _assert_accepted(manifest.data, "csv")


@given(st.lists(ODD_REQUESTS, min_size=1, max_size=3), st.booleans())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_every_good_row_of_any_jsonl_manifest_is_accepted(requests: list[dict[str, Any]], ascii_only: bool) -> None:
    """Whatever stands beside it."""
    text = "\n".join(json.dumps(request, ensure_ascii=ascii_only) for request in requests)
    _assert_accepted(text.encode(errors="surrogatepass"), "jsonl")
