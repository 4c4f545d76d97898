"""`plan` and the question that `submit` asks, by the real program against a sandbox process."""

import json
import os
import pty
import re
import select
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import OTHER_MEMBERSHIP, Program, Sandbox, csv_text, request_named, write_jsonl
from strategies import MEMBERSHIP, arn

PATIENCE_SECONDS = 30


def write_manifest(program: Program, names: list[str], *, membership: str = MEMBERSHIP) -> None:
    """A CSV manifest in the program's folder."""
    (program.folder / "jobs.csv").write_text(csv_text(names, membership=membership))


def plan(program: Program, *options: object) -> dict[str, Any]:
    """The plan of jobs.csv as programs read it."""
    return program.run("plan", "jobs.csv", "--json", *options).summary


def test_a_plan_counts_rows_by_membership_and_starts_nothing(submitting: Program, sandbox: Sandbox) -> None:
    """Some are submitted, one more came since; no ledger line is written, no call is made."""
    write_manifest(submitting, ["a", "b"])
    assert submitting.run("submit", "jobs.csv").status == 0
    write_manifest(submitting, ["a", "b", "c"])
    ledger = (submitting.folder / "jobs.ledger.jsonl").read_bytes()
    calls = json.loads(sandbox.get("stats"))["calls"]
    made = plan(submitting)
    [lane] = made["memberships"]
    assert (lane["rows"], lane["submitted"], lane["to_do"]) == (3, 2, 1)
    assert (lane["membership"], made["to_do"], made["finish"], made["online"]) == (MEMBERSHIP, 1, None, None)
    assert (submitting.folder / "jobs.ledger.jsonl").read_bytes() == ledger
    assert json.loads(sandbox.get("stats"))["calls"] == calls


def test_a_plan_without_a_ledger_leaves_none_behind(program: Program) -> None:
    """Neither region nor credentials are needed to plan offline."""
    write_manifest(program, ["a", "b"])
    ended = program.run("plan", "jobs.csv", "--job-minutes", "30")
    assert ended.status == 0
    assert MEMBERSHIP in ended.stdout
    assert re.search(r"Expected finish: .*, in ", ended.stdout)
    assert "your word that a job takes about 30 minutes" in ended.stdout
    assert ended.stderr == ""
    assert [path.name for path in program.folder.iterdir()] == ["jobs.csv"]


def test_a_plan_of_a_wrong_manifest_lists_its_problems(program: Program) -> None:
    """As validate does: all of them, with exit status 2; --skip-invalid plans the rest."""
    write_manifest(program, ["a", "b" * 64, "c", "c"])
    ended = program.run("plan", "jobs.csv")
    assert ended.status == 2
    assert ended.stdout == ""
    assert ended.stderr.count("jobs.csv:") == 2
    assert plan(program)["exit_status"] == 2
    rest = plan(program, "--skip-invalid")
    assert (rest["rows"], rest["invalid"], rest["to_do"], rest["exit_status"]) == (4, 2, 2, 0)


def test_a_plan_works_while_a_run_holds_the_ledger(submitting: Program, sandbox: Sandbox) -> None:
    """It only reads."""
    sandbox.configure(per_membership=1)
    write_manifest(submitting, ["a", "b", "c"])
    with submitting.running("submit", "jobs.csv") as process:
        wait_for_jobs(sandbox, 1)
        made = plan(submitting)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_SECONDS)
    assert made["exit_status"] == 0
    assert made["to_do"] + made["unknown"] == 3 - made["memberships"][0]["submitted"]


