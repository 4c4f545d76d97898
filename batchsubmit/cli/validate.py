"""`batchsubmit validate`."""

import asyncio
import json
from dataclasses import asdict, replace
from itertools import chain, repeat

import click

from batchsubmit.aws import resolve_region
from batchsubmit.cli.options import command, json_option, manifest_options, tell_warnings
from batchsubmit.cli.output import say
from batchsubmit.config import Settings
from batchsubmit.errors import EXIT_USAGE
from batchsubmit.manifest.check import CheckedManifest, Terms, open_checked_manifest
from batchsubmit.schema import Problem
from batchsubmit.text import counted

_MANY = 20
"""Problems that a person still reads one by one."""


@command(
    ("every problem, as file:line:column", "batchsubmit validate jobs.csv"),
    ("with the request members that the settings fill in", "batchsubmit validate jobs.csv --config nightly.toml"),
    ("how many rows are wrong", "batchsubmit validate jobs.csv --json | jq .problem_count"),
    exits={0: "every row is valid", 2: "usage or settings wrong, or a row has a problem"},
)
@manifest_options
@json_option
def validate(manifest: str, settings: Settings, *, allow_duplicates: bool, as_json: bool) -> int:
    """List every problem of every row of MANIFEST as file:line:column; no call is made.

    Where there are many, the kinds of problem are counted on standard error. Exit status 2 where there is any.
    Warnings stand there too, and change no exit status.
    """
    opening = chain(['{"problems": ['], repeat(", "))

    def tell(problem: Problem) -> None:
        """Print it at once: there may be very many."""
        if as_json:
            click.echo(next(opening) + json.dumps({name: getattr(problem, name) for name in _MEMBERS}), nl=False)
        else:
            say(problem.located(), to_stdout=True)

    terms = replace(Terms.now(settings.submit, allow_duplicates=allow_duplicates), found=tell)
    inventory = asyncio.run(_check(manifest, settings, terms))
    if as_json:
        counts = json.dumps(_counts_as_dict(manifest, inventory))
        click.echo(f"{'' if inventory.problem_count else next(opening)}], {counts.removeprefix('{')}")
    say(_verdict(manifest, inventory))
    if inventory.problem_count > _MANY:
        say(*(f"  {kind.count:,} like {kind.first[0]}" for kind in inventory.alike.kinds.values()))
        if inventory.alike.others:
            say(f"  {inventory.alike.others:,} of other kinds")
    tell_warnings(inventory.warnings)
    return EXIT_USAGE if inventory.problem_count else 0


_MEMBERS = ("line", "column", "character", "path", "wrong", "right")


async def _check(manifest: str, settings: Settings, terms: Terms) -> CheckedManifest:
    checked = open_checked_manifest(manifest, settings, region=resolve_region(settings.aws), terms=terms)
    async with checked as (_, inventory):
        return inventory


def _verdict(manifest: str, inventory: CheckedManifest) -> str:
    if inventory.problem_count:
        rows = (
            f" in {inventory.invalid_count:,} of {counted(inventory.row_count, 'row')}" if inventory.is_readable else ""
        )
        return f"{manifest}: {counted(inventory.problem_count, 'problem')}{rows}"
    if not inventory.row_count:
        return f"{manifest}: no rows under the header, so nothing to submit"
    jobs = counted(inventory.row_count, "job")
    return f"{manifest}: {jobs} in {counted(len(inventory.index.memberships), 'membership')}, all valid"


def _counts_as_dict(manifest: str, inventory: CheckedManifest) -> dict[str, object]:
    return {
        "manifest": manifest,
        "rows": inventory.row_count,
        "valid": len(inventory.index),
        "memberships": len(inventory.index.memberships),
        "problem_count": inventory.problem_count,
        "warnings": [asdict(each) for each in inventory.warnings],
    }
