"""Every code block of README and book: run, read by the program, or compared with what it prints."""

import csv
import io
import json
import os
import re
import shlex
import subprocess
import time
from pathlib import Path

import msgspec
import pytest
from book import PAGES, ROOT, Block, blocks
from conftest import Program, Sandbox

from batchsubmit.config import load_settings
from batchsubmit.sandbox.faults import FaultPlan

BLOCKS = list(blocks())
REGION = "us-east-1"
ELSEWHERE = {
    "python3 -m venv": "the two set-up commands: .ci/run reads one from README; the demo is below",
    "eval": "completion: test_completion",
    "_BATCHSUBMIT_COMPLETE": "completion: test_completion",
    "docker": "the image: its Dockerfile, and configs/deploy, have tests of their own",
    "pipx": "another installer of the same wheel",
    "uvx": "the same",
    "aws service-quotas": "test_troubleshooting compares it with the program's own words",
    "jq": "below, where jq is installed",
    "cat": "the first manifest, below",
    "export": "the environment of the first run, below",
    'BATCHSUBMIT_WORKER__QUEUE_URL="$QUEUE_URL" batchsubmit doctor': "test_doctor",
}
"""Commands of others, and where each is checked; lines of `batchsubmit` are parsed below."""
WRITTEN = {("how-it-works", ""): "a diagram", ("plan", ""): "its words are held against the command's"}


def of(language: str, *pages: str) -> list[Block]:
    """The blocks of a language, of some pages or all."""
    return [each for each in BLOCKS if each.language == language and (not pages or each.page in pages)]


def name_of(block: Block) -> str:
    """For the list of tests."""
    return f"{block.page}:{block.text[:30]}"


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    """A new kind of block needs its test first."""
    for each in BLOCKS:
        assert each.language in {"sh", "console", "python", "toml", "csv", "json", "cron"} or each[:2] in WRITTEN, each
    assert {each.page for each in of("python")} == {"python", "nightly"}  # test_api_examples, test_notify_messages
    assert {each.page for each in of("console")} == {"README"}


def test_every_shell_line_is_one_of_ours_or_checked_elsewhere() -> None:
    """The other program's lines are named one by one."""
    for block in of("sh"):
        text = re.sub(r"<<'END'\n.*?^END$", "", block.text, flags=re.MULTILINE | re.DOTALL)
        for line in filter(None, text.splitlines()):
            assert line.startswith("batchsubmit ") or any(line.startswith(start) for start in ELSEWHERE), line


def test_a_line_of_cron_has_its_times_and_our_settings() -> None:
    """Its options are looked at with all others of the book."""
    [line] = (each.text for each in of("cron"))
    assert re.match(
        r"\d+ \d+ \* \* \*  cd /\S+ && AWS_REGION=\S+ AWS_PROFILE=\S+ /\S+/batchsubmit submit \S+ --config ", line
    )
    assert (ROOT / "configs" / "nightly.toml").exists()


@pytest.mark.parametrize("block", of("toml"), ids=name_of)
def test_settings_are_read(block: Block, tmp_path: Path) -> None:
    """An unknown key would be refused."""
    (tmp_path / "batch.toml").write_text(block.text)
    load_settings(tmp_path / "batch.toml")


def test_the_manifests_are_valid(program: Program) -> None:
    """Each by itself; the short one with the defaults that stand above it."""
    whole, short = (each.text for each in of("csv", "manifest"))
    [defaults] = (each.text for each in of("toml", "manifest"))
    [line] = (each.text for each in of("json", "manifest"))
    for name, text in {"w.csv": whole, "s.csv": short, "l.jsonl": line, "d.toml": defaults}.items():
        (program.folder / name).write_text(text)
    for arguments in (["w.csv"], ["l.jsonl"], ["s.csv", "--config", "d.toml"]):
        ended = program.run("validate", *arguments, AWS_REGION=REGION)
        assert ended.status == 0, ended.stderr


def test_the_faults_are_read() -> None:
    """As `batchsubmit sandbox --faults` reads them."""
    [faults] = of("json", "sandbox")
    msgspec.json.decode(faults.text, type=FaultPlan)


