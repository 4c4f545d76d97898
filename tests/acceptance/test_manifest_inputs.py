"""What people give as a manifest and what their spreadsheets left in it, by the real program."""

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import re
import signal
import zipfile
from pathlib import Path

import pytest
from conftest import CSV_HEADER, MEMBERSHIP, Program, Sandbox, csv_text, finish, request_named, write_jsonl
from local_aws import LocalAws
from sample_ledgers import Night
from strategies import ACCOUNT, arn
from worker_programs import serving, until, working

from batchsubmit import ManifestError, submit_jobs

__all__ = ["working"]

DEFAULTS = f"""[defaults]
membershipIdentifier = "{MEMBERSHIP}"
trainedModelArn = "{arn("trained-model", membership=MEMBERSHIP)}"
resourceConfig.instanceType = "ml.m5.large"
outputConfiguration.members = [{{ accountId = "{ACCOUNT}" }}]
dataSource.mlInputChannelArn = "{arn("ml-input-channel", membership=MEMBERSHIP).rpartition("/")[0]}/{{var.partition}}"
"""
HEADER_AGAIN = "is the header again; remove this line"
NO_VALUE = "is what a program writes for no value"
UNTRIMMED = "has white space at its ends"
TEN = [f"job-{number}" for number in range(10)]


def with_defaults(program: Program, manifest: str, text: str) -> None:
    """A manifest whose rows say little, the settings with the rest."""
    (program.folder / manifest).write_text(text)
    (program.folder / "batch.toml").write_text(DEFAULTS)


@pytest.mark.parametrize(
    ("manifest", "text"),
    [
        ("jobs.csv", "name,var.partition\nc-1,11\nname,var.partition\nc-3,10\n"),
        ("jobs.csv", "name,var.partition\nc-1,11\n\ufeffvar.partition,name\nc-3,10\n"),
        ("jobs.csv", "name,var.partition\nc-1,11\nname,var.partition,tags.team\nc-3,10\n"),
        ("jobs.jsonl", '{"name":"c-1","var.partition":"11"}\n\n{"name":"name","var.partition":"var.partition"}\n'),
        ("jobs.jsonl", '{"name":"c-1","var.partition":"11"}\n\n{"name":"name","var":{"partition":"partition"}}\n'),
    ],
    ids=["same", "other order and BOM", "other columns", "JSONL", "JSONL, nested"],
)
def test_a_repeated_header_is_no_job(submitting: Program, sandbox: Sandbox, manifest: str, text: str) -> None:
    """Although defaults would make it whole."""
    with_defaults(submitting, manifest, text)
    ended = submitting.run("submit", manifest, "--config", "batch.toml")
    assert (ended.status, sandbox.calls()) == (2, 0)
    assert f"{manifest}:3:1: {HEADER_AGAIN}" in ended.stderr


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_words_for_no_value_are_problems_where_jobs_are_told_apart_by_them(
    submitting: Program, sandbox: Sandbox, suffix: str
) -> None:
    """As a name, or a variable that goes into an ARN; the row that means it is left alone."""
    rows = [
        ("nan", "11"),
        ("#REF!", "12"),
        ("c-3", "NULL"),
        ("c-4", "#N/A"),
        ("c-5", "None"),
        ("nantes", "null-island"),
    ]
    lines = [json.dumps({"name": name, "var.partition": value}) for name, value in rows]
    text = "\n".join(["name,var.partition", *map(",".join, rows)] if suffix == "csv" else lines)
    with_defaults(submitting, f"jobs.{suffix}", text)
    ended = submitting.run("validate", f"jobs.{suffix}", "--config", "batch.toml")
    assert ended.status == 2
    first = 2 if suffix == "csv" else 1
    told = re.sub(r" \(character \d+\)", "", ended.stderr + ended.stdout)
    for number, word in enumerate(["nan", "#REF!", "NULL", "#N/A", "None"], first):
        assert f"jobs.{suffix}:{number}:" in told
        assert f"{'name' if number < first + 2 else 'var.partition'}: {word!r} {NO_VALUE}" in told
    assert f"jobs.{suffix}:{first + 5}:" not in told
    assert submitting.run("submit", f"jobs.{suffix}", "--config", "batch.toml").status == 2
    assert sandbox.calls() == 0


