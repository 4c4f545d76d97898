"""Text for a person: made safe to show, numbers with their noun, the word that was probably meant. Pure."""

import difflib
from collections.abc import Iterable
from functools import lru_cache

_COMPARED_CHARACTERS = 80


def printable(text: str) -> str:
    """Put a text into one line, with nothing in it that a terminal would obey."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 job`, `1,200 jobs`; `plural` where an s is not enough: `2 retries`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def agreeing(number: int, one: str, many: str) -> str:
    """The word that agrees with a number: `was` or `were`."""
    return one if number == 1 else many


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Find the known word that was probably meant, if one is near: for "did you mean"."""
    return _nearest(word[:_COMPARED_CHARACTERS], tuple(known))


@lru_cache(maxsize=1024)  # the same mistake is mostly made in many rows, and a search takes a millisecond
def _nearest(word: str, known: tuple[str, ...]) -> str | None:
    folded = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(word.strip().casefold(), folded, n=1)
    return folded[near[0]] if near else None