def words(text: str) -> list[str]:
    """Lines without what differs from run to run: numbers and widths, the lines of progress, the estimate."""
    text = text.replace("call refused", "calls refused")
    lines = (re.sub(r"\s+", " ", re.sub(r"\d[\d.]*", "N", line)).strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith(("N-N-N N:N:N", "ETA "))]


def shown(block: Block) -> list[tuple[str, list[str]]]:
    """Each command of a console block, with the words that it prints."""
    parts = re.split(r"^\$ (?:\.venv/bin/)?batchsubmit (.*)\n", block.text, flags=re.MULTILINE)[1:]
    return [(command, words(output)) for command, output in zip(parts[::2], parts[1::2], strict=True)]


def test_the_demo_prints_what_the_readme_shows(program: Program) -> None:
    """From the first run, in less than half a minute, without a region or credentials, to `Nothing to do`.

    Slots are refused for a while, and no call is throttled: that would be a line more.
    """
    (program.folder / "configs").symlink_to(ROOT / "configs")
    printed = []
    began = time.monotonic()
    for command, expected in shown(of("console")[0]):
        ended = program.run(*shlex.split(command))
        if not printed:
            assert time.monotonic() - began < 30
        assert ended.status == 0, ended.stderr
        printed.append(ended.stdout + ended.stderr)
        assert words(printed[-1]) == expected
    assert "22 of 22 jobs submitted" in printed[0]
    assert re.search(r"[1-9]\d* calls? refused by the quota", printed[0])
    assert "throttled" not in printed[0]
    ledger = "demo.sandbox.ledger.jsonl"
    assert len(set(program.arns(ledger))) == 22
    lines = (program.folder / ledger).read_text().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    counts = program.run("status", ledger, "--json").summary["counts"]
    assert counts["submitted"] == 22
    assert counts["succeeded"] > 0


def test_the_first_run_prints_what_the_readme_shows(submitting: Program, sandbox: Sandbox) -> None:
    """With the manifest that people paste, in their region."""
    sandbox.configure(job_seconds=0.1)
    listed = "\n".join(each.text for each in of("sh", "README"))
    [manifest] = re.findall(r"'END'\n(.*?)^END", listed, re.MULTILINE | re.DOTALL)
    assert {len(row) for row in csv.reader(io.StringIO(manifest))} == {6}
    (submitting.folder / "jobs.csv").write_text(manifest)
    for command, expected in shown(of("console")[1]):
        ended = submitting.run(*shlex.split(command), AWS_REGION=REGION)
        assert ended.status == 0, ended.stderr
        assert words(ended.stdout + ended.stderr) == expected
    assert (submitting.folder / "jobs.html").exists()


def test_the_first_commands_print_a_policy_and_ask_a_doctor(submitting: Program) -> None:
    """The lines of the list are commands that there are; `doctor` needs an account, so it is parsed."""
    listed = "\n".join(each.text for each in of("sh", "README"))
    assert "batchsubmit doctor jobs.csv\n" in listed
    [policy] = re.findall(r"^batchsubmit (policy .*?) > policy.json$", listed, re.MULTILINE)
    assert json.loads(submitting.run(*policy.split(), AWS_REGION=REGION).stdout)["Statement"]


def test_the_example_of_plan_has_the_command_s_words() -> None:
    """Its numbers are invented; its sentences are those of the program."""
    [example] = of("", "plan")
    source = "".join(path.read_text() for path in sorted((ROOT / "batchsubmit").glob("*/plan.py")))
    source += (ROOT / "batchsubmit" / "forecast.py").read_text()
    for fragment in (
        "Expected finish: ",
        "(four times in five ",
        "rests on: ",
        "Ready: ",
        "looked at, all ACTIVE",
    ):
        assert fragment in example.text
        assert fragment in source, fragment


def test_jq_lists_the_arns(tmp_path: Path) -> None:
    """As the page of the ledger says; the program itself is not needed."""
    jq = [line for line in PAGES["ledger"].splitlines() if line.startswith("jq ")]
    assert len(jq) == 1
    (tmp_path / "jobs.ledger.jsonl").write_text('{"event":"intent"}\n{"event":"submitted","name":"a","arn":"arn:b"}\n')
    if not any((Path(folder) / "jq").exists() for folder in os.get_exec_path()):
        pytest.skip("jq is not installed")
    done = subprocess.run(jq[0], shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)  # noqa: S602
    assert done.stdout == "a\tarn:b\n"
