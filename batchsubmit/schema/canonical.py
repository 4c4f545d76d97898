"""One spelling for equal requests, from which a job's key is derived."""

from collections.abc import Mapping
from typing import Any

import msgspec


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
