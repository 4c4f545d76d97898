"""The sandbox's own check of requests, read from the service model that botocore ships.

It is written apart from batchsubmit's validation and must not know it: two readings of one model that
disagree show a mistake in one of them. It is as strict as AWS, and stricter where AWS would pass over what it
does not know.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from typing import Any, Final, TypeAlias

from botocore.loaders import Loader

from batchsubmit.sandbox.refusals import Operation, invalid, problem

_EVERY_ASTRAL: Final = "\\U00010000-\\U0010FFFF"
_ASTRAL_SPELLINGS: Final = re.compile(r"\\uD800\\uDBFF-\\uDC00\\uDFFF|\\uD800\\uDC00-\\uDBFF\\uDFFF")
_UNREAD: Final = re.compile(r"\\u[dD][89a-fA-F]|\\[pPQEhHRXGZzABebk]|\[(?:\\.|[^]\\])*(?:\[|&&)")
_TOKEN: Final = re.compile(r"\\.|\[(?:\\.|[^]\\])*\]|\.|\$", re.DOTALL)
_LINE_ENDS: Final = r"\n\r\x85\u2028\u2029"
_OF_JAVA: Final = {".": f"[^{_LINE_ENDS}]", "$": r"(?=(?:\r\n|(?<!\r)\n|[\r\x85\u2028\u2029])?\Z)"}


@lru_cache(maxsize=256)
def compiled(java: str) -> re.Pattern[str]:
    """Return a pattern of the model, to be used with `fullmatch`; `ValueError` if this cannot read it."""
    spelled = _ASTRAL_SPELLINGS.sub(lambda _: _EVERY_ASTRAL, java)
    if unread := _UNREAD.search(spelled):
        raise ValueError(f"cannot read {unread[0]} in the pattern {java}")
    return re.compile(_TOKEN.sub(lambda token: _OF_JAVA.get(token[0], token[0]), spelled), re.ASCII)


MOST_TAGS: Final = 50
_RESERVED: Final = "aws:"
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_NOT_NULL: Final = "Member must not be null"
_KINDS: Final[Mapping[str, tuple[type, str]]] = {
    "structure": (dict, "an object"),
    "map": (dict, "an object"),
    "list": (list, "a list"),
    "string": (str, "a string"),
    "integer": (int, "an integer"),
}

Shape: TypeAlias = Mapping[str, Any]


class RequestValidator:
    """Checks the requests of all operations against the service model."""

    def __init__(self) -> None:
        models = [Loader().load_service_model(name, "service-2") for name in ("cleanrooms", "cleanroomsml")]
        # The shapes of the one operation of the former have no namesakes in the latter that differ.
        self.shapes: Mapping[str, Shape] = models[0]["shapes"] | models[1]["shapes"]
        operations = models[0]["operations"] | models[1]["operations"]
        self.operations: Mapping[str, Shape] = {name: operations[name] for name in Operation}

    def problems(self, operation: str, request: object, region: str | None = None) -> list[str]:
        """Return everything wrong with a request; `region` is the one the call was signed for."""
        problems = list(self._problems(self.input_shape(operation), request, ""))
        if problems or not isinstance(request, dict):
            return problems
        if operation != Operation.START:
            return []
        return [*_arn_problems(request, region), *_tag_problems(request.get("tags") or {})]

    def require(self, operation: str, request: object, region: str | None = None) -> None:
        """Raise the refusal of a request that is wrong."""
        if problems := self.problems(operation, request, region):
            raise invalid(*problems)

    def input_shape(self, operation: str) -> Shape:
        """Return the shape of an operation's request, as the model has it."""
        shape: Shape = self.shapes[self.operations[operation]["input"]["shape"]]
        return shape

    def _problems(self, shape: Shape, value: object, where: str) -> Iterator[str]:
        of_python, spoken = _KINDS[shape["type"]]
        if not isinstance(value, of_python) or isinstance(value, bool):
            yield problem(where, f"Member must be {spoken}")
        elif isinstance(value, str):
            yield from _string(shape, value, where)
        elif isinstance(value, int):
            yield from _bounds(shape, value, where, "value")
        elif isinstance(value, list):
            yield from _bounds(shape, len(value), where, "length")
            for position, item in enumerate(value, 1):
                yield from self._item(shape["member"], item, _at(where, f"{position}.member"))
        elif isinstance(value, dict):
            yield from (self._structure if shape["type"] == "structure" else self._map)(shape, value, where)

    def _structure(self, shape: Shape, value: dict[str, object], where: str) -> Iterator[str]:
        for name in shape.get("required", ()):
            if value.get(name) is None:
                yield problem(_at(where, name), _NOT_NULL)
        for name, item in value.items():
            if name not in shape["members"]:
                yield problem(_at(where, name), "Member is not known")
            elif item is not None:  # AWS reads a null member as an absent one
                yield from self._item(shape["members"][name], item, _at(where, name))

    def _map(self, shape: Shape, value: dict[str, object], where: str) -> Iterator[str]:
        yield from _bounds(shape, len(value), where, "length")
        for key, item in value.items():
            yield from self._item(shape["key"], key, _at(where, "key"))
            yield from self._item(shape["value"], item, _at(where, "value"))

    def _item(self, reference: Shape, item: object, where: str) -> Iterator[str]:
        if item is None:
            yield problem(where, _NOT_NULL)
        else:
            yield from self._problems(self.shapes[reference["shape"]], item, where)


