"""`batchsubmit doctor`."""

import asyncio
import json
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from shutil import get_terminal_size
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from batchsubmit.cli.main import manual
from batchsubmit.cli.options import config_option, json_option, read_settings
from batchsubmit.cli.output import say
from batchsubmit.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED
from batchsubmit.text import agreeing, counted

if TYPE_CHECKING:
    from batchsubmit.app.after_run import AfterRun
    from batchsubmit.app.doctor import Finding
    from batchsubmit.app.run import SubmitOptions
    from batchsubmit.config import Settings

_MARKS = {"good": "✓", "wrong": "✗", "unasked": "–", "untried": "–"}  # noqa: RUF001 (a dash)
_WIDEST = 100


@click.command(
    epilog=manual(
        ("is all in place for this manifest?", "batchsubmit doctor jobs.csv"),
        (
            "with the queue, table, bucket and topic of a worker's or a night's settings",
            "batchsubmit doctor --config nightly.toml",
        ),
        exits={
            0: "all that could be tried works",
            1: "something does not work (✗)",
            3: "something could not be asked",
            4: "",
        },
    )
)
@click.argument("manifest", type=click.Path(allow_dash=True), required=False)
@click.option("--ledger", type=click.Path(), metavar="LEDGER", help="The ledger that submit will be given.")
@click.option("--batch-id", metavar="TEXT", help="The word that submit will be given.")
@config_option
@json_option
def doctor(
    manifest: str | None, ledger: str | None, batch_id: str | None, config: Path | None, *, as_json: bool
) -> int:
    """Check what a run needs: identity, clock, permissions, quotas, disk, queue, table, bucket and topic.

    With MANIFEST, its rows, trained models and channels too. It starts no job, sends no message and writes nothing that
    stays.
    """
    from batchsubmit.app.run import submit_options  # noqa: PLC0415 (help is fast without)
    from batchsubmit.cli.submit import after_run_of  # noqa: PLC0415

    settings = read_settings(config, {"submit__ledger": ledger, "submit__batch_id": batch_id})
    options = submit_options(settings, datetime.now(UTC), manifest=manifest or "jobs.csv")
    after = after_run_of(settings, options)
    found = asyncio.run(_examine(options, after, settings, has_manifest=manifest is not None, prints=not as_json))
    states = Counter(str(each.state) for each in found)
    status = EXIT_FAILED if states["wrong"] else EXIT_STOPPED if states["unasked"] else EXIT_DONE
    if as_json:
        click.echo(json.dumps({"checks": [asdict(each) for each in found], "exit_status": status}))
    say(_verdict(states, manifest))
    return status


async def _examine(
    options: "SubmitOptions", after: "AfterRun | None", settings: "Settings", *, has_manifest: bool, prints: bool
) -> list["Finding"]:
    from batchsubmit.app.doctor import examine  # noqa: PLC0415 (help is fast without)

    found = []
    async for finding in examine(options, after, settings, has_manifest=has_manifest):
        found.append(finding)
        if prints:
            _print(finding)
    return found


def _print(finding: "Finding") -> None:
    """Print a finding, what follows its first line under it."""
    width = min(get_terminal_size().columns, _WIDEST) - 1
    text = f"{_MARKS[finding.state]} {finding.check}: {finding.detail}"
    for line in wrap(text, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False):
        say(line, to_stdout=True)


def _verdict(states: Counter[str], manifest: str | None) -> str:
    if wrong := states["wrong"]:
        what = f"{counted(wrong, 'check')} of {states.total()} {agreeing(wrong, 'does', 'do')} not work"
        return f"{what}: fix the lines with ✗"
    if states["unasked"]:
        return f"{counted(states['unasked'], 'check')} could not be asked: run this again"
    return f"All that could be tried works. Next: batchsubmit {f'plan {manifest}' if manifest else 'doctor MANIFEST'}"
