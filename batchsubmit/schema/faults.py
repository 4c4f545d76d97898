"""What is wrong with a request, in words for the person who wrote it."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from batchsubmit import text

_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong with one member: where, what it is, and what would be right."""

    path: str
    wrong: str
    right: str

    def __str__(self) -> str:
        subject = f"{self.path}: " if self.path else ""
        return f"{subject}{self.wrong}; {self.right}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem(Fault):
    """One thing wrong in a manifest, and how to fix it; or something allowed that may be a mistake.

    `line` counts from 1 and is where the row begins. `column` is the ordinal of the CSV field; in JSONL it is 1, or
    the character at which the JSON is broken. `path` is the request's member, or empty. `character` is where the field
    begins in its line, 0 where that is not known. Of `count` rows that have it, it is shown at the first.
    """

    label: str
    line: int
    column: int
    character: int = 0
    count: int = 1

    @classmethod
    def of(cls, fault: Fault, *, label: str, line: int, column: int, character: int = 0) -> "Problem":
        """Give a fault its place in the manifest."""
        place = {"line": line, "column": column, "character": character}
        return cls(path=fault.path, wrong=fault.wrong, right=fault.right, label=label, **place)

    def __str__(self) -> str:
        rows = f" ({self.count:,} rows)" if self.count > 1 else ""
        return f"{self.label}:{self.line}:{self.column}: {Fault.__str__(self)}{rows}"

    def located(self) -> str:
        """Say it with the character beside the field's name."""
        where = f" (character {self.character:,})" if self.path and self.character > 1 else ""
        return str(replace(self, path=f"{self.path}{where}"))


def below(name: str, faults: Iterable[Fault]) -> Iterator[Fault]:
    """Turn the faults of a member into faults of what holds it."""
    step = shown_path(name)
    return (replace(fault, path=f"{step}.{fault.path}" if fault.path else step) for fault in faults)


def shown_path(name: str) -> str:
    """Make a name safe and short for a message: a key may hold anything."""
    return _shortened(text.printable(name))


def shown(value: str) -> str:
    """Quote a text for a message: in full when short, else its beginning."""
    return _shortened(text.quoted(value))


def described(value: object) -> str:
    """Say what a JSON value is, without quoting it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    kinds = ((int | float, "a number"), (str, "text"), (list | tuple, "a list"))
    return next((words for kind, words in kinds if isinstance(value, kind)), "an object")


def _shortened(long: str) -> str:
    return long if len(long) <= _SHOWN_CHARACTERS else f"{long[: _SHOWN_CHARACTERS - 1]}…"


def listed(words: Iterable[str]) -> str:
    """Join words: 'a', 'a or b', 'a, b or c'."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def spoken(member: str) -> str:
    """Spell a member's name as words with an article: `instanceType` is 'an instance type'."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", member).lower()
    return f"{'an' if words[:1] in 'aeiou' else 'a'} {words}"


def ranged(least: int | None, most: int | None) -> str:
    """Put two bounds in words: '1 to 10', 'exactly 36', 'at most 256', or nothing."""
    if most is None:
        return f"at least {least:,}" if least else ""
    if least == most:
        return f"exactly {most:,}"
    return f"{least:,} to {most:,}" if least else f"at most {most:,}"