def test_an_arn_that_ends_in_a_word_for_no_value_is_a_problem(program: Program) -> None:
    """As a program writes it that joins texts; a longer name is left alone."""
    lines = [json.dumps(request_named("a", model=model)) for model in ("nan", "NULL", "nan-7")]
    (program.folder / "jobs.jsonl").write_text("\n".join(lines))
    ended = program.run("validate", "jobs.jsonl")
    assert ended.status == 2
    assert f"jobs.jsonl:1:1: trainedModelArn: 'nan' {NO_VALUE}" in ended.stdout + ended.stderr
    assert f"jobs.jsonl:2:1: trainedModelArn: 'NULL' {NO_VALUE}" in ended.stdout + ended.stderr
    assert "jobs.jsonl:3" not in ended.stdout + ended.stderr


def test_words_for_no_value_elsewhere_are_a_warning(submitting: Program, sandbox: Sandbox) -> None:
    """They are sent as they are."""
    request = request_named("a", environment={"MODE": "None"}, tags={"team": "N/A"}, description="NaN")
    write_jsonl(submitting.folder / "jobs.jsonl", [request])
    ended = submitting.run("submit", "jobs.jsonl", "--json")
    assert (ended.status, sandbox.names()) == (0, ["a"])
    for path in ("environment.MODE: 'None'", "tags.team: 'N/A'", "description: 'NaN'"):
        assert f"jobs.jsonl:1:1: {path} {NO_VALUE}" in ended.stderr


def test_neither_worker_nor_enqueue_takes_a_job_of_a_repeated_header_or_a_word_for_no_value(
    working: Program, sandbox: Sandbox, aws: LocalAws
) -> None:
    """As a message's body and in a manifest that a message points to; a byte-order mark is no fault of a body."""
    queue = aws.make_queue()
    (working.folder / "batch.toml").write_text(DEFAULTS.replace("eu-central-1", "us-east-1"))
    aws.put_object("joined", "jobs.csv", "name,var.partition\nc-1,11\nname,var.partition\n")
    queue.put(
        {"name": "name", "var.partition": "var.partition"},
        {"name": "NULL", "var.partition": "11"},
        {"name": "b", "var.partition": "#REF!"},
        {"manifest": "s3://joined/jobs.csv"},
    )
    queue.put("\ufeff" + json.dumps({"name": "good", "var.partition": "12"}))
    (working.folder / "jobs.csv").write_text("name,var.partition\nc-1,11\nname,var.partition\n#N/A,12\n")
    ended = working.run("enqueue", "jobs.csv", "--queue-url", queue.url, "--config", "batch.toml")
    assert (ended.status, queue.size()) == (2, 5)
    assert f"jobs.csv:3:1: {HEADER_AGAIN}" in ended.stderr
    assert f"jobs.csv:4:1: name: '#N/A' {NO_VALUE}" in ended.stderr
    with serving(working, queue, "--config", "batch.toml") as process:
        until(lambda: queue.size() == 0)
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert ended.status in {0, 1}, ended.stderr
    assert sandbox.names() == ["good"]
    assert queue.dead is not None
    assert queue.dead.size() == 4


def workbook() -> bytes:
    """The beginnings of what Excel saves."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return whole.getvalue()


def zipped(data: bytes) -> bytes:
    """A zip archive of one file."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("jobs.csv", data)
    return whole.getvalue()


GOOD = csv_text(["a"]).encode()
LISTED = json.dumps([request_named("a"), request_named("b")], indent=2).encode()


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("jobs.xlsx", workbook(), "a workbook of a spreadsheet; save it as CSV UTF-8 there"),
        ("jobs.csv", workbook(), "a workbook of a spreadsheet"),
        ("jobs.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504), "a workbook of a spreadsheet"),
        ("jobs.zip", zipped(GOOD), "a zip archive; unpack it first"),
        ("jobs.csv", GOOD.decode().encode("utf-16"), "UTF-16, not UTF-8; save it as UTF-8"),
        ("jobs.csv", GOOD.decode().encode("utf-16-le"), "UTF-16, not UTF-8"),
        ("jobs.csv.gz", gzip.compress(gzip.compress(gzip.compress(GOOD))), "compressed more than twice"),
        ("jobs.csv.bz2", bz2.compress(GOOD), "bzip2 data; unpack it first"),
        ("jobs.csv.xz", lzma.compress(GOOD), "xz data; unpack it first"),
        ("jobs.csv.zst", b"\x28\xb5\x2f\xfd" + GOOD, "zstd data; unpack it first"),
        ("jobs.pdf", b"%PDF-1.7\n", "a PDF page"),
        ("jobs.csv", b"\n<!DOCTYPE html><title>Sign in</title>", "a page (HTML or XML)"),
        ("jobs.parquet", b"PAR1\x15\x04", "a file of tables"),
        ("jobs.json", LISTED, "one JSON array; write one request a line"),
        ("jobs.jsonl", json.dumps(request_named("a"), indent=2).encode(), "JSON over several lines"),
    ],
)
def test_what_is_no_manifest_is_named_in_a_line(program: Program, name: str, data: bytes, words: str) -> None:
    """By its first bytes, whatever its name; with what to do."""
    (program.folder / name).write_bytes(data)
    ended = program.run("validate", name, AWS_REGION="us-east-1")
    assert (ended.status, ended.stdout) == (2, "")
    assert f"{name}: is {words}" in ended.stderr
    assert len(ended.stderr.splitlines()) <= 2


