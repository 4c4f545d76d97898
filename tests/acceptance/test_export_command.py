"""Ledgers as tables, and the rows that failed as a manifest: the real program over real ledgers."""

import csv
import io
import json
from pathlib import Path

import pytest
from conftest import Program, Sandbox, csv_text, request_named, write_jsonl
from sample_ledgers import Night


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A night's ledger in the program's folder."""
    return Night(jobs=50).write(tmp_path / "night.ledger.jsonl")


def test_csv_goes_to_standard_output_and_nothing_else_does(program: Program, ledger: Path) -> None:
    """A table to pipe on."""
    ended = program.run("export", ledger.name)
    rows = list(csv.DictReader(io.StringIO(ended.stdout, newline="")))
    assert (ended.status, ended.stderr, len(rows)) == (0, "", 50)


def test_the_output_s_suffix_chooses_the_format(program: Program, ledger: Path) -> None:
    """And standard error says what was written."""
    ended = program.run("export", ledger.name, "--output", "night.jsonl")
    assert (ended.status, ended.stdout) == (0, "")
    assert ended.stderr == "night.jsonl: 50 jobs of night.ledger.jsonl\n"
    assert len([json.loads(line) for line in (program.folder / "night.jsonl").read_text().splitlines()]) == 50
    assert program.run("export", ledger.name, "--output", "night.parquet").status == 0
    assert (program.folder / "night.parquet").read_bytes().startswith(b"PAR1")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["none.jsonl"], 2, "cannot be read"),
        (["night.ledger.jsonl", "--format", "parquet"], 2, "give --output FILE"),
        (["night.ledger.jsonl", "--output", "night.ledger.jsonl"], 2, "is what is read from"),
        (["night.ledger.jsonl", "--failed-manifest", "x.csv", "--format", "csv"], 2, "leave --format out"),
        (["night.ledger.jsonl", "--batch-id", "x"], 2, "goes with --failed-manifest"),
        (["night.ledger.jsonl", "--failed-manifest", "none.csv"], 2, "there is no such file"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    program: Program, ledger: Path, arguments: list[str], status: int, words: str
) -> None:
    """And nothing is written."""
    before = ledger.read_bytes()
    ended = program.run("export", *arguments)
    assert (ended.status, ended.stdout) == (status, "")
    assert words in ended.stderr
    assert ledger.read_bytes() == before


def refusing(sandbox: Sandbox, *names: str) -> None:
    """Let the service refuse the jobs of these names, once."""
    sandbox.disturb(*({"fault": "validation", "name": name} for name in names))


def test_the_rows_that_failed_come_back_byte_for_byte_and_can_be_submitted(
    submitting: Program, sandbox: Sandbox
) -> None:
    """Semicolons, quotes, a byte-order mark, CRLF, no last line end; the batch is the ledger's to know."""
    header, *rows = csv_text([f"job-{number}" for number in range(6)]).replace(",", ";").splitlines()
    rows[2] = rows[2].replace("job-2", '"job;2"')
    manifest = submitting.folder / "jobs.csv"
    manifest.write_bytes(("\ufeff" + "\r\n".join([header, *rows])).encode())
    refusing(sandbox, "job;2", "job-5")
    assert submitting.run("submit", "jobs.csv", "--batch-id", "nightly").status == 1
    ended = submitting.run("export", "jobs.ledger.jsonl", "--failed-manifest", "jobs.csv", "--output", "fix.csv")
    assert ended.status == 0, ended.stderr
    assert "2 rows whose jobs failed of batch nightly" in ended.stderr
    assert "SHA-256" not in ended.stderr
    wanted = "\r\n".join([header, rows[2], rows[5]])
    assert (submitting.folder / "fix.csv").read_bytes() == f"\ufeff{wanted}".encode()
    again = submitting.run(
        "submit", "fix.csv", "--ledger", "jobs.ledger.jsonl", "--batch-id", "nightly", "--retry-failed", "--json"
    )
    assert (again.status, again.summary["submitted"]) == (0, 2)
    ended = submitting.run("export", "jobs.ledger.jsonl", "--failed-manifest", "jobs.csv", "--output", "none.csv")
    assert (ended.status, ended.stdout) == (0, "")
    assert "there is nothing to fix" in ended.stderr
    assert not (submitting.folder / "none.csv").exists()


