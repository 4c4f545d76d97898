"""The sandbox's own check of requests, read from the service model that botocore ships.

It is written apart from batchsubmit's validation and must not know it: two readings of one model that
disagree show a mistake in one of them. It is as strict as AWS, and stricter where AWS would pass over what it
does not know.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from typing import Any, Final, TypeAlias

from botocore.loaders import Loader

from batchsubmit.sandbox.refusals import OPERATIONS, START, TAG, invalid, problem

_ASTRAL: Final = "\\U00010000-\\U0010FFFF"
_ASTRAL_SPELLINGS: Final = re.compile(r"\\uD800\\uDBFF-\\uDC00\\uDFFF|\\uD800\\uDC00-\\uDBFF\\uDFFF", re.IGNORECASE)
_SURROGATE_PAIR: Final = re.compile(r"\\u(D[89AB][0-9A-F]{2})\\u(D[C-F][0-9A-F]{2})", re.IGNORECASE)
_SPELLED_SURROGATE: Final = re.compile(r"\\uD[89A-F][0-9A-F]{2}", re.IGNORECASE)
_TOKEN: Final = re.compile(r"\\.|&&|.", re.DOTALL)
_LINE_ENDS: Final = r"\n\r\x85\u2028\u2029"
_NOT_A_LINE_END: Final = f"[^{_LINE_ENDS}]"
_END: Final = r"(?=(?:\r\n|(?<!\r)\n|[\r\x85\u2028\u2029])?\Z)"
_OTHER_IN_PYTHON: Final = frozenset(rf"\{letter}" for letter in "pPQEhHRXGZzABebk")


@lru_cache(maxsize=256)
def compiled(java: str) -> re.Pattern[str]:
    """Return a pattern of the model, to be used with `fullmatch`; `ValueError` if it is beyond us."""
    return re.compile(_translated(_code_points(java)), re.ASCII)


def _code_points(java: str) -> str:
    """Spell surrogate pairs as the characters they stand for."""
    spelled = _SURROGATE_PAIR.sub(_joined, _ASTRAL_SPELLINGS.sub(lambda _: _ASTRAL, java))
    if _SPELLED_SURROGATE.search(spelled):
        raise ValueError(f"lone surrogate in the pattern {java}")
    return spelled


def _joined(pair: re.Match[str]) -> str:
    high, low = (int(half, 16) for half in pair.groups())
    return f"\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08X}"


def _translated(java: str) -> str:
    python, in_class = [], False
    for piece in _TOKEN.findall(java):
        if piece in _OTHER_IN_PYTHON or (in_class and piece in ("[", "&&")):
            raise ValueError(f"cannot read {piece} in the pattern {java}")
        if not in_class and piece == ".":
            python.append(_NOT_A_LINE_END)
        elif not in_class and piece == "$":
            python.append(_END)
        else:
            python.append(piece)
        in_class = piece == "[" or (in_class and piece != "]")
    return "".join(python)


MOST_TAGS: Final = 50
_RESERVED: Final = "aws:"


def tag_problems(tags: Iterable[str]) -> list[str]:
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


def merged(tags: Mapping[str, str] | None, more: Mapping[str, str]) -> dict[str, str]:
    """Return the tags with more of them, the new value where a key was there already."""
    return {**(tags or {}), **more}


def without(tags: Mapping[str, str] | None, keys: Iterable[str]) -> dict[str, str]:
    """Return the tags without some keys; those that are not there do not matter."""
    gone = frozenset(keys)
    return {key: value for key, value in (tags or {}).items() if key not in gone}


def start_problems(request: Mapping[str, Any], region: str | None) -> list[str]:
    """Return the contradictions in a request; `region` is the one the call was signed for, if it was."""
    arns = _arns(request)
    return [
        *_partition_problems(arns | _kms_arn(request), region),
        *_region_problems(arns | _kms_arn(request), region),
        *tag_problems(request.get("tags") or {}),
    ]


def _arns(request: Mapping[str, Any]) -> dict[str, str]:
    arns = {
        "trainedModelArn": request["trainedModelArn"],
        "configuredModelAlgorithmAssociationArn": request.get("configuredModelAlgorithmAssociationArn"),
        "dataSource.mlInputChannelArn": request["dataSource"]["mlInputChannelArn"],
    }
    return {where: arn for where, arn in arns.items() if arn is not None}


def _kms_arn(request: Mapping[str, Any]) -> dict[str, str]:
    return {"kmsKeyArn": request["kmsKeyArn"]} if request.get("kmsKeyArn") is not None else {}


def _partition_problems(arns: Mapping[str, str], signed_for: str | None) -> list[str]:
    partition = (signed_for and _partition_of(signed_for)) or arns["trainedModelArn"].split(":")[1]
    return [
        problem(where, f"Partition in the ARN must be {partition}")
        for where, arn in arns.items()
        if arn.split(":")[1] != partition
    ]


@cache
def _partition_of(region: str) -> str | None:
    """Find a region's partition among those that botocore ships."""
    partitions = Loader().load_data("partitions")["partitions"]
    return next((each["id"] for each in partitions if re.match(each["regionRegex"], region)), None)


def _region_problems(arns: Mapping[str, str], signed_for: str | None) -> list[str]:
    region = signed_for or arns["trainedModelArn"].split(":")[3]
    return [
        problem(where, f"Region in the ARN must be {region}")
        for where, arn in arns.items()
        if arn.split(":")[3] != region
    ]


Check: TypeAlias = Callable[[object, str], list[str]]
"""Takes a value and where it stands, returns its problems."""
Shapes: TypeAlias = Mapping[str, Mapping[str, Any]]