def wait_for_jobs(sandbox: Sandbox, count: int) -> None:
    """Until the sandbox has accepted so many."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(sandbox.names()) < count:
        assert time.monotonic() < deadline


def test_a_damaged_ledger_ends_a_plan_with_status_4(program: Program) -> None:
    """The number of the line is told."""
    write_manifest(program, ["a"])
    (program.folder / "jobs.ledger.jsonl").write_text('{"event":"nonsense"}\n{}\n')
    ended = program.run("plan", "jobs.csv")
    assert ended.status == 4
    assert "line 1" in ended.stderr


def test_an_earlier_ledger_tells_how_long_jobs_take(submitting: Program, sandbox: Sandbox) -> None:
    """A batch that was followed to its end is the next one's forecast."""
    sandbox.configure(job_seconds=0.5)
    write_manifest(submitting, [f"a{number}" for number in range(12)])
    assert submitting.run("submit", "jobs.csv", "--wait", "--ledger", "old.jsonl").status == 0
    write_manifest(submitting, [f"b{number}" for number in range(60)])
    made = plan(submitting, "--history", "old.jsonl")
    assert made["basis"].startswith("12 jobs that have ended")
    low, middle, high = (made["finish"][name] for name in ("low_seconds", "seconds", "high_seconds"))
    assert 0 < low < middle < high < 60
    assert [each["slots"] for each in made["what_if"]] == [10, 25]
    assert made["what_if"][1]["seconds"] < made["what_if"][0]["seconds"] < middle
    refused = submitting.run("plan", "jobs.csv", "--history", "none.jsonl")
    assert refused.status == 2
    assert "none.jsonl" in refused.stderr


def test_plan_display_watch_and_report_show_one_estimate(submitting: Program, sandbox: Sandbox) -> None:
    """Beside a run: each is asked within moments, and all read the same ledger in the same way."""
    sandbox.configure(job_seconds=3.0, job_sigma=0.2, per_membership=5)
    write_manifest(submitting, [f"a{number}" for number in range(100)])
    with submitting.running("submit", "jobs.csv", "--wait") as process:
        wait_for_jobs(sandbox, 12)
        with submitting.running("status", "jobs.ledger.jsonl", "--watch") as watching:
            assert watching.stdout is not None
            line = str(watching.stdout.readline())
            watching.send_signal(signal.SIGINT)
            watching.communicate(timeout=PATIENCE_SECONDS)
        planned = plan(submitting)["finish"]["seconds"]
        told = submitting.run("report", "jobs.ledger.jsonl", "--json").summary
        process.kill()
        process.communicate(timeout=PATIENCE_SECONDS)
    watched = re.search(r"ETA [^,]*, in (?:(\d+) min)? ?(?:([\d.]+) s)? \(", line)
    assert watched is not None, line
    seconds = float(watched[1] or 0) * 60 + float(watched[2] or 0)
    assert planned == pytest.approx(seconds, rel=0.2)
    assert told["seconds_to_finish"] == pytest.approx(planned, rel=0.2)
    assert told["seconds_to_submit"] < told["seconds_to_finish"]


def test_a_rehearsal_s_ledger_is_no_history_of_the_service(submitting: Program) -> None:
    """The sandbox's two seconds would be believed."""
    write_manifest(submitting, ["a"])
    assert submitting.run("submit", "jobs.csv", "--sandbox", "--ledger", "rehearsed.jsonl").status == 0
    refused = submitting.run("plan", "jobs.csv", "--history", "rehearsed.jsonl")
    assert refused.status == 2
    assert "rehearsed.jsonl" in refused.stderr
    assert plan(submitting, "--sandbox", "--history", "rehearsed.jsonl")["finish"]["seconds"] > 0


def test_online_a_plan_sees_who_runs_and_what_is_ready(submitting: Program, sandbox: Sandbox) -> None:
    """Others' jobs hold slots as well; nothing is started."""
    write_manifest(submitting, ["foreign-1", "foreign-2"])
    assert submitting.run("submit", "jobs.csv", "--ledger", "others.jsonl").status == 0
    write_manifest(submitting, ["a"])
    ended = submitting.run("plan", "jobs.csv", "--online", "--job-minutes", "10")
    assert ended.status == 0
    assert "Ready: 2 trained models and channels looked at, all ACTIVE" in ended.stdout
    made = plan(submitting, "--online", "--job-minutes", "10")
    assert made["memberships"][0]["running"] == 2
    assert made["online"] == {"checked": 2, "problems": [], "untold": [], "warnings": []}
    assert sandbox.calls() == 2