def test_jsonl_rows_identical_ones_and_defaults_are_found_by_their_keys(submitting: Program, sandbox: Sandbox) -> None:
    """The second of three identical rows failed: it alone comes back, and only under the defaults that made it."""
    request = request_named("twin")
    model = request.pop("trainedModelArn")
    (submitting.folder / "c.toml").write_text(f'[defaults]\ntrainedModelArn = "{model}"\n')
    write_jsonl(submitting.folder / "jobs.jsonl", [request_named("other"), request, request, request])
    sandbox.disturb({"fault": "none", "name": "twin"}, {"fault": "validation", "name": "twin"})
    submitted = submitting.run("submit", "jobs.jsonl", "--config", "c.toml", "--allow-duplicates", "--concurrency", 1)
    assert submitted.status == 1, submitted.stderr
    arguments = ("export", "jobs.ledger.jsonl", "--failed-manifest", "jobs.jsonl")
    ended = submitting.run(*arguments, "--config", "c.toml")
    assert (ended.status, ended.stdout) == (0, json.dumps(request) + "\n")
    ended = submitting.run(*arguments)
    assert (ended.status, ended.stdout) == (1, "")
    assert "without a row in jobs.jsonl: 'twin'" in ended.stderr


def test_invalid_rows_that_were_left_out_come_back_too(submitting: Program) -> None:
    """Wrong in themselves, or identical to another; blank lines between are no harm."""
    lines = csv_text(["good", "", "also-good", "good"]).splitlines(keepends=True)
    (submitting.folder / "jobs.csv").write_text("".join([*lines[:3], *lines[3:]]))
    assert submitting.run("submit", "jobs.csv", "--skip-invalid").status == 1
    ended = submitting.run("export", "jobs.ledger.jsonl", "--failed-manifest", "jobs.csv")
    assert (ended.status, ended.stdout) == (0, "".join([lines[0], lines[2], lines[4]]))


def test_an_edited_manifest_is_noticed_and_what_is_missing_named(submitting: Program, sandbox: Sandbox) -> None:
    """Rows go by key: those that moved are found, those that were mended already are not."""
    manifest = submitting.folder / "jobs.csv"
    manifest.write_text(csv_text(["a", "b", "c"]))
    refusing(sandbox, "a", "b")
    assert submitting.run("submit", "jobs.csv").status == 1
    header, *rows = csv_text(["c", "b", "a-mended"]).splitlines(keepends=True)
    manifest.write_text("".join([header, *rows]))
    ended = submitting.run("export", "jobs.ledger.jsonl", "--failed-manifest", "jobs.csv")
    assert (ended.status, ended.stdout) == (1, header + rows[1])
    assert "SHA-256 differs" in ended.stderr
    assert "without a row in jobs.csv: 'a'" in ended.stderr


def test_jobs_that_ran_and_failed_are_among_them(submitting: Program, sandbox: Sandbox) -> None:
    """They cost a slot and brought nothing."""
    sandbox.configure(failing_names=["badly"], job_seconds=0.05)
    write_jsonl(submitting.folder / "jobs.jsonl", [request_named(name) for name in ("well", "badly")])
    assert submitting.run("submit", "jobs.jsonl", "--wait").status == 1
    ended = submitting.run("export", "jobs.ledger.jsonl", "--failed-manifest", "jobs.jsonl")
    assert (ended.status, ended.stdout) == (0, json.dumps(request_named("badly")) + "\n"), ended.stderr
