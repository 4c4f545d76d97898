"""JSON as a request's text must be: no duplicate keys, no NaN, no halves of characters, each a clear error.

The standard library's parser, since msgspec keeps the last of two equal keys without a word.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


class JsonError(ValueError):
    """The text is no JSON, or JSON of more than one meaning. `column` counts characters from 1."""

    def __init__(self, column: int, wrong: str, right: str) -> None:
        super().__init__(f"character {column}: {wrong}; {right}")
        self.column = column
        self.wrong = wrong
        self.right = right


class _RefusedError(Exception):
    """What is wrong, what would be right, the pattern of its text, and at which of its places it is."""


def read_json(text: str) -> Any:  # noqa: ANN401 - that is what JSON is
    """Parse strictly. Raises `JsonError`."""
    try:
        value = _DECODER.decode(text.removeprefix("\ufeff"))  # a byte-order mark says nothing, wherever it stands
    except json.JSONDecodeError as exc:
        reason = exc.msg[:1].lower() + exc.msg[1:].removesuffix(":")
        raise JsonError(exc.pos + 1, f"is not JSON: {reason}", "correct it there") from exc
    except _RefusedError as exc:
        wrong, right, spelled, number = exc.args
        places = [found.start() for found in re.finditer(spelled, text)]  # exact where it is spelled plainly
        raise JsonError(places[number] + 1 if len(places) > number else 1, wrong, right) from exc
    except RecursionError as exc:
        raise JsonError(1, "is nested too deeply", "a request has four levels at most") from exc
    except ValueError as exc:  # Python refuses to read a number of more than 4,300 digits
        raise JsonError(1, "holds a number that is too long", "write a shorter one") from exc
    for escape in _ESCAPE.finditer(text) if "\\u" in text else ():
        if escape["half"]:
            raise JsonError(escape.start() + 1, "holds half of a surrogate pair", "write the whole character")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        count = Counter(key for key, _ in pairs)
        key = json.dumps(next(key for key, _ in pairs if count[key] > 1))
        wrong = f"the key {key} stands twice in one object"
        raise _RefusedError(wrong, "keep one of them", rf"{re.escape(key)}\s*:", 1)
    return unique


def _refuse_constant(name: str) -> NoReturn:
    raise _RefusedError(f"{name} is not JSON", "write a number, or leave it out", re.escape(name), 0)


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)


def canonical(request: Mapping[str, Any]) -> bytes:
    """Spell a request as JSON: sorted keys, no white space, UTF-8. Its nulls are dropped already."""
    return msgspec.json.encode(request, order="sorted")


def without_nulls(request: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the null members of a valid request, which count as absent; lists and maps have none."""
    return {name: _without_nulls(value) for name, value in request.items() if value is not None}


def _without_nulls(value: object) -> object:
    match value:
        case Mapping():
            return without_nulls(value)
        case list():
            return [_without_nulls(item) for item in value]
    return value