def test_online_what_is_not_ready_ends_a_plan_with_status_1(submitting: Program, sandbox: Sandbox) -> None:
    """A model in training and a channel that is gone, each by its ARN."""
    model, channel = arn("trained-model"), arn("ml-input-channel")
    write_manifest(submitting, ["a", "b"])
    sandbox.configure(input_statuses={model: "CREATE_IN_PROGRESS"}, missing_inputs=[channel])
    try:
        ended = submitting.run("plan", "jobs.csv", "--online")
        problems = plan(submitting, "--online")["online"]["problems"]
    finally:
        sandbox.configure(input_statuses={}, missing_inputs=[])
    assert ended.status == 1
    assert f"{model} is CREATE_IN_PROGRESS" in ended.stdout
    assert f"{channel}: ResourceNotFoundException" in ended.stdout
    assert len(problems) == 2


def test_online_without_permission_a_plan_says_what_it_could_not_check(submitting: Program, sandbox: Sandbox) -> None:
    """A role that may start jobs need not be allowed to read models."""
    write_manifest(submitting, ["a"])
    sandbox.disturb(probabilities={"GetTrainedModel": {"access_denied": 1.0}})
    made = plan(submitting, "--online")
    assert made["exit_status"] == 0
    [untold] = made["online"]["untold"]
    assert "AccessDeniedException" in untold


@pytest.mark.parametrize("fault", ["expired_token", "unrecognized_client"])
def test_online_with_bad_credentials_a_plan_ends_with_status_3(
    submitting: Program, sandbox: Sandbox, fault: str
) -> None:
    """No call would be accepted, and the plan says so before the run does."""
    write_manifest(submitting, ["a"])
    sandbox.disturb(probabilities={"*": {fault: 1.0}})
    ended = submitting.run("plan", "jobs.csv", "--online")
    assert ended.status == 3
    assert "oken" in ended.stderr


