r"""The service model's patterns are Java's; here they become Python's.

It must not know what they are held against. What differs: `\uD800\uDBFF-\uDC00\uDFFF` is the model's spelling
of all astral characters, which Python sees as one code point each; `.` stops at five line ends, not one; `$`
matches before any of them; `\s`, `\d` and `\w` mean ASCII.
"""

import re
from functools import lru_cache
from typing import Final

_ASTRAL: Final = "\\U00010000-\\U0010FFFF"
_ASTRAL_SPELLINGS: Final = re.compile(r"\\uD800\\uDBFF-\\uDC00\\uDFFF|\\uD800\\uDC00-\\uDBFF\\uDFFF", re.IGNORECASE)
_SURROGATE_PAIR: Final = re.compile(r"\\u(D[89AB][0-9A-F]{2})\\u(D[C-F][0-9A-F]{2})", re.IGNORECASE)
_LONE_SURROGATE: Final = re.compile(r"\\uD[89A-F][0-9A-F]{2}", re.IGNORECASE)
_TOKEN: Final = re.compile(r"\\.|&&|.", re.DOTALL)
_LINE_ENDS: Final = r"\n\r\x85\u2028\u2029"
_NOT_A_LINE_END: Final = f"[^{_LINE_ENDS}]"
_END: Final = r"(?=(?:\r\n|(?<!\r)\n|[\r\x85\u2028\u2029])?\Z)"
_OTHER_IN_PYTHON: Final = frozenset(rf"\{letter}" for letter in "pPQEhHRXGZzABebk")


@lru_cache(maxsize=256)
def compiled(java: str) -> re.Pattern[str]:
    """Return a pattern of the model, to be used with `fullmatch`; `ValueError` if it is beyond us."""
    return re.compile(_translated(_code_points(java)), re.ASCII)


def _code_points(java: str) -> str:
    """Spell surrogate pairs as the characters they stand for."""
    spelled = _SURROGATE_PAIR.sub(_joined, _ASTRAL_SPELLINGS.sub(lambda _: _ASTRAL, java))
    if _LONE_SURROGATE.search(spelled):
        raise ValueError(f"lone surrogate in the pattern {java}")
    return spelled


def _joined(pair: re.Match[str]) -> str:
    high, low = (int(half, 16) for half in pair.groups())
    return f"\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08X}"


def _translated(java: str) -> str:
    python, in_class = [], False
    for piece in _TOKEN.findall(java):
        if piece in _OTHER_IN_PYTHON or (in_class and piece in ("[", "&&")):
            raise ValueError(f"cannot read {piece} in the pattern {java}")
        if not in_class and piece == ".":
            python.append(_NOT_A_LINE_END)
        elif not in_class and piece == "$":
            python.append(_END)
        else:
            python.append(piece)
        in_class = piece == "[" or (in_class and piece != "]")
    return "".join(python)
