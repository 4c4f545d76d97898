"""Which part of an ill-formed ARN is wrong: a pattern of 150 characters tells nobody. Pure."""

import re
from collections.abc import Sequence

from batchsubmit.schema.faults import shown

_PARTS = ("prefix", "partition", "service", "region", "account", "resource")
_IN_RESOURCE = ("resource type", "membership id", "resource type in the membership", "name or id")


def arn_mend(pattern: str, value: str) -> str:
    """Name the first part that departs from the pattern; empty where none does by itself."""
    wanted, given = pattern.split(":", len(_PARTS) - 1), value.split(":", len(_PARTS) - 1)
    if len(wanted) != len(_PARTS):
        return ""
    if len(given) != len(_PARTS):
        return "an ARN has six parts between colons, arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE"
    wrong = _first_wrong(_PARTS[:-1], wanted, given)
    if wrong:
        return wrong
    wanted, given = (text.split("/", len(_IN_RESOURCE) - 1) for text in (wanted[-1], given[-1]))
    if len(wanted) != len(_IN_RESOURCE):
        return ""
    if len(given) != len(_IN_RESOURCE):
        return f"its resource must be as in membership/ID/{wanted[2]}/NAME"
    return _first_wrong(_IN_RESOURCE, wanted, given)


def _first_wrong(names: Sequence[str], wanted: Sequence[str], given: Sequence[str]) -> str:
    for name, want, have in zip(names, wanted, given, strict=False):
        if not re.fullmatch(want, have, re.ASCII):
            is_word = re.fullmatch(r"[a-z-]+", want)
            return f"its {name}, {shown(have)}, must {'be' if is_word else 'match'} {want}"
    return ""
