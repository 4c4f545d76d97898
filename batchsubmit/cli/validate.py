"""`batchsubmit validate`."""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchsubmit.cli.main import manual
from batchsubmit.cli.options import (
    allow_duplicates_option,
    config_option,
    json_option,
    read_settings,
    tell_warnings,
)
from batchsubmit.cli.output import say
from batchsubmit.errors import EXIT_USAGE
from batchsubmit.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchsubmit.config import Settings
    from batchsubmit.manifest.check import CheckedManifest, Terms
    from batchsubmit.schema import Problem


@click.command(
    epilog=manual(
        ("every problem, as file:line:column", "batchsubmit validate jobs.csv"),
        ("with the request members that the settings fill in", "batchsubmit validate jobs.csv --config nightly.toml"),
        ("how many rows are wrong", "batchsubmit validate jobs.csv --json | jq .problem_count"),
        exits={0: "every row is valid", 1: "", 2: "usage or settings wrong, or a row has a problem", 3: "", 4: ""},
    )
)
@click.argument("manifest", type=click.Path(allow_dash=True))
@click.option("--batch-id", metavar="TEXT", help="The word that submit will be given, for defaults with {batch}.")
@config_option
@allow_duplicates_option
@json_option
def validate(manifest: str, batch_id: str | None, config: Path | None, *, allow_duplicates: bool, as_json: bool) -> int:
    """List every problem of every row of MANIFEST as file:line:column; no call is made.

    Where there are many, the kinds of problem are counted on standard error. Exit status 2 where there is any.
    Warnings stand there too, and change no exit status.
    """
    settings = read_settings(config, submit={"batch_id": batch_id})
    terms = _terms(settings, allow_duplicates=allow_duplicates)
    if as_json:
        inventory = _tell_programs(manifest, settings, terms)
    else:
        inventory = asyncio.run(_take(manifest, settings, terms, _tell))
    say(_verdict(manifest, inventory))
    if inventory.problem_count > _MANY:
        for kind in inventory.alike.kinds.values():
            say(f"  {kind.count:,} like {kind.first[0]}")
        if inventory.alike.others:
            say(f"  {inventory.alike.others:,} of other kinds")
    tell_warnings(inventory.warnings)
    return EXIT_USAGE if inventory.problem_count else 0


def _tell(problem: "Problem") -> None:
    say(problem.located(), to_stdout=True)


_MANY = 20
"""Problems that a person still reads one by one."""


def _tell_programs(manifest: str, settings: "Settings", terms: "Terms") -> "CheckedManifest":
    """Print one object, begun only when all is read: however many problems there are, they wait in a file."""
    import shutil  # noqa: PLC0415 (help is fast without)
    import tempfile  # noqa: PLC0415
    from itertools import chain, repeat  # noqa: PLC0415

    with tempfile.TemporaryFile("w+", encoding="utf-8", prefix="batchsubmit-") as problems:
        commas = chain([""], repeat(", "))

        def keep(problem: "Problem") -> None:
            problems.write(next(commas) + json.dumps(_problem_as_dict(problem)))

        inventory = asyncio.run(_take(manifest, settings, terms, keep))
        click.echo(json.dumps(_counts_as_dict(manifest, inventory))[:-1] + ', "problems": [', nl=False)
        problems.seek(0)
        shutil.copyfileobj(problems, sys.stdout)
        click.echo("]}")
    return inventory


def _terms(settings: "Settings", *, allow_duplicates: bool) -> "Terms":
    from datetime import UTC, datetime  # noqa: PLC0415 (help is fast without)

    from batchsubmit.manifest.check import Terms  # noqa: PLC0415
    from batchsubmit.outputs.templates import expand, placeholders_at  # noqa: PLC0415

    moment = placeholders_at(datetime.now(UTC), settings.submit)
    batch = expand(settings.submit.batch_id, moment, what="--batch-id")
    return Terms(batch=batch, allow_duplicates=allow_duplicates, moment=moment)


async def _take(
    manifest: str, settings: "Settings", terms: "Terms", found: "Callable[[Problem], object]"
) -> "CheckedManifest":
    from batchsubmit.aws import resolve_region  # noqa: PLC0415 (help is fast without)
    from batchsubmit.manifest.check import open_checked_manifest  # noqa: PLC0415

    checked = open_checked_manifest(manifest, settings, region=resolve_region(settings.aws), terms=terms, found=found)
    async with checked as (_, inventory):
        return inventory


def _verdict(manifest: str, inventory: "CheckedManifest") -> str:
    if inventory.problem_count:
        rows = (
            f" in {inventory.invalid_count:,} of {counted(inventory.row_count, 'row')}" if inventory.is_readable else ""
        )
        return f"{manifest}: {counted(inventory.problem_count, 'problem')}{rows}"
    if not inventory.row_count:
        return f"{manifest}: no rows under the header, so nothing to submit"
    jobs = counted(inventory.row_count, "job")
    return f"{manifest}: {jobs} in {counted(len(inventory.index.memberships), 'membership')}, all valid"


def _counts_as_dict(manifest: str, inventory: "CheckedManifest") -> dict[str, object]:
    return {
        "manifest": manifest,
        "rows": inventory.row_count,
        "valid": len(inventory.index),
        "memberships": len(inventory.index.memberships),
        "problem_count": inventory.problem_count,
        "warnings": [asdict(each) for each in inventory.warnings],
    }


def _problem_as_dict(problem: "Problem") -> dict[str, object]:
    return {
        "line": problem.line,
        "column": problem.column,
        "character": problem.character,
        "path": problem.path,
        "wrong": problem.wrong,
        "right": problem.right,
    }
