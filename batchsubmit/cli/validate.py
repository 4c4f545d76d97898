"""`batchsubmit validate`."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchsubmit.cli.manual import manual
from batchsubmit.cli.options import allow_duplicates_option, config_option, json_option, read_settings
from batchsubmit.counting import counted
from batchsubmit.exits import EXIT_USAGE

if TYPE_CHECKING:
    from batchsubmit.config import Settings
    from batchsubmit.sources.inventory import Inventory


@click.command(
    epilog=manual(
        ("every problem, as file:line:column", "batchsubmit validate jobs.csv"),
        ("with the request members that the settings fill in", "batchsubmit validate jobs.csv --config nightly.toml"),
        ("how many rows are wrong", "batchsubmit validate jobs.csv --json | jq .problem_count"),
        exits={0: "every row is valid", 1: "", 2: "usage or settings wrong, or a row has a problem", 3: "", 4: ""},
    )
)
@click.argument("manifest", type=click.Path(allow_dash=True))
@config_option
@allow_duplicates_option
@json_option
def validate(manifest: str, config: Path | None, *, allow_duplicates: bool, as_json: bool) -> int:
    """List every problem of every row of MANIFEST as file:line:column; no call is made.

    The first hundred problems are printed, the others counted. Exit status 2 where there is any.
    """
    from batchsubmit.cli.heap import keep_large_blocks_apart  # noqa: PLC0415 (help is fast without)

    keep_large_blocks_apart()
    inventory = asyncio.run(_take(manifest, read_settings(config), allow_duplicates=allow_duplicates))
    if as_json:
        click.echo(json.dumps(_as_dict(manifest, inventory)))
    else:
        for problem in inventory.problems:
            click.echo(problem)
        more = inventory.problem_count - len(inventory.problems)
        if more:
            click.echo(f"... and {more:,} more")
    click.echo(_verdict(manifest, inventory), err=True)
    return EXIT_USAGE if inventory.problem_count else 0


async def _take(manifest: str, settings: "Settings", *, allow_duplicates: bool) -> "Inventory":
    from batchsubmit.region import resolve_region  # noqa: PLC0415 (help is fast without)
    from batchsubmit.sources.checked import open_checked_manifest  # noqa: PLC0415
    from batchsubmit.sources.inventory import Terms  # noqa: PLC0415

    checked = open_checked_manifest(
        manifest,
        settings,
        region=resolve_region(settings.aws),
        terms=Terms(allow_duplicates=allow_duplicates),
    )
    async with checked as (_, _, inventory):
        return inventory


def _verdict(manifest: str, inventory: "Inventory") -> str:
    if inventory.problem_count:
        rows = (
            f" in {inventory.invalid_count:,} of {counted(inventory.row_count, 'row')}" if inventory.is_readable else ""
        )
        return f"{manifest}: {counted(inventory.problem_count, 'problem')}{rows}"
    if not inventory.row_count:
        return f"{manifest}: no rows under the header, so nothing to submit"
    jobs = counted(inventory.row_count, "job")
    return f"{manifest}: {jobs} in {counted(len(inventory.index.memberships), 'membership')}, all valid"


def _as_dict(manifest: str, inventory: "Inventory") -> dict[str, object]:
    return {
        "manifest": manifest,
        "rows": inventory.row_count,
        "valid": len(inventory.index),
        "memberships": len(inventory.index.memberships),
        "problem_count": inventory.problem_count,
        "problems": [
            {
                "line": each.line,
                "column": each.column,
                "path": each.path,
                "wrong": each.wrong,
                "right": each.right,
            }
            for each in inventory.problems
        ],
    }
