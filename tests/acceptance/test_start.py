"""Each command starts by the console script in a process that has imported nothing yet."""

import subprocess

import pytest
from conftest import CONSOLE_SCRIPT

from batchsubmit.cli.main import SUMMARIES


@pytest.mark.parametrize("command", SUMMARIES)
def test_each_command_starts(command: str) -> None:
    """Other tests start it by a fork of a process that has imported all."""
    done = subprocess.run([CONSOLE_SCRIPT, command, "--help"], capture_output=True, text=True, check=True, timeout=60)
    assert f"batchsubmit {command}" in done.stdout
    assert done.stderr == ""