def test_online_without_credentials_a_plan_says_so(submitting: Program) -> None:
    """Found out before any call."""
    write_manifest(submitting, ["a"])
    ended = submitting.run("plan", "jobs.csv", "--online", AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    assert ended.status == 3
    assert "no AWS credentials" in ended.stderr


def test_a_plan_has_a_line_for_each_membership_and_their_sum(program: Program) -> None:
    """Readable without a terminal too."""
    requests = [request_named("a"), request_named("b", membership=OTHER_MEMBERSHIP), request_named("c")]
    write_jsonl(program.folder / "jobs.jsonl", requests)
    lines = program.run("plan", "jobs.jsonl").stdout.splitlines()
    [head] = [line for line in lines if line.startswith("membership")]
    table = lines[lines.index(head) + 1 :][:3]
    assert [line.split()[:2] for line in table] == [[MEMBERSHIP, "2"], [OTHER_MEMBERSHIP, "1"], ["total", "3"]]
    assert len({len(line) for line in (head, *table)}) == 1


class Terminal:
    """The program at a pseudo-terminal."""

    def __init__(self, program: Program, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        environment = {**os.environ, **program.environment, "TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "500"}
        streams = dict.fromkeys((0, 1, 2), slave)
        self.process = program.server.start(arguments, program.folder, environment, streams=streams)
        os.close(slave)
        self.shown = ""

    def read_until(self, text: str) -> None:
        """Read what is shown until it has this."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            self._read()

    def _read(self) -> None:
        if select.select([self._master], [], [], 1.0)[0]:
            self.shown += os.read(self._master, 4096).decode()

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self._master, text.encode())

    def end(self) -> int:
        """Read until the program has ended; gives its exit status."""
        while True:
            try:
                self._read()
            except OSError:  # the other end is closed
                break
        os.close(self._master)
        with self.process:
            return self.process.wait(PATIENCE_SECONDS)


def test_submit_at_a_terminal_shows_the_plan_and_asks(submitting: Program, sandbox: Sandbox) -> None:
    """A yes submits."""
    write_manifest(submitting, ["a", "b"])
    terminal = Terminal(submitting, "submit", "jobs.csv")
    terminal.read_until("Go on?")
    assert "2 jobs to submit of 2 rows in 1 membership" in terminal.shown
    assert sandbox.names() == []
    terminal.type("y\n")
    assert terminal.end() == 0
    assert sorted(sandbox.names()) == ["a", "b"]


def test_the_question_shows_warnings_before_the_answer(submitting: Program, sandbox: Sandbox) -> None:
    """Whoever says no has overwritten nothing."""
    write_manifest(submitting, ["a"])
    assert submitting.run("submit", "jobs.csv", "--batch-id", "monday").status == 0
    terminal = Terminal(submitting, "submit", "jobs.csv", "--batch-id", "tuesday")
    terminal.read_until("Go on?")
    assert "warning: jobs.csv:2:1: name: 'a' with this trained model was submitted before" in terminal.shown
    assert "overwritten" in terminal.shown
    terminal.type("n\n")
    assert terminal.end() == 3
    assert sandbox.names() == ["a"]


@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04"])
def test_whoever_does_not_say_yes_sends_nothing(submitting: Program, sandbox: Sandbox, answer: str) -> None:
    """No, nothing and end of file: status 3, and no ledger."""
    write_manifest(submitting, ["a"])
    terminal = Terminal(submitting, "submit", "jobs.csv")
    terminal.read_until("Go on?")
    terminal.type(answer)
    assert terminal.end() == 3
    assert sandbox.names() == []
    assert not (submitting.folder / "jobs.ledger.jsonl").exists()
    assert "Traceback" not in terminal.shown


def test_yes_and_work_that_is_done_ask_nothing(submitting: Program, sandbox: Sandbox) -> None:
    """--yes goes on by itself; where nothing is to do there is no question."""
    write_manifest(submitting, ["a"])
    first = Terminal(submitting, "submit", "jobs.csv", "--yes")
    assert first.end() == 0
    again = Terminal(submitting, "submit", "jobs.csv")
    assert again.end() == 0
    assert "Go on?" not in first.shown + again.shown
    assert sandbox.names() == ["a"]


def test_without_a_terminal_nothing_is_asked(submitting: Program, sandbox: Sandbox) -> None:
    """A nightly job would wait for ever."""
    write_manifest(submitting, ["a"])
    assert submitting.run("submit", "jobs.csv").status == 0
    assert sandbox.names() == ["a"]


def test_a_pipe_is_read_once_and_its_plan_shown(submitting: Program, sandbox: Sandbox) -> None:
    """The manifest is checked once, for question and run together."""
    fifo = submitting.folder / "jobs.fifo"
    os.mkfifo(fifo)
    terminal = Terminal(submitting, "submit", "jobs.fifo", "--ledger", "jobs.ledger.jsonl")
    Path(fifo).write_text(csv_text(["a"]))
    terminal.read_until("Go on?")
    assert "1 job to submit of 1 row in 1 membership" in terminal.shown
    terminal.type("y\n")
    assert terminal.end() == 0
    assert sandbox.names() == ["a"]


PROMPT = """\
region eu-central-1, credentials of the environment or a role, endpoint URL, which is not AWS's
batch friday, ledger jobs.ledger.jsonl
2 jobs to submit of 2 rows in 1 membership, 5 slots
  1 trained model; 2 on ml.m5.large
  about 3.0 instance-hours, about 1.50 USD
  Expected finish: WHEN
Go on? [y/N]: """

AGAIN = """\
region eu-central-1, credentials of the environment or a role, endpoint URL, which is not AWS's
batch saturday, ledger jobs.ledger.jsonl
3 jobs to submit of 3 rows in 1 membership, 5 slots
  1 trained model; 3 on ml.m5.large
  instance-hours: unknown, no ledger shows how long jobs take (--job-minutes N says it)
  Expected finish: unknown; RED
about 2 rows were submitted before, by batch friday: they would be paid again
Go on? [yes/N]: """


def screen(terminal: Terminal, sandbox: Sandbox) -> str:
    """What is shown, without what differs each time."""
    shown = terminal.shown.replace(sandbox.url, "URL").replace("\r", "")
    shown = re.sub(r"finish: .* in .* to .*", "finish: WHEN", shown)
    shown = re.sub(r"unknown; .*", "unknown; RED", shown)
    return re.sub(r"(?m)^warning: .*\n", "", shown)


def test_the_question_is_a_plan_with_what_it_costs(submitting: Program, sandbox: Sandbox) -> None:
    """Whose account and where, how much work, how long, how dear; rows of another batch want the whole word."""
    write_manifest(submitting, ["a", "b"])
    submitting.environment["BATCHSUBMIT_PRICES"] = '{"ml.m5.large": 0.5}'
    terminal = Terminal(submitting, "submit", "jobs.csv", "--batch-id", "friday", "--job-minutes", "90")
    terminal.read_until("[y/N]: ")
    assert screen(terminal, sandbox) == PROMPT
    terminal.type("y\n")
    assert terminal.end() == 0
    write_manifest(submitting, ["a", "b", "c"])
    terminal = Terminal(submitting, "submit", "jobs.csv", "--batch-id", "saturday")
    terminal.read_until("[yes/N]: ")
    assert screen(terminal, sandbox) == AGAIN
    terminal.type("y\n")
    terminal.read_until("Type yes, the whole word, or n.")
    terminal.type("yes\n")
    assert terminal.end() == 0
    assert sorted(sandbox.names()) == ["a", "a", "b", "b", "c"]


def test_without_a_terminal_rows_of_another_batch_want_yes(submitting: Program, sandbox: Sandbox) -> None:
    """A batch id that was forgotten, or mistyped, is paid only once."""
    write_manifest(submitting, ["a", "b"])
    assert submitting.run("submit", "jobs.csv").status == 0
    ended = submitting.run("submit", "jobs.csv", "--batch-id", "x")
    assert ended.status == 2
    assert "all rows were submitted before, by runs without a batch id: they would be paid again" in ended.stderr
    assert sorted(sandbox.names()) == ["a", "b"]
    assert submitting.run("submit", "jobs.csv", "--batch-id", "x", "--yes").status == 0
    assert submitting.run("submit", "jobs.csv", "--batch-id", "x").status == 0
    assert sorted(sandbox.names()) == ["a", "a", "b", "b"]


def test_a_batch_that_takes_more_than_it_may_is_not_sent(submitting: Program, sandbox: Sandbox) -> None:
    """Whether anyone is asked or not; where nobody knows how long jobs take, it says what is missing."""
    manifest = [request_named("a", resourceConfig={"instanceType": "ml.m5.large", "instanceCount": 3})]
    write_jsonl(submitting.folder / "jobs.jsonl", manifest)
    command = ("submit", "jobs.jsonl", "--yes", "--max-instance-hours")
    assert "say it with --job-minutes" in submitting.run(*command, 3).stderr
    ended = submitting.run(*command, "2.9", "--job-minutes", 60)
    assert ended.status == 2
    assert "would take about 3.0 instance-hours, more than --max-instance-hours 2.9; nothing was sent" in ended.stderr
    assert sandbox.calls() == 0
    assert [path.name for path in submitting.folder.iterdir()] == ["jobs.jsonl"]
    assert submitting.run(*command, 3, "--job-minutes", 60).status == 0


def test_a_plan_prints_the_ten_memberships_with_most_work(program: Program) -> None:
    """And how many more there are; as JSON all of them, with models and instance types."""
    ids = [f"{number:08x}-0000-0000-0000-000000000000" for number in range(12)]
    lanes = [(each, number) for number, each in enumerate(ids) for _ in range(number + 1)]
    requests = [request_named(f"job-{place}", membership=each) for place, (each, _) in enumerate(lanes)]
    write_jsonl(program.folder / "jobs.jsonl", requests)
    shown = program.run("plan", "jobs.jsonl", "--job-minutes", 60).stdout
    lines = shown[shown.index("membership  ") :].splitlines()
    assert [line.split()[0] for line in lines[1:11]] == ids[:1:-1]
    assert lines[11].startswith("total")
    assert lines[12] == "... and 2 more; --json has all"
    made = program.run("plan", "jobs.jsonl", "--job-minutes", 60, "--json").summary
    assert (len(made["memberships"]), len(made["models"]), made["instance_hours"]) == (12, 12, 78.0)
    [work] = made["instance_types"]
    assert (work["instance_type"], work["to_do"], work["usd"]) == ("ml.m5.large", 78, None)


def test_what_is_neither_yes_nor_no_is_asked_again(submitting: Program, sandbox: Sandbox) -> None:
    """A word on the wrong window sends nothing."""
    write_manifest(submitting, ["a"])
    terminal = Terminal(submitting, "submit", "jobs.csv")
    terminal.read_until("Go on?")
    terminal.type("maybe\n")
    terminal.read_until("Answer y or n.")
    assert sandbox.names() == []
    terminal.type("YES\n")
    assert terminal.end() == 0


def test_ctrl_c_at_the_question_sends_nothing(submitting: Program, sandbox: Sandbox) -> None:
    """At once, with status 3, and without a ledger."""
    write_manifest(submitting, ["a"])
    terminal = Terminal(submitting, "submit", "jobs.csv")
    terminal.read_until("Go on?")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 3
    assert "nothing was sent" in terminal.shown
    assert sandbox.names() == []
    assert not (submitting.folder / "jobs.ledger.jsonl").exists()


def test_an_unanswered_question_holds_the_ledger(submitting: Program, sandbox: Sandbox) -> None:
    """So that what was shown is what is sent: a run that starts meanwhile exits with 4."""
    write_manifest(submitting, ["a"])
    terminal = Terminal(submitting, "submit", "jobs.csv")
    terminal.read_until("Go on?")
    assert submitting.run("submit", "jobs.csv").status == 4
    terminal.type("y\n")
    assert terminal.end() == 0
    assert sandbox.names() == ["a"]


def test_a_manifest_without_rows_has_nothing_to_forecast(submitting: Program, sandbox: Sandbox) -> None:
    """In place of a table without lines and an unknown finish."""
    write_manifest(submitting, [])
    planned = submitting.run("plan", "jobs.csv")
    assert planned.status == 0
    assert planned.stdout.splitlines()[1:] == ["Nothing to submit: there is no row that could be sent"]


def test_online_a_plan_warns_of_a_channel_that_goes_before_its_rows_are_through(
    submitting: Program, sandbox: Sandbox
) -> None:
    """Jobs of ten minutes, and a channel whose data is kept for seven minutes more, then for two hours."""
    write_manifest(submitting, ["a", "b"])
    sandbox.configure(channel_age_days=29.995)
    [warning] = plan(submitting, "--online", "--job-minutes", 10)["online"]["warnings"]
    assert warning.startswith(f"channel {arn('ml-input-channel')}: its retentionInDays end at")
    assert "the 2 rows that want it" in warning
    shown = submitting.run("plan", "jobs.csv", "--online", "--job-minutes", 10)
    assert shown.status == 0
    assert f"warning: {warning[:60]}" in shown.stdout
    sandbox.configure(channel_age_days=29.9)
    assert plan(submitting, "--online", "--job-minutes", 10)["online"]["warnings"] == []


def test_online_a_plan_compares_what_is_left_of_a_budget_with_the_rows_that_want_it(
    submitting: Program, sandbox: Sandbox
) -> None:
    """Rows that are submitted want nothing more."""
    write_manifest(submitting, ["a", "b"])
    assert submitting.run("submit", "jobs.csv").status == 0
    write_manifest(submitting, ["a", "b", "c", "d"])
    channel = arn("ml-input-channel")
    sandbox.configure(access_budgets={channel: 1})
    [warning] = plan(submitting, "--online")["online"]["warnings"]
    assert "configuredtableassociation" in warning
    assert f": 1 left, and 2 rows want its data, by channel {channel}" in warning
    assert f"warning: {warning}" in submitting.run("plan", "jobs.csv", "--online").stdout
    sandbox.configure(access_budgets={channel: 2})
    assert plan(submitting, "--online")["online"]["warnings"] == []
