"""The translation of Java's patterns into Python's."""

import re

import pytest
from botocore.loaders import Loader

from batchsubmit.sandbox.validation import compiled

NAME = r"(?!\s*$)[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDBFF-\uDC00\uDFFF\t]*"
OTHER_SPELLING = r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\t]*"


@pytest.mark.parametrize("java", [NAME, OTHER_SPELLING])
@pytest.mark.parametrize("text", ["a", "a\t\u00e9", "\U0001f600", "\U00010000\U0010ffff", "a\ue000\ufffd"])
def test_both_spellings_of_astral_characters_accept_all_of_them(java: str, text: str) -> None:
    """Surrogate pairs in a class stand for U+10000 to U+10FFFF."""
    assert compiled(java).fullmatch(text)


@pytest.mark.parametrize("java", [NAME, OTHER_SPELLING])
@pytest.mark.parametrize("text", ["a\n", "\x00", "a\ud800", "\udfff", "\ufffe", "a\r"])
def test_lone_surrogates_and_control_characters_are_outside_the_class(java: str, text: str) -> None:
    """Neither half of a pair is a character of its own."""
    assert not compiled(java).fullmatch(text)


@pytest.mark.parametrize("text", ["", " ", "\t ", " \u2028", " \u0085"])
def test_a_name_of_white_space_and_a_last_line_end_is_blank(text: str) -> None:
    """`$` also matches before a last line end of Java's kinds."""
    assert not compiled(NAME).fullmatch(text)


@pytest.mark.parametrize("text", ["\u00a0", " \u2028\u2028", "\u3000", " \u2028x"])
def test_white_space_is_ascii_only(text: str) -> None:
    r"""Java's `\s` knows neither the no-break space nor the ideographic one."""
    assert compiled(NAME).fullmatch(text)


@pytest.mark.parametrize("end", ["\n", "\r", "\u0085", "\u2028", "\u2029"])
def test_a_dot_stops_at_every_line_end(end: str) -> None:
    """Python's dot would pass all but one of them."""
    assert not compiled(".*").fullmatch(f"a{end}")
    assert compiled(".*").fullmatch("a\x0b\x0c\x1c")


def test_an_escaped_dot_and_a_dot_in_a_class_mean_themselves() -> None:
    """Only a bare dot is translated."""
    assert compiled(r"\.[.$]").fullmatch(".$")
    assert not compiled(r"\.[.$]").fullmatch("x$")


@pytest.mark.parametrize(("text", "matches"), [("a", True), ("a\n", True), ("a\r\n", True), ("a\n\n", False)])
def test_a_dollar_matches_before_one_last_line_end(text: str, matches: bool) -> None:
    """As Java's does without MULTILINE."""
    assert bool(compiled(r"a(?=$)[\s\S]*").fullmatch(text)) is matches


@pytest.mark.parametrize("java", [r"\p{L}", r"[a-z&&[b]]", r"[a[b]]", r"\uD800", r"[\uDC00-\uDFFF]"])
def test_what_cannot_be_read_is_refused_rather_than_misread(java: str) -> None:
    """A new kind of pattern in the model must show, not pass everything."""
    with pytest.raises(ValueError, match="pattern"):
        compiled(java)


def test_every_pattern_of_the_service_model_can_be_read() -> None:
    """The model that is installed holds nothing new."""
    shapes = Loader().load_service_model("cleanroomsml", "service-2")["shapes"]
    patterns = {shape["pattern"] for shape in shapes.values() if "pattern" in shape}
    assert patterns
    assert all(isinstance(compiled(pattern), re.Pattern) for pattern in patterns)
