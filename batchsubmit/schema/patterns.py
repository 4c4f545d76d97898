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
_END = r"(?![\s\S])"  # `$` and `\Z` mean different things in the two languages, this does not
_BEFORE_FINAL_TERMINATOR = rf"(?=(?:\r\n|[\r\u0085\u2028\u2029]){_END}|(?<!\r)\n{_END}|{_END})"
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
_CODE_POINT = re.compile(r"u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|x\{([0-9a-fA-F]{1,6})\}")
_GROUP = re.compile(r"\((?:\?(?:[:=!]|<[=!]))?")
_QUANTIFIER = re.compile(r"(?:[*+?]|\{\d+(?:,\d*)?\})(\??)(\+?)")


class UntranslatablePatternError(ValueError):
    """The pattern uses a construct that this translation does not know."""


def matcher(java: str) -> Callable[[str], object]:
    """Make a function that is true for a text that matches as a whole. Raises `UntranslatablePatternError`."""
    return re.compile(portable(java)).fullmatch


@cache
def lenient_matcher(java: str | None) -> Callable[[str], object]:
    """Make the same for a pattern that may be absent, or unknown to us: then every text matches.

    A later botocore may bring such a pattern. The service still checks it; to refuse every row here would help nobody.
    """
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
    source = _PAIR.sub(lambda pair: _astral(int(pair[1], 16), int(pair[2], 16)), source)
    return _Translation(source).run()


def _astral(high: int, low: int) -> str:
    return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))


def _literal(code_point: int) -> str:
    character = chr(code_point)
    if character in _PUNCTUATION:
        return "\\" + character
    if 0x20 <= code_point < 0x7F or code_point > 0xFFFF:
        return character
    return f"\\x{code_point:02x}" if code_point < 0x80 else f"\\u{code_point:04x}"


class _Translation:
    """One walk over one pattern, from left to right."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0

    def run(self) -> str:
        out = []
        while self._at < len(self._source):
            out.append(self._term())
        return "".join(out)

    def _term(self) -> str:
        character = self._source[self._at]
        if character == "[":
            return self._class()
        if character == "\\":
            return self._escape(in_class=False)
        if character == "(":
            return self._group()
        if character in "*+?{":
            return self._quantifier()
        self._at += 1
        match character:
            case ".":
                return f"[^{_TERMINATORS}]"
            case "$":
                return _BEFORE_FINAL_TERMINATOR
            case "^" | "|" | ")":
                return character
        return _literal(ord(character)).replace("\\-", "-")

    def _group(self) -> str:
        opening = _GROUP.match(self._source, self._at)
        if opening is None or self._source.startswith("?", opening.end()):
            raise self._unknown()
        self._at = opening.end()
        return opening[0]

    def _quantifier(self) -> str:
        found = _QUANTIFIER.match(self._source, self._at)
        if found is None or found[2]:
            raise self._unknown()
        self._at = found.end()
        return found[0]

    def _class(self) -> str:
        out = ["["]
        self._at += 1
        if self._source.startswith("^", self._at):
            out.append("^")
            self._at += 1
        first = len(out)
        while not (self._source.startswith("]", self._at) and len(out) > first):
            out.append(self._class_item())
        self._at += 1
        return "".join(out) + "]"

    def _class_item(self) -> str:
        rest = self._source[self._at : self._at + 2]
        if not rest or rest[0] == "[" or rest == "&&":
            raise self._unknown()
        if rest[0] == "\\":
            return self._escape(in_class=True)
        self._at += 1
        # A bare hyphen keeps its meaning, a range or itself, which both languages tell by its place as Java does.
        return "-" if rest[0] == "-" else _literal(ord(rest[0]))

    def _escape(self, *, in_class: bool) -> str:
        escaped = self._source[self._at + 1 : self._at + 2]
        if escaped in _CLASSES and escaped:
            self._at += 2
            return _CLASSES[escaped] if in_class else f"[{_CLASSES[escaped]}]"
        if escaped in {"z", "Z", "A"} and not in_class:
            self._at += 2
            return {"z": _END, "Z": _BEFORE_FINAL_TERMINATOR, "A": "^"}[escaped]
        if code_point := _CODE_POINT.match(self._source, self._at + 1):
            self._at = code_point.end()
            return _literal(int(code_point[1] or code_point[2] or code_point[3], 16))
        if escaped in _CONTROLS:
            self._at += 2
            return _literal(_CONTROLS[escaped])
        if escaped and not escaped.isalnum():
            self._at += 2
            return _literal(ord(escaped))
        raise self._unknown()

    def _unknown(self) -> UntranslatablePatternError:
        return UntranslatablePatternError(f"unknown construct at character {self._at + 1} of {self._source!r}")
