"""The check of a whole request: the model's rules, the rules of tags, and what the ARNs say."""

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import msgspec

from batchsubmit.schema.arns import ArnCheck
from batchsubmit.schema.checks import (
    MISSING,
    Check,
    compile_check,
    compile_map,
    compile_structure,
    compile_text,
)
from batchsubmit.schema.faults import Fault
from batchsubmit.schema.model import MapOf, request_shape
from batchsubmit.schema.types import TAGS, recurring_texts, request_type

# The rules of tags stand in the model only as prose, in the documentation of the `tags` member: "Maximum number of
# tags per resource - 50"; "Do not use aws:, AWS:, or any upper or lowercase combination of such as a prefix for
# keys"; "Tags with only the key prefix of aws do not count against your tags per resource limit". The model's own
# maximum, 200, leaves room for those.
MOST_TAGS = 50
AWS_PREFIX = "aws:"
OWN_PREFIX = "batchsubmit:"
OWN_TAG = "batchsubmit:key"
_RESERVED_TAG_KEYS = f"[aA][wW][sS]:|{OWN_PREFIX}"
_REMEMBERED_TEXTS = 4096

_encode = msgspec.json.Encoder(order="deterministic").encode


class RequestChecker:
    """Finds every fault of a request. That there is none is tested quickly, by the types of `structs`.

    `region` is the client's, when known. `own_tag`: the job will also carry our own tag, which takes one of the 50.
    Not for several threads at once: it remembers what it has found good.
    """

    def __init__(self, *, region: str | None = None, own_tag: bool = True) -> None:
        shape = request_shape()
        checks = {name: compile_check(member, name) for name, member in shape.members.items()}
        if isinstance(tags := shape.members.get(TAGS), MapOf):
            checks[TAGS] = _compile_tags(tags, own_tag=own_tag)
        self._structure = compile_structure(shape, checks)
        self._arns = ArnCheck(shape, region)
        self._type = request_type(MOST_TAGS - own_tag, _RESERVED_TAG_KEYS)
        self._recurring = attrgetter(*recurring_texts())
        self._recurring_checks = [compile_text(text, path) for path, text in recurring_texts().items()]
        self._good_texts: set[tuple[str | None, ...]] = set()

    def check(self, request: Mapping[str, Any]) -> list[Fault]:
        """Every fault of the request; an empty list means that it is valid."""
        return [] if self.spelled(request) is not None else self.explain(request)

    def spelled(self, request: Mapping[str, Any]) -> bytes | None:
        """Give the canonical spelling of a good request, without its nulls; None where something is wrong."""
        try:
            typed = msgspec.convert(request, self._type)
            spelled = _encode(typed)
        except (msgspec.ValidationError, UnicodeEncodeError):  # the latter where a text holds half a character
            return None
        texts = self._recurring(typed)
        if texts not in self._good_texts:
            pairs = zip(self._recurring_checks, texts, strict=True)
            if any(text is not None and check(text) for check, text in pairs) or self._arns(request):
                return None
            if len(self._good_texts) >= _REMEMBERED_TEXTS:
                self._good_texts.clear()
            self._good_texts.add(texts)
        return spelled

    def explain(self, request: Mapping[str, Any]) -> list[Fault]:
        """Give the same without the quick test."""
        faults = self._structure(request)
        if isinstance(request, Mapping):
            faults += self._arns(request)
        return list(faults)

    def check_part(self, part: Mapping[str, Any]) -> list[Fault]:
        """Find the faults of some members of a request, whatever else it still lacks."""
        return [fault for fault in self._structure(part) if fault.wrong is not MISSING]


def _compile_tags(shape: MapOf, *, own_tag: bool) -> Check:
    most = MOST_TAGS - own_tag
    check_map = compile_map(shape, compile_text(shape.key, "key", rule=_reserved))
    right = f"at most {most} are possible" + (", for batchsubmit adds one to find its jobs again" if own_tag else "")

    def check(value: Any) -> tuple[Fault, ...]:  # noqa: ANN401 - a row may hold anything
        faults = check_map(value)
        if isinstance(value, Mapping) and len(value) > most:
            count = sum(not str(key).lower().startswith(AWS_PREFIX) for key in value)
            if count > most:
                faults += (Fault(path="", wrong=f"has {count:,} tags", right=right),)
        return faults

    return check


def _reserved(key: str) -> Fault | None:
    if key.lower().startswith(AWS_PREFIX):
        return Fault(path="", wrong=f"the prefix {key[:4]!r} is reserved for AWS", right="choose another key")
    if key.startswith(OWN_PREFIX):
        return Fault(path="", wrong=f"the prefix {OWN_PREFIX!r} is batchsubmit's own", right="choose another key")
    return None
