"""The real program writes a page over the ledger of a real run, while one is under way, and over a torn one."""

from pathlib import Path

from conftest import Program, Sandbox, csv_text
from sample_ledgers import Night


def test_a_run_s_ledger_becomes_a_page(submitting: Program, sandbox: Sandbox) -> None:
    """Refusals, failures and ends; its path is what standard output says."""
    sandbox.configure(per_membership=2, failing_names=["b"], job_seconds=0.1)
    sandbox.disturb({"fault": "validation", "name": "c"})
    (submitting.folder / "jobs.csv").write_text(csv_text(["a", "b", "c", "d", "<i>e"]))
    assert submitting.run("submit", "jobs.csv", "--wait", "--batch-id", "first").status == 1
    ended = submitting.run("report", "jobs.ledger.jsonl")
    assert (ended.status, ended.stdout, ended.stderr) == (0, "jobs.html\n", "")
    page = (submitting.folder / "jobs.html").read_text(encoding="utf-8")
    assert "<h1>first</h1>" in page
    assert "4 of 5 jobs submitted, 3 of them succeeded." in page
    assert "1 failed, 1 rejected, for 2 different reasons." in page
    assert "Nothing is pending." in page
    assert "ValidationException" in page
    assert "<i>e" not in page


def test_json_has_the_page_s_path_its_headline_and_figures(program: Program, tmp_path: Path) -> None:
    """One object on standard output, the page as ever; a failure is an object too."""
    Night(jobs=50, rows=80, until_seconds=2000).write(tmp_path / "night.ledger.jsonl")
    ended = program.run("report", "night.ledger.jsonl", "--json")
    assert ended.status == 0, ended.stderr
    told = ended.summary
    assert (told["page"], told["ledger"], told["title"]) == ("night.html", "night.ledger.jsonl", "nightly-2026-11-22")
    assert "of 80 jobs submitted" in told["sentences"][0]
    assert told["left"] == told["counts"]["pending"]
    assert told["counts"]["total"] == told["jobs"] == 80
    assert 0 < told["seconds_to_submit"] < told["seconds_to_finish"]
    page = (program.folder / "night.html").read_text(encoding="utf-8")
    assert all(sentence in page for sentence in told["sentences"])
    assert program.run("report", "none.jsonl", "--json").summary["exit_status"] == 2


def test_a_ledger_that_is_being_written_or_torn_is_read_as_far_as_it_goes(program: Program, tmp_path: Path) -> None:
    """And is not touched."""
    ledger = Night(jobs=50, rows=80, until_seconds=2000).write(tmp_path / "night.ledger.jsonl")
    with ledger.open("ab") as file:
        file.write(b'{"event":"intent"')
    before = ledger.read_bytes()
    ended = program.run("report", ledger.name, "--output", "new/out.html")
    assert (ended.status, ended.stdout) == (0, "new/out.html\n")
    assert "the last one, is not whole and was left out" in ended.stderr
    page = (program.folder / "new" / "out.html").read_text(encoding="utf-8")
    assert "The last run ended without a word" in page
    assert "pending, at the last pace" in page
    assert "Started again at once, all would be submitted in" in page
    assert ledger.read_bytes() == before


def test_mistakes_are_told_and_leave_no_page(program: Program, tmp_path: Path) -> None:
    """No ledger, a damaged one, a page over the ledger itself."""
    assert program.run("report", "none.jsonl").status == 2
    ledger = Night(jobs=5).write(tmp_path / "night.ledger.jsonl")
    assert "is what is read from" in program.run("report", ledger.name, "--output", ledger.name).stderr
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join([lines[0], b"{}\n", *lines[1:]]))
    ended = program.run("report", ledger.name)
    assert ended.status == 4
    assert "damaged at line 2" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == [ledger.name]


def test_a_run_writes_its_page_and_its_table_at_its_end(submitting: Program) -> None:
    """As a night is asked to: beside one another, named after the batch."""
    (submitting.folder / "jobs.csv").write_text(csv_text(["a", "b"]))
    files = ("--report", "out/{batch}.html", "--export", "out/{batch}.jsonl")
    ended = submitting.run("submit", "jobs.csv", "--batch-id", "first", *files)
    assert ended.status == 0, ended.stderr
    assert "2 of 2 jobs submitted" in (submitting.folder / "out" / "first.html").read_text(encoding="utf-8")
    assert len((submitting.folder / "out" / "first.jsonl").read_text(encoding="utf-8").splitlines()) == 2
