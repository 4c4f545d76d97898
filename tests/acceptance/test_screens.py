"""What people see in real terminals (tmux): screens kept as text, none of whose lines is wider than the terminal."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CONSOLE_SCRIPT, Program, Sandbox, csv_text
from strategies import MEMBERSHIP

pytestmark = pytest.mark.skipif(not shutil.which("tmux"), reason="tmux, which gives a test a terminal, is not here")

NAMES = [f"churn-{number:03}" for number in range(6)]
PROMPT = """\
$ batchsubmit submit jobs.csv --wait --job-minutes 1
settings: batchsubmit.toml of this folder
region eu-central-1, credentials of the environment or a role, endpoint
  URL, which is not AWS's
ledger jobs.ledger.jsonl
6 jobs to submit of 6 rows in 1 membership, 5 slots
  1 trained model; 6 on ml.m5.large
  about 0.1 instance-hours
  Expected finish: WHEN
Go on? [y/N]:"""
ENDED = """\
1 of 6 jobs failed in SECONDS s
          6 submitted
          5 succeeded
          1 failed: INTERNAL_ERROR 1
  ledger: jobs.ledger.jsonl
  next: batchsubmit status jobs.ledger.jsonl lists them; batchsubmit logs
    jobs.ledger.jsonl prints their logs (CloudWatch log group
    /aws/cleanroomsml/TrainedModelInferenceJobs); batchsubmit retry
    jobs.ledger.jsonl sends them again (those that ran are paid again)
$"""
STATUS = """\
$ batchsubmit status jobs.ledger.jsonl
settings: batchsubmit.toml of this folder
jobs.ledger.jsonl: 6 jobs in 1 run
          6 submitted
          5 succeeded
          1 failed
  the last run ended WHEN UTC with exit status 1
1 failed: CREATE_FAILED: INTERNAL_ERROR: The inference container exited with a
  non-zero status (sandbox).
  churn-003
the logs of those that ran: CloudWatch log group
  /aws/cleanroomsml/TrainedModelInferenceJobs
$"""
VARYING = (
    (r"http://[\d.:]+", "URL"),
    (r"finish: [^)]*\)", "finish: WHEN"),
    (r"in \d+\.\d s", "in SECONDS s"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "WHEN UTC"),
)


class Terminal:
    """A terminal in which somebody types."""

    def __init__(self, folder: Path, width: int, height: int, environment: dict[str, str]) -> None:
        self._socket = str(folder / "tmux")
        size = ("-x", str(width), "-y", str(height))
        given = (f"{name}={value}" for name, value in environment.items())
        # Variables would have the size that it begins with.
        shell = ("env", "-u", "COLUMNS", "-u", "LINES", *given, "PS1=$ ", "bash", "--norc", "--noprofile")
        self._tmux("-f", os.devnull, "new-session", "-d", *size, *shell, cwd=folder)

    def _tmux(self, *arguments: str, cwd: Path | None = None) -> str:
        done = subprocess.run(["tmux", "-S", self._socket, *arguments], cwd=cwd, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    def type(self, text: str) -> None:
        """Type a line."""
        self._tmux("send-keys", "-l", text)
        self._tmux("send-keys", "Enter")

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._tmux("send-keys", "C-c")

    def clear(self) -> None:
        """Empty the screen."""
        self._tmux("send-keys", "C-l")
        self.shows(r"^\$$")

    def resize(self, width: int, height: int) -> None:
        """Drag its corner."""
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def screen(self, *options: str) -> str:
        """What it shows, a line that it had to break as one."""
        lines = self._tmux("capture-pane", "-p", "-J", *options).splitlines()
        return "\n".join(map(str.rstrip, lines)).rstrip()

    def shows(self, pattern: str, *options: str) -> str:
        """Wait until the screen has this, and give it."""
        until = time.monotonic() + 60
        while not re.search(pattern, text := self.screen(*options)):
            assert time.monotonic() < until, text
            time.sleep(0.05)
        return text

    def close(self) -> None:
        """End it, and what runs in it."""
        self._tmux("kill-server")


@pytest.fixture
def ready(submitting: Program, sandbox: Sandbox) -> Program:
    """A manifest and a name for its membership; one job fails."""
    sandbox.configure(job_seconds=0.5, pending_seconds=0.0, failing_names=["churn-003"])
    (submitting.folder / "jobs.csv").write_text(csv_text(NAMES))
    (submitting.folder / "batchsubmit.toml").write_text(f'[names]\n{MEMBERSHIP} = "Retail"\n')
    return submitting


@pytest.fixture
def terminals(ready: Program) -> Iterator[list[Terminal]]:
    """Terminals to be closed."""
    opened: list[Terminal] = []
    yield opened
    for each in opened:
        each.close()


def opened(program: Program, terminals: list[Terminal], width: int, height: int, **more: str) -> Terminal:
    """Open a terminal in the program's folder."""
    path = f"{Path(CONSOLE_SCRIPT).parent}:{os.environ['PATH']}"
    terminal = Terminal(program.folder, width, height, {**program.environment, "PATH": path, **more})
    terminals.append(terminal)
    terminal.shows(r"^\$")
    return terminal