_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_NOT_NULL: Final = "Member must not be null"


class Form:
    """The checks of all operations, compiled once."""

    def __init__(self) -> None:
        model = Loader().load_service_model("cleanroomsml", "service-2")
        self.shapes: Shapes = model["shapes"]
        self.operations: Mapping[str, Mapping[str, Any]] = {name: model["operations"][name] for name in OPERATIONS}
        self._checks = {
            name: _check_of(self.shapes, operation["input"]["shape"]) for name, operation in self.operations.items()
        }

    def input_members(self, operation: str) -> Mapping[str, Mapping[str, Any]]:
        """Return the members of an operation's request, as the model has them."""
        members: Mapping[str, Mapping[str, Any]] = self.shapes[self.operations[operation]["input"]["shape"]]["members"]
        return members

    def problems(self, operation: str, request: object, region: str | None = None) -> list[str]:
        """Return everything wrong with a request; `region` is the one the call was signed for."""
        problems = self._checks[operation](request, "")
        if problems or not isinstance(request, dict):
            return problems
        if operation == START:
            return start_problems(request, region)
        if operation == TAG:
            return tag_problems(request["tags"])
        return []

    def require(self, operation: str, request: object, region: str | None = None) -> None:
        """Raise the refusal of a request that is wrong."""
        if problems := self.problems(operation, request, region):
            raise invalid(*problems)


def _check_of(shapes: Shapes, name: str) -> Check:
    shape = shapes[name]
    match shape["type"]:
        case "structure":
            return _structure(
                shape, {member: _check_of(shapes, ref["shape"]) for member, ref in shape["members"].items()}
            )
        case "list":
            return _list(shape, _check_of(shapes, shape["member"]["shape"]))
        case "map":
            return _map(shape, _check_of(shapes, shape["key"]["shape"]), _check_of(shapes, shape["value"]["shape"]))
        case "string":
            return _string(shape)
        case "integer":
            return _integer(shape)
    raise ValueError(f"the sandbox cannot check {name}, of type {shape['type']}")


def _structure(shape: Mapping[str, Any], checks: Mapping[str, Check]) -> Check:
    required = tuple(shape.get("required", ()))

    def check(value: object, where: str) -> list[str]:
        if not isinstance(value, dict):
            return [problem(where, "Member must be an object")]
        problems = [problem(_at(where, name), _NOT_NULL) for name in required if value.get(name) is None]
        for name, item in value.items():
            if name not in checks:
                problems.append(problem(_at(where, name), "Member is not known"))
            elif item is not None:  # AWS reads a null member as an absent one
                problems += checks[name](item, _at(where, name))
        return problems

    return check


def _list(shape: Mapping[str, Any], check_item: Check) -> Check:
    check_length = _length(shape)

    def check(value: object, where: str) -> list[str]:
        if not isinstance(value, list):
            return [problem(where, "Member must be a list")]
        problems = check_length(len(value), where)
        for position, item in enumerate(value, 1):
            item_at = _at(where, f"{position}.member")
            problems += [problem(item_at, _NOT_NULL)] if item is None else check_item(item, item_at)
        return problems

    return check


def _map(shape: Mapping[str, Any], check_key: Check, check_value: Check) -> Check:
    check_length = _length(shape)

    def check(value: object, where: str) -> list[str]:
        if not isinstance(value, dict):
            return [problem(where, "Member must be an object")]
        problems = check_length(len(value), where)
        for key, item in value.items():
            problems += check_key(key, _at(where, "key"))
            item_at = _at(where, "value")
            problems += [problem(item_at, _NOT_NULL)] if item is None else check_value(item, item_at)
        return problems

    return check


def _string(shape: Mapping[str, Any]) -> Check:
    check_length = _length(shape)
    pattern = compiled(shape["pattern"]) if "pattern" in shape else None
    allowed = frozenset(shape.get("enum", ()))

    def check(value: object, where: str) -> list[str]:
        if not isinstance(value, str):
            return [problem(where, "Member must be a string")]
        if not value.isascii() and _LONE_SURROGATE.search(value):
            return [problem(where, "Member must be valid Unicode")]
        problems = check_length(len(value), where)
        if pattern and not pattern.fullmatch(value):
            problems.append(problem(where, f"Member must satisfy regular expression pattern: {shape['pattern']}"))
        if allowed and value not in allowed:
            problems.append(problem(where, f"Member must satisfy enum value set: {_in_brackets(shape['enum'])}"))
        return problems

    return check


def _integer(shape: Mapping[str, Any]) -> Check:
    least, most = shape.get("min"), shape.get("max")

    def check(value: object, where: str) -> list[str]:
        if not isinstance(value, int) or isinstance(value, bool):
            return [problem(where, "Member must be an integer")]
        if least is not None and value < least:
            return [problem(where, f"Member must have value greater than or equal to {least}")]
        if most is not None and value > most:
            return [problem(where, f"Member must have value less than or equal to {most}")]
        return []

    return check


def _length(shape: Mapping[str, Any]) -> Callable[[int, str], list[str]]:
    least, most = shape.get("min", 0), shape.get("max")

    def check(length: int, where: str) -> list[str]:
        if length < least:
            return [problem(where, f"Member must have length greater than or equal to {least}")]
        if most is not None and length > most:
            return [problem(where, f"Member must have length less than or equal to {most}")]
        return []

    return check


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _in_brackets(values: Iterable[str]) -> str:
    return f"[{', '.join(values)}]"
