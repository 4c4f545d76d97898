"""`batchsubmit init`: a first manifest, of what the service lists in the user's memberships, and settings."""

import asyncio
import csv
import io
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from batchsubmit.app.run import require_region
from batchsubmit.aws import open_client, resolve_region
from batchsubmit.cleanrooms.client import outcome_of
from batchsubmit.cleanrooms.reads import ReadError
from batchsubmit.cli.options import command, conclude, json_option, read_settings
from batchsubmit.config import SETTINGS_FILE, Settings
from batchsubmit.errors import BatchsubmitError, UsageError
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
    ("Send it. Run it again after any interruption: it goes on where it ended", "batchsubmit submit jobs.csv"),
    ("Where does it stand?", "batchsubmit status jobs.ledger.jsonl"),
    ("A page for everybody", "batchsubmit report jobs.ledger.jsonl"),
)

_INTRODUCTION = """\
# From here to a finished batch

`jobs.csv` has a job a row; its columns are the members of StartTrainedModelInferenceJob (`batchsubmit schema` explains
each), and `var.comment` is for you. Each row becomes a job that is paid: remove those that you do not want. Jobs of one
name and one trained model overwrite each other's results.
"""

_INSTANCE_TYPE = "ml.m5.xlarge"
"""That of AWS's own example of an inference job."""

_MOST_ROWS = 20
_BETWEEN_PAGES_SECONDS = 0.1
_RECEIVES = "CAN_RECEIVE_INFERENCE_OUTPUT"
_EXAMPLE = "11111111-1111-4111-8111-111111111111"
_LISTS = ("list_trained_models", "list_ml_input_channels", "list_configured_model_algorithm_associations")
"""What is listed of each membership: the client's methods."""

_Item = Mapping[str, Any]
_Listed = list[dict[str, Any]]


