"""The rules for tags that the service model does not state. It must not know what is tagged."""

from collections.abc import Iterable, Mapping
from typing import Final

from batchsubmit.sandbox.refusals import problem

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
