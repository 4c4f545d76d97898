"""Java's patterns, as Python and ECMA-262 read them after translation."""

import re

import pytest
from botocore.loaders import Loader

from batchsubmit.schema.patterns import matcher, portable

NAME = r"(?!\s*$)[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDBFF-\uDC00\uDFFF\t]*"


@pytest.mark.parametrize("java", [r"[\uD800\uDBFF-\uDC00\uDFFF]", r"[\uD800\uDC00-\uDBFF\uDFFF]"])
@pytest.mark.parametrize("text", ["\U00010000", "\U0001f511", "\U0010ffff"])
def test_both_spellings_of_surrogate_pairs_mean_every_astral_character(java: str, text: str) -> None:
    """AWS's odd spelling and the right one are one range, and hold nothing of the basic plane."""
    assert matcher(java)(text)
    assert not matcher(java)("\uffff")
    assert not matcher(java)("a")


@pytest.mark.parametrize("text", ["a", " a ", "\t-", "\xa0", "\u3000", "\U0001f511", "x\u2028"])
def test_names_of_any_script_match(text: str) -> None:
    """White space that is not ASCII is a character like others."""
    assert matcher(NAME)(text)


@pytest.mark.parametrize("text", ["", " ", "\t ", "a\n", "\x85", "\u2028", " \u2029", "\ufffe", "a\x00", "\ud800"])
def test_blank_names_and_controls_do_not_match(text: str) -> None:
    r"""Java's `$` also holds before a final line terminator of any kind, so a lone U+2028 is blank."""
    assert not matcher(NAME)(text)


@pytest.mark.parametrize("terminator", ["\n", "\r", "\x85", "\u2028", "\u2029"])
def test_dot_stops_at_every_line_terminator(terminator: str) -> None:
    """Python's own dot stops at a line feed only."""
    assert matcher(".*")("a\x0b\x0c\x1e")
    assert not matcher(".*")(f"a{terminator}")


@pytest.mark.parametrize(
    ("java", "text", "expected"),
    [
        (r"a$[\s\S]*", "a", True),
        (r"a$[\s\S]*", "a\n", True),
        (r"a$[\s\S]*", "a\r\n", True),
        (r"a\r$[\s\S]*", "a\r\n", False),
        (r"a$[\s\S]*", "a\u2029", True),
        (r"a$[\s\S]*", "a\n\n", False),
        (r"\d", "\u0663", False),
        (r"\w", "\u00e9", False),
        (r"\s", "\xa0", False),
        (r"\S", "\U0001f511", True),
        (r"[^a]", "\U0001f511", True),
        (r"a{2,3}?b|c", "aab", True),
        (r"[\[\]\-^]+", "[]-^", True),
        (r"(?<!b)a(?=c)c", "ac", True),
        (r"[\w.\-\_]+", "a-_.9", True),
        (r"\D\W", "\u0663\u00e9", True),
        (r"a-b/\.\t\x41\u00e9", "a-b/.\tA\u00e9", True),
    ],
)
def test_constructs_mean_what_java_means(java: str, text: str, expected: bool) -> None:
    """A table of constructs whose meaning differs between the languages, or is easily lost."""
    assert bool(matcher(java)(text)) == expected


@pytest.mark.parametrize(
    "java",
    [r"\p{L}", "a*+", "[a[b]]", "[a&&b]", r"[\D]", r"a\z", "(?i)a", "(?<name>a)", r"\Qa\E", r"\x{1F511}", r"\uD83D"],
)
def test_unknown_constructs_are_not_guessed(java: str) -> None:
    """A wrong guess would refuse good rows: every text matches, and the service judges."""
    assert portable(java) == ""
    assert matcher(java)("anything\n")


def test_every_pattern_of_the_service_is_known() -> None:
    """A new botocore with a new construct fails here, not at a user's."""
    shapes = Loader().load_service_model("cleanroomsml", "service-2")["shapes"].values()
    patterns = {shape["pattern"] for shape in shapes if "pattern" in shape}
    assert len(patterns) > 10
    for pattern in patterns - {r"[\S\s]*"}:
        assert re.compile(portable(pattern)).pattern