@command(
    ("a first manifest and settings, here", "batchsubmit init"),
    ("in a folder of its own, of one membership", f"batchsubmit init churn --membership {_EXAMPLE}"),
    exits={0: "written, or already there", 2: "usage wrong, or the folder cannot be written"},
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
@click.option("--membership", "memberships", multiple=True, metavar="ID", help="Only this one; may be repeated.")
@json_option
def init(folder: Path, memberships: tuple[str, ...], *, as_json: bool) -> int:
    """Write a first manifest, settings and the next steps into FOLDER; nothing is overwritten.

    With credentials, the manifest has a row for each trained model of your memberships, with the newest data for it.
    Without, it has an example to fill in.
    """
    found = asyncio.run(_find_rows(read_settings(None), memberships))
    files = _files(found.rows or [example(found.region)], found.region)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = [name for name, content in files.items() if _write_new(folder / name, content)]
    except OSError as exc:
        raise UsageError(f"{folder} cannot be written: {exc.strerror}; give init a folder that can") from exc
    kept = [name for name in files if name not in written]
    content: dict[str, Any] = {"written": written, "kept": kept, "rows": len(found.rows), "notes": found.notes}
    return conclude(_words(folder, **content), content, as_json=as_json)


def _words(folder: Path, *, written: list[str], kept: list[str], rows: int, notes: list[str]) -> Iterator[str]:
    yield from (f"note: {note}" for note in notes)
    yield f"written: {', '.join(written) or 'nothing'}"
    if kept:
        yield f"kept as they were: {', '.join(kept)}"
    if _MANIFEST in written and rows:
        yield f"{_MANIFEST} has {counted(rows, 'row')} that can be sent as they stand"
    elif _MANIFEST in written:
        yield f"{_MANIFEST} has an example: put your own membership, model, channel and account in its place"
    steps = STEPS if folder == Path() else ((f"Go to {folder}", shlex.join(["cd", str(folder)])), *STEPS)
    yield "Next:"
    yield from (words for what, line in steps for words in (f"  {line}", f"      {what}"))


def _files(rows: list[dict[str, str]], region: str) -> dict[str, str]:
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


def _write_new(path: Path, content: str) -> bool:
    """Write a file, unless there is one."""
    with suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
        file.write(content)
        return True
    return False


@dataclass(slots=True)
class FirstRows:
    """Rows that are valid as they stand, the region they are of, and what was left out and why."""

    rows: list[dict[str, str]] = field(default_factory=list)
    region: str = ""
    notes: list[str] = field(default_factory=list)

    def add(self, membership: _Item, models: _Listed, channels: _Listed, algorithms: _Listed) -> None:
        """Add a row for each active model, with the newest active channel that has data for its algorithm."""
        names = {each["configuredModelAlgorithmAssociationArn"]: each["name"] for each in algorithms}
        active = sorted(filter(_is_active, channels), key=lambda each: each["createTime"])
        for model in {each["trainedModelArn"]: each for each in filter(_is_active, models)}.values():
            algorithm = model["configuredModelAlgorithmAssociationArn"]
            fitting = [each for each in active if algorithm in each["configuredModelAlgorithmAssociations"]]
            if fitting:
                comment = f"{membership['collaborationName']}: model {model['name']} by {names.get(algorithm, '?')}"
                self.rows.append(_row(membership, model, fitting[-1], f"{comment}, data {fitting[-1]['name']}"))
            else:
                self.notes.append(f"trained model {model['name']} has no active ML input channel: it has no row")
        if not any(map(_is_active, models)):
            self.notes.append(f"membership {membership['id']} has no active trained model: it has no row")

    def choose(self, listed: _Listed, memberships: Iterable[str]) -> _Listed:
        """Those that were asked for, or all; notes what is not there and who receives nothing."""
        wanted = set(memberships) or {each["id"] for each in listed}
        chosen = [each for each in listed if each["id"] in wanted]
        missing = sorted(wanted - {each["id"] for each in chosen})
        self.notes += [f"there is no active membership {each}" for each in missing]
        if not listed:
            self.notes.append("this account has no active membership in this region")
        self.notes += [
            f"in {each['collaborationName']} this account may not receive inference output: "
            "put the account of a member who may into outputConfiguration.members.0.accountId"
            for each in chosen
            if _RECEIVES not in each.get("mlMemberAbilities", {}).get("customMLMemberAbilities", ())
        ]
        return chosen


def _is_active(listed: _Item) -> bool:
    return bool(listed["status"] == "ACTIVE")


def _row(membership: _Item, model: _Item, channel: _Item, comment: str) -> dict[str, str]:
    return {
        "name": f"{model['name'][:59]}-001",
        "membershipIdentifier": membership["id"],
        "trainedModelArn": model["trainedModelArn"],
        "dataSource.mlInputChannelArn": channel["mlInputChannelArn"],
        "resourceConfig.instanceType": _INSTANCE_TYPE,
        "outputConfiguration.members.0.accountId": membership["arn"].split(":")[4],
        "var.comment": comment,
    }


def example(region: str) -> dict[str, str]:
    """A row for who has no credentials yet: valid, and of nobody."""
    scope = f"arn:aws:cleanrooms-ml:{region or 'us-east-1'}:123456789012:membership/{_EXAMPLE}"
    membership = {"id": _EXAMPLE, "arn": scope.replace("-ml", "", 1)}
    model = {"name": "example", "trainedModelArn": f"{scope}/trained-model/your-model"}
    channel = {"mlInputChannelArn": f"{scope}/ml-input-channel/your-channel"}
    comment = "An example: put your own membership, model, channel and account in its place"
    return _row(membership, model, channel, comment)


async def _find_rows(settings: Settings, memberships: Iterable[str]) -> FirstRows:
    """Ask for the memberships, `memberships` only where some are given, and for what is in them. Raises nothing."""
    found = FirstRows()
    try:
        found.region = require_region(resolve_region(settings.aws))
        async with open_client("cleanrooms", region=found.region, attempts=5) as client:
            listed = await _list(client, "list_memberships", status="ACTIVE")
        async with open_client("cleanroomsml", region=found.region, attempts=5) as client:
            for membership in found.choose(listed, memberships):
                asked = {"membershipIdentifier": membership["id"]}
                try:
                    lists = [await _list(client, each, **asked) for each in _LISTS]
                except BatchsubmitError as exc:
                    found.notes.append(f"membership {membership['id']}: {exc}")
                else:
                    found.add(membership, *lists)
    except BatchsubmitError as exc:
        found.notes.append(str(exc).partition("; nothing was sent")[0])
    if len(found.rows) > _MOST_ROWS:
        found.notes.append(f"{counted(len(found.rows) - _MOST_ROWS, 'more model')} found: --membership ID narrows it")
        del found.rows[_MOST_ROWS:]
    return found


async def _list(client: Any, method: str, **request: str) -> _Listed:  # noqa: ANN401
    """Read a whole list, page by page, with a pause after each. Raises BatchsubmitError, which says why it cannot."""
    found: _Listed = []
    try:
        pages = client.get_paginator(method).paginate(**request)
        async for page in pages:
            found += page[pages.result_keys[0].expression]
            await asyncio.sleep(_BETWEEN_PAGES_SECONDS)
    except Exception as exc:
        operation = client.meta.method_to_api_mapping[method]
        raise BatchsubmitError(str(ReadError(operation, outcome_of(exc, has_left=True)))) from exc
    return found