@pytest.mark.parametrize(
    "data",
    [
        b"sep=;\r\n" + csv_text(TEN).replace(",", ";").encode(),
        b"\xef\xbb\xbfsep=,\n" + csv_text(TEN).encode(),
        csv_text(TEN).replace("\n", ",,\n").encode(),
        csv_text(TEN).replace("\njob", ",\njob", 1).encode(),
        csv_text(TEN).replace("job-4", "\ufeffjob-4").encode(),
        gzip.compress(gzip.compress(csv_text(TEN).encode())),
    ],
    ids=["sep=;", "BOM and sep=,", "empty trailing columns", "of the header only", "BOM in the middle", "gzip twice"],
)
def test_what_is_safe_to_read_is_read(submitting: Program, sandbox: Sandbox, data: bytes) -> None:
    """The same ten jobs, by their own names."""
    (submitting.folder / "jobs.csv").write_bytes(data)
    ended = submitting.run("submit", "jobs.csv")
    assert ended.status == 0, ended.stderr
    assert sorted(sandbox.names()) == TEN


def test_text_below_a_column_without_a_name_is_a_problem(program: Program) -> None:
    """Only an empty column is ignored."""
    (program.folder / "jobs.csv").write_text(CSV_HEADER.replace("\n", ",\n") + csv_text(["a"]).splitlines()[1] + ",x\n")
    ended = program.run("validate", "jobs.csv", AWS_REGION="us-east-1")
    assert ended.status == 2
    assert "jobs.csv:2:7: the row has 7 cells, the header 6" in ended.stderr + ended.stdout


def test_byte_order_marks_of_settings_and_joined_jsonl_are_read(submitting: Program, sandbox: Sandbox) -> None:
    """Editors and joined files bring them."""
    lines = [codecs.BOM_UTF8 + json.dumps({"name": name, "var.partition": "1"}).encode() for name in ("a", "b")]
    (submitting.folder / "jobs.jsonl").write_bytes(b"\n".join(lines))
    (submitting.folder / "batch.toml").write_bytes(codecs.BOM_UTF8 + DEFAULTS.encode())
    ended = submitting.run("submit", "jobs.jsonl", "--config", "batch.toml")
    assert ended.status == 0, ended.stderr
    assert sandbox.names() == ["a", "b"]


