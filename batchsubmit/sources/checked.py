"""A manifest opened and checked as a whole: what `submit` sends from and what `validate` reports."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from batchsubmit.config import Settings
from batchsubmit.manifest.check import Inventory, Terms, take_inventory
from batchsubmit.manifest.file import Spooled, open_manifest
from batchsubmit.manifest.rows import Problem, Reader
from batchsubmit.schema import RequestChecker
from batchsubmit.sources.open import open_reader


@asynccontextmanager
async def open_checked_manifest(
    manifest: str,
    settings: Settings,
    *,
    region: str | None,
    terms: Terms,
    is_stopped: Callable[[], bool] = lambda: False,
    found: Callable[[Problem], object] = lambda _: None,
) -> AsyncIterator[tuple[Spooled, Reader, Inventory]]:
    """Open a manifest and check all of it. Raises UsageError, StoppedError.

    Problems of rows are counted in the inventory; each goes to `found`, in another thread.
    """
    async with open_manifest(manifest, region=region) as spooled:
        reader, inventory = await check_manifest(
            spooled, settings, region=region, terms=terms, is_stopped=is_stopped, found=found
        )
        yield spooled, reader, inventory


async def check_manifest(
    spooled: Spooled,
    settings: Settings,
    *,
    region: str | None,
    terms: Terms,
    is_stopped: Callable[[], bool] = lambda: False,
    found: Callable[[Problem], object] = lambda _: None,
) -> tuple[Reader, Inventory]:
    """Check all of a manifest that is open. Raises UsageError, StoppedError; problems of rows are in the inventory."""
    checker = RequestChecker(region=region, own_tag=settings.submit.tag_jobs)
    terms = replace(terms, foreign_arns=settings.checks.foreign_arns)
    reader = open_reader(spooled, defaults=settings.defaults, checker=checker, run=terms.run)
    inventory = await asyncio.to_thread(take_inventory, reader, terms, is_stopped=is_stopped, found=found)
    return reader, inventory
