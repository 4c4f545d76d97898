"""Plain words: what people read, in strings and in the book, has one word for one thing, as this list says."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from book import DOCS, PAGES, README, ROOT
from syntax_trees import nodes_of

REPLACED = {
    r"mend(s|ed|ing)?": "fix",
    r"anew": "again",
    r"(un)?told": "reported; not checked",
    r"dear": "expensive",
    r"for ever|forever": "until stopped; without end",
    r"st(ands|and|ood) in (the|it|them|one|no)": "is (recorded) in",
    r"who(so)?ever": "anyone who; which",
    r"(some|any)body": "someone; anyone",
    r"in hand": "in progress; held",
    r"(what )?bec(a|o)me of": "what happened to",
    r"oftener": "more often",
    r"(colou?r|behaviou?r|flavou?r)(?<=our)s?": "US spelling: -or",
    r"(author|recogn|organ|summar|normal)is(e|es|ed|ing|ation)": "US spelling: -ize",
    r"licence|cheque|grey|whilst": "US spelling",
    r"time-outs?|place-holders?|back-offs?": "timeout; placeholder; backoff",
}
LIST = re.compile("|".join(rf"\b(?:{words})\b" for words in REPLACED), re.IGNORECASE)
LONGEST_SENTENCE = 30


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """The texts of a module that may be shown: docstrings aside, but those of commands, which are their help."""
    silent = set()
    for node in nodes_of(path):
        body = getattr(node, "body", [])
        for each in body if isinstance(body, list) else []:
            if isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant):
                is_help = isinstance(node, ast.FunctionDef) and node.decorator_list and "cli" in path.parts
                silent |= set() if is_help else {id(each.value)}
    for node in nodes_of(path):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.lineno, node.value


def is_shown(text: str) -> bool:
    """A key (`"untold"`, which programs read) is not; a sentence has a space in it."""
    return " " in text


def test_no_text_of_the_program_has_a_word_of_the_list() -> None:
    """Each find comes with its place."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {match[0]!r} in {text[:60]!r}"
        for path in sorted((ROOT / "batchsubmit").rglob("*.py"))
        for line, text in strings(path)
        if is_shown(text)
        for match in LIST.finditer(text)
    ]
    assert found == []


@pytest.mark.parametrize("path", sorted((ROOT / "batchsubmit").glob("*/assets/*.j*")), ids=lambda path: path.name)
def test_no_template_or_script_has_a_word_of_the_list(path: Path) -> None:
    """The report page's own texts; expressions of the template are code."""
    text = re.sub(r"\{[{%#].*?[}%#]\}", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert [match[0] for match in LIST.finditer(text)] == []


@pytest.mark.parametrize("name", ["README", *PAGES])
def test_no_page_has_a_word_of_the_list(name: str) -> None:
    """Code spans aside, where a name is a name."""
    text = README if name == "README" else (DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert [match[0] for match in LIST.finditer(re.sub(r"`[^`\n]*`", "", text))] == []


def sentences(text: str) -> Iterator[str]:
    """Those of paragraphs and lists; tables and code are no sentences, and a code span or a link is one word."""
    text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for paragraph in re.split(r"\n\n|\n(?= *(?:[-*]|\d+\.) |#)", text):
        if not paragraph.startswith("|"):
            plain = re.sub(r"`[^`]*`", "code", re.sub(r"\]\([^)]*\)", "]", paragraph))
            yield from re.split(r"(?<=[.!?:])\*{0,2}\s", " ".join(plain.split()))


@pytest.mark.parametrize("name", ["README", *sorted({*PAGES} - {"development"})])
def test_no_sentence_is_long(name: str) -> None:
    """Many readers' first language is another one."""
    text = README if name == "README" else PAGES[name]
    assert [each for each in sentences(text) if len(re.findall(r"[\w'-]+", each)) > LONGEST_SENTENCE] == []