def test_what_spreadsheets_do_to_account_ids_is_named(program: Program) -> None:
    """With the id that was meant, and how to keep it; in its own column as in an ARN."""
    cells = ["1.23457E+11", "12345678901", "1234-5678-9012", "123456789012.0"]
    good = csv_text([f"a-{number}" for number in range(4)]).splitlines()[1:]
    rows = [row.replace(f",{ACCOUNT},", f",{cell},") for row, cell in zip(good, cells, strict=True)]
    rows += [row.replace(f":{ACCOUNT}:", ":1.23457E+11:", 1) for row in csv_text(["b"]).splitlines()[1:]]
    (program.folder / "jobs.csv").write_text(CSV_HEADER + "\n".join(rows))
    ended = program.run("validate", "jobs.csv", AWS_REGION="us-east-1")
    told = ended.stdout + ended.stderr
    assert ended.status == 2
    assert "'1.23457E+11' is a number as a spreadsheet shortens it, and the digits are lost" in told
    assert (
        "'12345678901' has 11 digits: a spreadsheet drops zeros in front; if it begins with 0, write 012345678901"
        in told
    )
    assert "'1234-5678-9012' is not spelled as an account id; write 123456789012" in told
    assert "'123456789012.0' is not spelled as an account id; write 123456789012" in told
    assert "its account, '1.23457E+11', is a number as a spreadsheet shortens it" in told
    assert told.count("format the column as text in the spreadsheet") == len(rows)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A night's ledger in the program's folder."""
    return Night(jobs=5).write(tmp_path / "night.ledger.jsonl")


def test_outputs_are_compressed_where_their_names_say_so(program: Program, ledger: Path) -> None:
    """Table and page."""
    for command, name in (("export", "x.csv.gz"), ("export", "x.jsonl.GZ"), ("report", "x.html.gz")):
        ended = program.run(command, ledger.name, "--output", name)
        assert ended.status == 0, ended.stderr
    table = gzip.decompress((program.folder / "x.csv.gz").read_bytes()).decode()
    assert len(list(csv.DictReader(io.StringIO(table, newline="")))) == 5
    assert all(map(json.loads, gzip.decompress((program.folder / "x.jsonl.GZ").read_bytes()).splitlines()))
    assert b"<html" in gzip.decompress((program.folder / "x.html.gz").read_bytes())


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "--output", "x.xlsx"),
        ("export", "--output", "x.html"),
        ("export", "--format", "csv", "--output", "x.parquet"),
        ("export", "--output", "x.parquet.gz"),
        ("export", "--excel", "--output", "x.jsonl"),
        ("report", "--output", "x.csv"),
    ],
    ids=" ".join,
)
def test_a_name_that_promises_another_kind_of_file_is_refused(
    program: Program, ledger: Path, arguments: tuple[str, ...]
) -> None:
    """Exit status 2, and no such file."""
    command, *options = arguments
    ended = program.run(command, ledger.name, *options)
    assert (ended.status, ended.stdout) == (2, "")
    assert "name that ends in" in ended.stderr
    assert not list(program.folder.glob("x.*"))


def test_a_run_s_outputs_are_refused_before_it_begins(submitting: Program, sandbox: Sandbox) -> None:
    """Not when the jobs are sent already."""
    (submitting.folder / "jobs.csv").write_text(csv_text(["a"]))
    for option, name in (("--export", "x.xlsx"), ("--report", "x.csv")):
        ended = submitting.run("submit", "jobs.csv", option, name)
        assert (ended.status, sandbox.calls()) == (2, 0)
        assert f"{name} would hold" in ended.stderr


def test_failed_rows_are_written_as_the_name_says_and_for_excel(submitting: Program, sandbox: Sandbox) -> None:
    """Compressed, with one byte-order mark, never under a name of another kind; and they are read again."""
    (submitting.folder / "jobs.csv").write_text(csv_text(["é", "b"]))
    sandbox.disturb({"fault": "validation", "name": "é"})
    assert submitting.run("submit", "jobs.csv").status == 1
    export = ("export", "jobs.ledger.jsonl", "--failed-manifest", "jobs.csv")
    assert submitting.run(*export, "--output", "fix.xlsx").status == 2
    assert submitting.run(*export, "--output", "fix.jsonl").status == 2
    assert submitting.run(*export, "--excel", "--output", "fix.csv.gz").status == 0
    assert gzip.decompress((submitting.folder / "fix.csv.gz").read_bytes()) == ("\ufeff" + csv_text(["é"])).encode()
    again = submitting.run("submit", "fix.csv.gz", "--ledger", "jobs.ledger.jsonl", "--retry-failed")
    assert again.status == 0, again.stderr
    assert sorted(sandbox.names()) == ["b", "é"]


def test_excel_is_told_that_a_table_is_utf_8(program: Program, ledger: Path) -> None:
    """By a byte-order mark, and only when asked for."""
    assert program.run("export", ledger.name, "--excel").stdout.startswith("\ufeff")
    assert not program.run("export", ledger.name).stdout.startswith("\ufeff")


def test_the_python_api_refuses_them_too(
    submitting: Program, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its requests may come of a table that was read with the same faults."""
    for name, value in submitting.environment.items():
        monkeypatch.setenv(name, value)
    again = {"name": "name", "environment": {"A": "environment.A"}, "var.partition": "var.partition"}
    for request, words in (
        (again, HEADER_AGAIN),
        (request_named("null"), NO_VALUE),
    ):
        with pytest.raises(ManifestError, match=words):
            submit_jobs([request_named("a"), request], ledger=submitting.folder / "api.ledger.jsonl")
    assert sandbox.calls() == 0


@pytest.mark.parametrize("name", [" a", "a ", "a\t"])
def test_white_space_at_a_name_s_ends_is_warned_of(submitting: Program, name: str) -> None:
    """Nobody sees it, and it makes another job."""
    write_jsonl(submitting.folder / "jobs.jsonl", [request_named("b"), request_named(name)])
    ended = submitting.run("submit", "jobs.jsonl")
    assert ended.status == 0
    assert "warning: jobs.jsonl:2" in ended.stderr
    assert UNTRIMMED in ended.stderr