def kept(text: str) -> str:
    """A screen without what differs from run to run."""
    for pattern, word in VARYING:
        text = re.sub(pattern, word, f"{text}\n").rstrip("\n")
    return text


def unfolded(text: str) -> str:
    """A screen as it would be on one that is wide enough."""
    return re.sub(r"\n {2,4}(?=\S)", " ", text)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_a_first_batch(ready: Program, terminals: list[Terminal], width: int, height: int) -> None:
    """The prompt, the display, the end, the status: as they stand here, or with lines broken elsewhere."""
    terminal = opened(ready, terminals, width, height)
    terminal.type("batchsubmit submit jobs.csv --wait --job-minutes 1")
    screens = [terminal.shows(r"Go on\?")]
    assert unfolded(kept(screens[-1])) == unfolded(PROMPT)
    terminal.type("y")
    screens.append(terminal.shows(r"━━\n.*\d %, \d of 6 done"))
    screens.append(terminal.shows(r"paid again\)\n\$"))
    assert unfolded(kept(screens[-1])).endswith(unfolded(ENDED))
    assert re.search(r"\d\d:\d\d:\d\d ✗ churn-003 failed: CREATE_FAILED", screens[-1])
    terminal.clear()
    terminal.type("batchsubmit status jobs.ledger.jsonl")
    screens.append(terminal.shows(r"InferenceJobs\n\$"))
    assert unfolded(kept(screens[-1])) == unfolded(STATUS)
    assert (kept(screens[-1]) == STATUS) is (width == 80)
    assert max(len(line) for text in screens for line in text.splitlines()) <= width


def test_a_resized_terminal_and_one_without_color(ready: Program, sandbox: Sandbox, terminals: list[Terminal]) -> None:
    """The display follows its size; `cancel` says what is lost in red, or without color where that is asked."""
    sandbox.configure(job_seconds=600, per_membership=3)
    terminal = opened(ready, terminals, 120, 40)
    terminal.type("batchsubmit submit jobs.csv --wait --yes")
    terminal.shows(r"0 %, 0 of 6 done, 3 submitted, 3 .*, waiting for a slot in 1 membership")
    terminal.resize(50, 12)
    display = terminal.shows(r"done, 3 submitted, 3 [a-z0-9 ]+(, [\d.]+/\w+)?\n").rpartition("━\n")[2]
    assert max(map(len, display.splitlines())) <= 50
    terminal.resize(80, 24)
    terminal.interrupt()
    terminal.shows(r"to go on\n\$")
    for color, is_red in (("", True), ("NO_COLOR=1 ", False)):
        terminal.clear()
        terminal.type(f"{color}batchsubmit cancel jobs.ledger.jsonl")
        text = terminal.shows(r"Cancel them\? \[yes/N\]:", "-e")
        assert ("\x1b[31m" in text) is is_red
        assert "membership Retail: 3 jobs: churn-000, churn-001, churn-002" in text
        terminal.type("n")
        terminal.shows(r"Nothing was cancelled\.\n\$")


def test_without_a_terminal_a_first_line_comes_with_its_time(ready: Program) -> None:
    """And whoever wants none gets none."""
    lines = ready.run("submit", "jobs.csv").stderr.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d{4} 0 %, 0 of 6 done, 0 submitted, 0 s", lines[1])
    again = ready.run("submit", "jobs.csv", "--batch-id", "b", "--yes", "--no-progress").stderr
    assert "0 of 6 done" not in again
