"""The one question that is ever asked: whether to go on. Only of a person at a terminal."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchsubmit.cli.options import telling_problems

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchsubmit.config import Settings
    from batchsubmit.run import SubmitOptions


def somebody_is_there() -> bool:
    """Whether a person sits at both ends: reads what is asked, and can answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def may_go_on(options: "SubmitOptions", settings: "Settings") -> bool:
    """Show the plan in short and wait for an answer; where nothing is to do, nothing is asked.

    Raises ManifestError and the like, as the run itself would.
    """
    if _can_be_read_twice(options.manifest):
        from batchsubmit.cli.plan_words import short_plan  # noqa: PLC0415 (help is fast without)
        from batchsubmit.planning import PlanOptions  # noqa: PLC0415
        from batchsubmit.planning import plan as make_plan  # noqa: PLC0415

        with telling_problems():
            plan = asyncio.run(make_plan(PlanOptions.of(options), settings, quick=True))
        if not plan.prospect.to_do:
            return True
        words: Iterator[str] = short_plan(plan)
    else:
        words = iter([f"{options.manifest} is read once only, so its jobs cannot be shown before"])
    for line in words:
        click.echo(line, err=True)
    return click.confirm("Go on?", err=True)


def _can_be_read_twice(manifest: str) -> bool:
    """A pipe is gone once it was read."""
    return manifest.startswith("s3://") or Path(manifest).is_file() or not Path(manifest).exists()
