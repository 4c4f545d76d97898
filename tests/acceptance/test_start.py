"""Each command starts by the console script in a process that has imported nothing yet."""

import re
import signal
import subprocess
import sys

import pytest
from conftest import CONSOLE_SCRIPT, Program, finish

from batchsubmit.cli.help import SUMMARIES

FORKED = """
import os, runpy, sys
import aiobotocore.session, aiohttp.web, asyncio_throttle, click, jinja2, msgspec, pydantic_settings, rich.live
import structlog, tenacity  # libraries, once for all commands
for command in sys.argv[2:]:
    if pid := os.fork():
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(f"{command}: {status}", flush=True)
        continue
    sys.argv = [sys.argv[1], command, "--help"]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_each_command_starts() -> None:
    """By the console script, in a process that has imported nothing of the program; other tests fork one that has."""
    line = [sys.executable, "-c", FORKED, CONSOLE_SCRIPT, *SUMMARIES]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=60)
    assert re.findall(r"^(\w+): 0$", done.stdout, re.MULTILINE) == [*SUMMARIES]
    for command in SUMMARIES:
        assert f"Usage: batchsubmit {command}" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sandbox_says_where_it_listens_and_ends_well_at_a_signal(program: Program, number: signal.Signals) -> None:
    """It serves until then."""
    with program.running("sandbox") as process:
        assert process.stdout.readline().startswith(b"http://127.0.0.1:")
        process.send_signal(number)
        ended = finish(process)
    assert (ended.status, ended.stdout) == (0, "")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("arguments", [[], ["ledger"]])
def test_without_a_command_the_help_is_shown_line_by_line(program: Program, arguments: list[str]) -> None:
    """It comes as the words of an error, whose line ends are otherwise spelled out."""
    ended = program.run(*arguments)
    assert ended.status == 2
    assert ended.stderr.startswith("Usage: batchsubmit ")
    assert ended.stderr.count("\n") > 10
    assert r"\n" not in ended.stderr
