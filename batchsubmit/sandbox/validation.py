"""The sandbox's own reading and check of requests, by the service model that botocore ships.

It is written apart from batchsubmit's validation and must not know it: two readings of one model that
disagree show a mistake in one of them. It is as strict as AWS, and stricter where AWS would pass over what it
does not know.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NoReturn, TypeAlias
from urllib.parse import parse_qsl, unquote

from botocore.loaders import Loader

from batchsubmit.sandbox.refusals import Operation, Refusal, invalid, problem

_LOADER: Final = Loader()
"""It keeps what it has read."""
_MOST_TAGS: Final = 50
_LABEL: Final = re.compile(r"\{(\w+)\}")
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")
_CREDENTIAL_REGION: Final = re.compile(r"Credential=[^/,\s]+/[0-9]{8}/([^/,\s]+)/")
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_KINDS: Final[Mapping[str, tuple[type, str]]] = {
    "structure": (dict, "an object"),
    "map": (dict, "an object"),
    "list": (list, "a list"),
    "string": (str, "a string"),
    "integer": (int, "an integer"),
}

_EVERY_ASTRAL: Final = "\\U00010000-\\U0010FFFF"
_ASTRAL_SPELLINGS: Final = re.compile(r"\\uD800\\uDBFF-\\uDC00\\uDFFF|\\uD800\\uDC00-\\uDBFF\\uDFFF")
_UNREAD: Final = re.compile(r"\\u[dD][89a-fA-F]|\\[pPQEhHRXGZzABebk]|\[(?:\\.|[^]\\])*(?:\[|&&)")
_TOKEN: Final = re.compile(r"\\.|\[(?:\\.|[^]\\])*\]|\.|\$", re.DOTALL)
_LINE_ENDS: Final = r"\n\r\x85\u2028\u2029"
_OF_JAVA: Final = {".": f"[^{_LINE_ENDS}]", "$": r"(?=(?:\r\n|(?<!\r)\n|[\r\x85\u2028\u2029])?\Z)"}

_Shape: TypeAlias = Mapping[str, Any]


@cache
def compiled(java: str) -> re.Pattern[str]:
    """Return a pattern of the model, to be used with `fullmatch`; `ValueError` if this cannot read it."""
    spelled = _ASTRAL_SPELLINGS.sub(lambda _: _EVERY_ASTRAL, java)
    if unread := _UNREAD.search(spelled):
        raise ValueError(f"cannot read {unread[0]} in the pattern {java}")
    return re.compile(_TOKEN.sub(lambda token: _OF_JAVA.get(token[0], token[0]), spelled), re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One HTTP request. `path` is raw; `query` is what stands behind its question mark."""

    method: str
    path: str
    query: str = ""
    authorization: str = ""
    body: bytes = b""

    @property
    def region(self) -> str | None:
        """The region the call was signed for, if it was signed."""
        found = _CREDENTIAL_REGION.search(self.authorization)
        return found[1] if found else None


