r"""Java's regular expressions, spelled so that Python and ECMA-262 (with its `u` flag) read the same thing.

The service model's patterns are Java's. The differences that matter: a pair of surrogate escapes is one astral
character; `\s`, `\d` and `\w` are ASCII; `.` stops at five line terminators; and `$` also holds before a final one of
those. One spelling serves both readers, because the manifest is checked in Python and the published JSON Schema by
whatever the reader uses. What no pattern of the model uses today (`\p{…}`, nested classes, possessive
quantifiers) is refused rather than guessed.
"""

import re
from collections.abc import Callable
from functools import cache

_TERMINATORS = r"\n\r\u0085\u2028\u2029"
END = r"(?![\s\S])"  # `$` and `\Z` mean different things in the two languages, this does not
_BEFORE_FINAL_TERMINATOR = rf"(?=(?:\r\n|[\r\u0085\u2028\u2029]){END}|(?<!\r)\n{END}|{END})"
_ANYTHING = r"[\s\S]*"
_EVERY_ASTRAL = "\U00010000-\U0010ffff"

_CLASSES = {
    "s": r"\t-\r ",
    "S": "\\x00-\\x08\\x0e-\\x1f!-\U0010ffff",
    "d": "0-9",
    "D": "\\x00-\\/:-\U0010ffff",
    "w": "A-Za-z0-9_",
    "W": "\\x00-\\/:-@\\[-\\^`\\{-\U0010ffff",
}
_CONTROLS = {"t": 0x09, "n": 0x0A, "r": 0x0D, "f": 0x0C, "a": 0x07, "e": 0x1B}
_PUNCTUATION = frozenset("^$\\.*+?()[]{}|/-")

_ODD_ASTRAL = re.compile(r"\\u[dD]800\\u[dD][bB][fF]{2}-\\u[dD][cC]00\\u[dD][fF]{3}")
_PAIR = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_ESCAPE = r"\\(?:u(?P<u>[0-9a-fA-F]{4})|x(?P<x>[0-9a-fA-F]{2})|x\{(?P<long>[0-9a-fA-F]{1,6})\}|(?P<escaped>[^uxQEpP]))"
_TERM = re.compile(
    rf"{_ESCAPE}|(?P<group>\((?:\?(?:[:=!]|<[=!]))?(?!\?))|(?P<times>(?:[*+?]|\{{\d+(?:,\d*)?\}})\??(?!\+))"
    r"|(?P<open>\[\^?)|(?P<one>[^\\(*+?{\[])",
    re.DOTALL,
)
_IN_CLASS = re.compile(rf"{_ESCAPE}|(?P<one>(?!&&)[^\\\[])", re.DOTALL)
_MEANINGS = {".": f"[^{_TERMINATORS}]", "$": _BEFORE_FINAL_TERMINATOR, "^": "^", "|": "|", ")": ")"}
_ANCHORS = {"z": END, "Z": _BEFORE_FINAL_TERMINATOR, "A": "^"}


class UntranslatablePatternError(ValueError):
    """The pattern uses a construct that this translation does not know."""


def matcher(java: str) -> Callable[[str], object]:
    """Make a function that is true for a text that matches as a whole. Raises `UntranslatablePatternError`."""
    return re.compile(portable(java)).fullmatch


@cache
def lenient_matcher(java: str | None) -> Callable[[str], object]:
    """Make the same for a pattern that may be absent, or unknown (a later botocore's): then every text matches."""
    try:
        return matcher(java or _ANYTHING)
    except UntranslatablePatternError:
        return matcher(_ANYTHING)


@cache
def portable(java: str) -> str:
    """Spell a Java pattern so that Python's `re` and ECMA-262 with the `u` flag agree with Java.

    Matches are not anchored here: Java's `matches()` is `fullmatch` in Python and `^(?:…)$` in ECMA-262. Raises
    `UntranslatablePatternError`.
    """
    # AWS spells "every astral character" with the halves in the wrong order; read literally it would be a few lone
    # surrogates, which no text can hold.
    source = _ODD_ASTRAL.sub(_EVERY_ASTRAL, java)
    source = _PAIR.sub(lambda pair: bytes.fromhex(pair[1] + pair[2]).decode("utf-16-be"), source)
    out, at, class_begin = "", 0, -1  # the latter where the first item of a class is in `out`, outside of one -1
    while at < len(source):
        if class_begin >= 0 and source[at] == "]" and len(out) > class_begin:
            out, at, class_begin = f"{out}]", at + 1, -1
            continue
        term = (_TERM if class_begin < 0 else _IN_CLASS).match(source, at)
        spelled = _spelled(term, in_class=class_begin >= 0) if term else None
        if term is None or spelled is None:
            break
        out, at = out + spelled, term.end()
        class_begin = len(out) if term.lastgroup == "open" else class_begin
    if at < len(source) or class_begin >= 0:
        raise UntranslatablePatternError(f"unknown construct at character {at + 1} of {source!r}")
    return out


def _literal(code_point: int) -> str:
    character = chr(code_point)
    if character in _PUNCTUATION:
        return "\\" + character
    if 0x20 <= code_point < 0x7F or code_point > 0xFFFF:
        return character
    return f"\\x{code_point:02x}" if code_point < 0x80 else f"\\u{code_point:04x}"


def _spelled(term: re.Match[str], *, in_class: bool) -> str | None:
    """Spell one term or item of a class; None for an escape that is unknown."""
    kind, text = term.lastgroup, term[term.lastgroup or 0]
    match kind:
        case "u" | "x" | "long":
            return _literal(int(text, 16))
        case "escaped":
            if text in _CLASSES:
                return _CLASSES[text] if in_class else f"[{_CLASSES[text]}]"
            if text in _ANCHORS and not in_class:
                return _ANCHORS[text]
            code_point = _CONTROLS.get(text, -1 if text.isalnum() else ord(text))
            return _literal(code_point) if code_point >= 0 else None
        case "one" if in_class:
            # A bare hyphen keeps its meaning, a range or itself, which both languages tell by its place as Java does.
            return text if text == "-" else _literal(ord(text))
        case "one":
            return _MEANINGS.get(text) or _literal(ord(text)).replace("\\-", "-")
    return text
