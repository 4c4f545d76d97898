r"""Java's regular expressions, spelled so that Python and ECMA-262 (with its `u` flag) read the same thing.

The service model's patterns are Java's. The differences that matter: a pair of surrogate escapes is one astral
character; `\s`, `\d` and `\w` are ASCII; `.` stops at five line terminators; and `$` also holds before a final one of
those. One spelling serves both readers, because the manifest is checked in Python and the published JSON Schema by
whatever the reader uses.
"""

import re
from collections.abc import Callable
from functools import cache

END = r"(?![\s\S])"  # `$` and `\Z` mean different things in the two languages, this does not
_BEFORE_FINAL_TERMINATOR = rf"(?=(?:\r\n|[\r\u0085\u2028\u2029]){END}|(?<!\r)\n{END}|{END})"
_ANYTHING = r"[\s\S]*"

# AWS also spells "every astral character" with the halves in the wrong order; read literally it would be a few lone
# surrogates, which no text can hold.
_EVERY_ASTRAL = re.compile(r"\\uD800\\u(?:DBFF-\\uDC00|DC00-\\uDBFF)\\uDFFF")
_SETS = {r"\s": r"\t-\r ", r"\d": "0-9", r"\w": "A-Za-z0-9_"}
_MEANINGS = {
    ".": r"[^\n\r\u0085\u2028\u2029]",
    "$": _BEFORE_FINAL_TERMINATOR,
    **{escape: f"[{held}]" for escape, held in _SETS.items()},
    **{escape.upper(): f"[^{held}]" for escape, held in _SETS.items()},
}
_MEANINGS_IN_CLASS = {**_SETS, r"\-": r"\-"}
_ESCAPE = r"\\(?:u[dD][89a-fA-F]|x\{|.)"
_CLASS = re.compile(r"\[(?:\\.|[^]\\])*\]")
_TOKEN = re.compile(rf"{_CLASS.pattern}|{_ESCAPE}|\(\?(?:<?[=!]|:)?|[*+?}}]\+|[.$]")
_TOKEN_IN_CLASS = re.compile(rf"{_ESCAPE}|\[|&&")
_THE_SAME = re.compile(r"\\[tnrfux^$\\.*+?()[\]{}|/]|\(\?(?:<?[=!]|:)|\[\\(?:s\\S|S\\s)\]")


@cache
def matcher(java: str | None) -> Callable[[str], object]:
    """Make a function that is true for a text that matches a pattern as a whole, as every text does an unknown one."""
    return re.compile(portable(java) or _ANYTHING).fullmatch


def portable(java: str | None) -> str:
    """Spell a Java pattern so that Python's `re` and ECMA-262 with the `u` flag agree with Java.

    Matches are not anchored here: Java's `matches()` is `fullmatch` in Python and `^(?:…)$` in ECMA-262. Empty where
    any text matches, and where the pattern has a construct that is not known here, such as one of a later botocore.
    """
    if not java or java in {_ANYTHING, r"[\S\s]*"}:
        return ""
    try:
        return _TOKEN.sub(_spelled, _EVERY_ASTRAL.sub("\U00010000-\U0010ffff", java))
    except ValueError:
        return ""


def _spelled(token: re.Match[str], known: dict[str, str] = _MEANINGS) -> str:
    text = token[0]
    if text in known or _THE_SAME.fullmatch(text):
        return known.get(text, text)
    if _CLASS.fullmatch(text):
        return "[" + _TOKEN_IN_CLASS.sub(lambda inside: _spelled(inside, _MEANINGS_IN_CLASS), text[1:])
    if text[0] == "\\" and not text[1].isalnum():
        return text[1]  # ECMA-262 refuses an escape without need
    raise ValueError(f"{text} is not known here, and not guessed")