class RequestValidator:
    """Reads the requests of all operations, and checks them against the service model.

    Paths are matched as they came, still percent-encoded: an ARN is one segment, its slashes as %2F.
    """

    def __init__(self) -> None:
        models = [_LOADER.load_service_model(name, "service-2") for name in ("cleanrooms", "cleanroomsml")]
        # The shapes of the one operation of the former have no namesakes in the latter that differ.
        self.shapes: Mapping[str, _Shape] = models[0]["shapes"] | models[1]["shapes"]
        operations = models[0]["operations"] | models[1]["operations"]
        self._inputs: Mapping[str, _Shape] = {name: operations[name]["input"] for name in Operation}
        https = {name: operations[name]["http"] for name in Operation}
        self._paths = {
            (name, http["method"]): re.compile(_LABEL.sub(r"(?P<\1>[^/]+)", http["requestUri"]))
            for name, http in https.items()
        }

    def read(self, call: Call) -> tuple[str, dict[str, Any]]:
        """Return a call's operation and members, unchecked; raises `Refusal` where it cannot be read."""
        for (operation, method), path in self._paths.items():
            labels = path.fullmatch(call.path)
            if labels and method == call.method:
                return operation, self._members(operation, labels.groupdict(), call)
        raise Refusal("UnknownOperationException", f"There is no {call.method} {call.path}.")

    def _members(self, operation: str, labels: Mapping[str, str], call: Call) -> dict[str, Any]:
        try:
            body = json.loads((call.body or b"{}").decode(), parse_constant=_no_constant)
            in_path = {name: unquote(value, errors="strict") for name, value in labels.items()}
            in_query = parse_qsl(call.query, keep_blank_values=True, errors="strict")
        except (ValueError, RecursionError):
            raise Refusal("SerializationException", "The URI is not UTF-8, or the body is no JSON in it.") from None
        if not isinstance(body, dict):
            raise Refusal("SerializationException", "The body is not a JSON object.")
        members = body | dict(in_query) | in_path
        refs = self.shapes[self._inputs[operation]["shape"]]["members"].values()
        kinds = {ref.get("locationName"): self.shapes[ref["shape"]]["type"] for ref in refs}
        for name, value in in_query:
            if name.startswith("X-Amz-"):  # a part of the signature
                del members[name]
            elif kinds.get(name) == "integer" and _INTEGER.fullmatch(value):
                members[name] = int(value)
        return members

    def problems(self, operation: str, request: object, region: str | None = None) -> list[str]:
        """Return everything wrong with a request; `region` is the one the call was signed for."""
        problems = list(self._problems(self._inputs[operation], request, ""))
        if operation == Operation.START and isinstance(request, dict) and not problems:
            problems += _arn_problems(request, region) + _tag_problems(request.get("tags") or {})
        return problems

    def require(self, operation: str, request: object, region: str | None = None) -> None:
        """Raise the refusal of a request that is wrong."""
        if problems := self.problems(operation, request, region):
            raise invalid(*problems)

    def _problems(self, reference: _Shape | None, value: object, where: str) -> Iterator[str]:
        if reference is None:
            yield problem(where, "Member is not known")
            return
        shape = self.shapes[reference["shape"]]
        of_python, spoken = _KINDS[shape["type"]]
        if value is None:
            yield problem(where, "Member must not be null")
        elif not isinstance(value, of_python) or isinstance(value, bool):
            yield problem(where, f"Member must be {spoken}")
        else:
            yield from (problem(where, broken) for broken in _broken(shape, value))
            for part, item, name in _parts(shape, value):
                yield from self._problems(part, item, f"{where}.{name}" if where else name)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _broken(shape: _Shape, value: Any) -> Iterator[str]:  # noqa: ANN401 (of the shape's type)
    """Say which constraints a value breaks."""
    number, what = (value, "value") if isinstance(value, int) else (len(value), "length")
    if number < shape.get("min", number):
        yield f"Member must have {what} greater than or equal to {shape['min']}"
    if number > shape.get("max", number):
        yield f"Member must have {what} less than or equal to {shape['max']}"
    if isinstance(value, str) and _LONE_SURROGATE.search(value):
        yield "Member must be valid Unicode"
    if "pattern" in shape and not compiled(shape["pattern"]).fullmatch(value):
        yield f"Member must satisfy regular expression pattern: {shape['pattern']}"
    if "enum" in shape and value not in shape["enum"]:
        yield f"Member must satisfy enum value set: [{', '.join(shape['enum'])}]"


def _parts(shape: _Shape, value: object) -> Iterator[tuple[_Shape | None, object, str]]:
    """Give what a value is made of: the shape of each part, if it is known, the part, and its name."""
    match value, shape["type"]:
        case list(), _:
            yield from ((shape["member"], item, f"{position}.member") for position, item in enumerate(value, 1))
        case dict(), "map":
            for key, item in value.items():
                yield shape["key"], key, "key"
                yield shape["value"], item, "value"
        case dict(), _:
            known, required = shape["members"], shape.get("required", ())
            for name in dict.fromkeys([*required, *value]):
                # AWS reads a null member as an absent one.
                if value.get(name) is not None or name in required or name not in known:
                    yield known.get(name), value.get(name), name


def _tag_problems(tags: Mapping[str, str]) -> list[str]:
    """Return what is wrong with the keys of a resource's tags, as AWS documents it."""
    reserved = [key for key in tags if key.lower().startswith("aws:")]
    problems = [problem("tags", f"Tag key {key!r} must not begin with 'aws:' in any case") for key in reserved]
    if len(tags) - len(reserved) > _MOST_TAGS:
        problems.append(problem("tags", f"A resource must have at most {_MOST_TAGS} tags"))
    return problems


def _arn_problems(request: Mapping[str, Any], signed_for: str | None) -> list[str]:
    """Hold the ARNs of a Start against the region the call was signed for, else against the model's."""
    arns = {
        "trainedModelArn": request["trainedModelArn"],
        "configuredModelAlgorithmAssociationArn": request.get("configuredModelAlgorithmAssociationArn"),
        "dataSource.mlInputChannelArn": request["dataSource"]["mlInputChannelArn"],
        "kmsKeyArn": request.get("kmsKeyArn"),
    }
    _, partition, _, region, _ = request["trainedModelArn"].split(":", 4)
    expected = {1: ("Partition", _partition_of(signed_for) or partition), 3: ("Region", signed_for or region)}
    return [
        problem(where, f"{what} in the ARN must be {right}")
        for part, (what, right) in expected.items()
        for where, arn in arns.items()
        if arn is not None and arn.split(":")[part] != right
    ]


@cache
def _partition_of(region: str | None) -> str | None:
    """Find a region's partition among those that botocore ships."""
    partitions = _LOADER.load_data("partitions")["partitions"]
    return next((each["id"] for each in partitions if re.match(each["regionRegex"], region or "")), None)