def _string(shape: Shape, value: str, where: str) -> Iterator[str]:
    if not value.isascii() and _LONE_SURROGATE.search(value):
        yield problem(where, "Member must be valid Unicode")
        return
    yield from _bounds(shape, len(value), where, "length")
    if "pattern" in shape and not compiled(shape["pattern"]).fullmatch(value):
        yield problem(where, f"Member must satisfy regular expression pattern: {shape['pattern']}")
    if "enum" in shape and value not in shape["enum"]:
        yield problem(where, f"Member must satisfy enum value set: [{', '.join(shape['enum'])}]")


def _bounds(shape: Shape, number: int, where: str, what: str) -> Iterator[str]:
    if number < shape.get("min", number):
        yield problem(where, f"Member must have {what} greater than or equal to {shape['min']}")
    if number > shape.get("max", number):
        yield problem(where, f"Member must have {what} less than or equal to {shape['max']}")


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _tag_problems(tags: Iterable[str]) -> list[str]:
    """Return what is wrong with the keys of a resource's tags, as AWS documents it."""
    keys = list(tags)
    problems = [
        problem("tags", f"Tag key {key!r} must not begin with 'aws:' in any case")
        for key in keys
        if key[: len(_RESERVED)].lower() == _RESERVED
    ]
    if len(keys) - len(problems) > MOST_TAGS:
        problems.append(problem("tags", f"A resource must have at most {MOST_TAGS} tags"))
    return problems


def _arn_problems(request: Mapping[str, Any], signed_for: str | None) -> list[str]:
    """Hold the ARNs of a Start against the region the call was signed for, else against the model's."""
    model: str = request["trainedModelArn"]
    arns = {
        "trainedModelArn": model,
        "configuredModelAlgorithmAssociationArn": request.get("configuredModelAlgorithmAssociationArn"),
        "dataSource.mlInputChannelArn": request["dataSource"]["mlInputChannelArn"],
        "kmsKeyArn": request.get("kmsKeyArn"),
    }
    _, partition, _, region, _ = model.split(":", 4)
    partition = (signed_for and _partition_of(signed_for)) or partition
    expected = {1: ("Partition", partition), 3: ("Region", signed_for or region)}
    return [
        problem(where, f"{what} in the ARN must be {right}")
        for part, (what, right) in expected.items()
        for where, arn in arns.items()
        if arn is not None and arn.split(":")[part] != right
    ]


@cache
def _partition_of(region: str) -> str | None:
    """Find a region's partition among those that botocore ships."""
    partitions = Loader().load_data("partitions")["partitions"]
    return next((each["id"] for each in partitions if re.match(each["regionRegex"], region)), None)
