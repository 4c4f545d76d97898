"""The troubleshooting tables against the code, both ways: no message without a row, no row without a message."""

import ast
import json
import re
from collections.abc import Iterator
from functools import cache

import pytest
from book import PAGES, ROOT
from click.testing import CliRunner
from syntax_trees import nodes_of

from batchsubmit.advice import POLICY, QUOTA_REQUEST
from batchsubmit.cli.main import commands

SECTION = PAGES["troubleshooting"]
ERRORS = {"UsageError", "LedgerError", "StoppedError", "ManifestError", "UploadError"}
GAP = "\0"
LEAST_WORDS = 12
"""A message with fewer letters of its own than this passes on what another said."""


def words(node: ast.expr) -> str:
    """The literal parts of a message, with a gap for each value in it."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(words(value) for value in values)
        case ast.BinOp(left=left, right=right):
            return words(left) + words(right)
        case _:
            return GAP


def messages() -> Iterator[tuple[str, str]]:
    """Every message with which the program ends, and where it is made."""
    for path in sorted((ROOT / "batchsubmit").rglob("*.py")):
        for node in nodes_of(path):
            if not (isinstance(node, ast.Call) and node.args):
                continue
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if called in ERRORS:
                yield f"{path.name}:{node.lineno}", words(node.args[0])
            elif called == "request" and len(node.args) == 2:  # Stop.request(reason, message)
                yield f"{path.name}:{node.lineno}", words(node.args[1])


@cache
def literals() -> str:
    """Every text in the code, docstrings aside as far as the rows are concerned."""
    nodes = (node for path in (ROOT / "batchsubmit").rglob("*.py") for node in nodes_of(path))
    return "\n".join(words(node) for node in nodes if isinstance(node, ast.JoinedStr | ast.Constant))


def rows() -> list[list[str]]:
    """The quoted messages of each row."""
    cells = re.findall(r"^\| (`.*?) \| .+ \| .+ \|$", SECTION, re.MULTILINE)
    return [re.findall(r"`([^`]+)`", cell) for cell in cells]


QUOTED = [text for row in rows() for text in row]


def test_every_message_has_a_row() -> None:
    """A person who reads a message finds what to do."""
    missing = [
        f"{where}: {text.replace(GAP, '…')}"
        for where, text in messages()
        if len(re.sub(r"[^A-Za-z]", "", text)) >= LEAST_WORDS and not any(quoted in text for quoted in QUOTED)
    ]
    assert missing == []


@pytest.mark.parametrize("quoted", QUOTED)
def test_every_row_is_a_message(quoted: str) -> None:
    """A row that nothing says is a row that nobody finds."""
    assert quoted in literals()


def test_every_row_has_cause_and_fix() -> None:
    """Three cells, none empty."""
    table = [line for line in SECTION.splitlines() if line.startswith("| `")]
    assert len(table) == len(rows()) > 25
    assert all(len([cell for cell in line.split(" | ") if cell.strip("| ")]) == 3 for line in table)


def test_the_request_that_raises_a_quota_is_the_program_s_own() -> None:
    """Word for word."""
    assert QUOTA_REQUEST in SECTION.replace("`", "")


@pytest.mark.parametrize(
    ("name", "actions"),
    [
        (
            POLICY,
            (
                "cleanrooms-ml:StartTrainedModelInferenceJob",
                "cleanrooms-ml:TagResource",
                "cleanrooms-ml:ListTrainedModelInferenceJobs",
                "cleanrooms-ml:GetTrainedModelInferenceJob",
            ),
        ),
        ("batchsubmit policy cancel", ("cleanrooms-ml:CancelTrainedModelInferenceJob",)),
    ],
)
def test_the_named_policies_have_the_actions_on_lines_of_their_own(name: str, actions: tuple[str, ...]) -> None:
    """The message says "a line of what it prints"."""
    printed = CliRunner().invoke(commands, name.split()[1:]).stdout
    lines = [line.strip().rstrip(",") for line in printed.splitlines()]
    assert {json.dumps(action) for action in actions} <= set(lines)
