"""`batchsubmit init`."""

import asyncio
import csv
import io
import json
import shlex
from pathlib import Path

import click

from batchsubmit.cli.main import manual
from batchsubmit.cli.options import json_option, read_settings
from batchsubmit.cli.output import say
from batchsubmit.config import SETTINGS_FILE
from batchsubmit.errors import UsageError
from batchsubmit.text import counted

_MANIFEST, _SCHEMA, _STEPS = "jobs.csv", "batchsubmit.schema.json", "NEXT-STEPS.md"

_SETTINGS = """\
#:schema {schema}
# Settings of every batchsubmit command that runs in this folder. All there are: batchsubmit schema --settings

[aws]
{region}

[submit]
# Follow every job to its end: submit then ends when the last job has.
wait = true
# Stop once more jobs than this have failed: a number, or a share.
# max_failures = "5%"
# A word for this round of work, part of every job's key. With another one, the same rows are other jobs.
# batch_id = "first"
"""

STEPS = (
    ("Is all in place?", "batchsubmit doctor jobs.csv"),
    ("What would be sent, and how long would it take?", "batchsubmit plan jobs.csv"),
    ("Rehearse it without AWS", "batchsubmit submit jobs.csv --sandbox --ledger rehearsal.jsonl"),
    (
        "Send it. Run it again after any interruption: it goes on where it ended",
        "batchsubmit submit jobs.csv",
    ),
    ("Where does it stand?", "batchsubmit status jobs.ledger.jsonl"),
    ("A page for everybody", "batchsubmit report jobs.ledger.jsonl"),
)

_INTRODUCTION = """\
# From here to a finished batch

`jobs.csv` has a job a row; its columns are the members of StartTrainedModelInferenceJob (`batchsubmit schema` explains
each), and `var.comment` is for you. Each row becomes a job that is paid: remove those that you do not want. Jobs of one
name and one trained model overwrite each other's results.
"""


@click.command(
    epilog=manual(
        ("a first manifest and settings, here", "batchsubmit init"),
        (
            "in a folder of its own, of one membership",
            "batchsubmit init churn --membership 11111111-1111-4111-8111-111111111111",
        ),
        exits={0: "written, or already there", 1: "", 2: "usage wrong, or the folder cannot be written", 3: "", 4: ""},
    )
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
@click.option("--membership", "memberships", multiple=True, metavar="ID", help="Only this one; may be repeated.")
@json_option
def init(folder: Path, memberships: tuple[str, ...], *, as_json: bool) -> int:
    """Write a first manifest, settings and the next steps into FOLDER; nothing is overwritten.

    With credentials, the manifest has a row for each trained model of your memberships, with the newest data for it.
    Without, it has an example to fill in.
    """
    from batchsubmit.app.init import example, find_rows  # noqa: PLC0415 (help is fast without)

    found = asyncio.run(find_rows(read_settings(None), memberships))
    written, kept = _write(folder, _files(found.rows or [example(found.region)], found.region))
    for note in found.notes:
        say(f"note: {note}")
    if as_json:
        click.echo(json.dumps({"written": written, "kept": kept, "rows": len(found.rows), "notes": found.notes}))
    say(f"written: {', '.join(written) or 'nothing'}")
    if kept:
        say(f"kept as they were: {', '.join(kept)}")
    if _MANIFEST in written:
        say(_rows_words(len(found.rows)))
    say("Next:")
    steps = STEPS if folder == Path() else ((f"Go to {folder}", shlex.join(["cd", str(folder)])), *STEPS)
    for what, line in steps:
        say(f"  {line}")
        say(f"      {what}")
    return 0


def _rows_words(rows: int) -> str:
    if rows:
        return f"{_MANIFEST} has {counted(rows, 'row')} that can be sent as they stand"
    return f"{_MANIFEST} has an example: put your own membership, model, channel and account in its place"


def _files(rows: list[dict[str, str]], region: str) -> dict[str, str]:
    from batchsubmit.config import Settings  # noqa: PLC0415 (help is fast without)

    table = io.StringIO()
    writer = csv.DictWriter(table, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    named = f'region = "{region}"' if region else '# region = "us-east-1"'
    steps = "\n".join(f"{number}. {what}\n\n       {line}\n" for number, (what, line) in enumerate(STEPS, 1))
    return {
        _MANIFEST: table.getvalue(),
        SETTINGS_FILE: _SETTINGS.format(schema=_SCHEMA, region=named),
        _SCHEMA: json.dumps(Settings.model_json_schema(), indent=2) + "\n",
        _STEPS: f"{_INTRODUCTION}\n{steps}",
    }


def _write(folder: Path, files: dict[str, str]) -> tuple[list[str], list[str]]:
    """Write the files that are not there; give the names of those written and of those kept. Raises UsageError."""
    written, kept = [], []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            try:
                with (folder / name).open("x", encoding="utf-8") as file:
                    file.write(content)
            except FileExistsError:
                kept.append(name)
            else:
                written.append(name)
    except OSError as exc:
        raise UsageError(f"{folder} cannot be written: {exc.strerror}; give init a folder that can") from exc
    return written, kept
