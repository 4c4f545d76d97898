"""The jobs of a manifest that a message points to: read from S3, checked as a whole, and submitted row by row."""

from collections.abc import Collection
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from batchsubmit.config import Settings
from batchsubmit.core.states import Action
from batchsubmit.errors import UsageError
from batchsubmit.log import get_logger
from batchsubmit.manifest.check import CheckedManifest, Terms, open_checked_manifest
from batchsubmit.manifest.file import FetchError
from batchsubmit.manifest.source import ManifestDelivery, ManifestSource
from batchsubmit.queue.acks import QueueLedger
from batchsubmit.queue.message import DeadLetter, Pointer
from batchsubmit.text import counted

if TYPE_CHECKING:
    from batchsubmit.manifest.index import Index

_DECIDED = frozenset({Action.NOTHING, Action.LEAVE_FAILED})


class ManifestMessage:
    """Manifests that were opened because of one pointer; close it when its jobs are decided."""

    def __init__(self) -> None:
        self.files = AsyncExitStack()
        self.accounts: dict[str, str] = {}
        self.under_way = 0
        self.has_unknown = False
        self._sources: list[ManifestSource] = []
        self._indexes: list[Index] = []
        self._undecided: list[str] | None = None

    def add(self, source: ManifestSource, checked: CheckedManifest) -> None:
        """Add one manifest."""
        self._sources.append(source)
        self._indexes.append(checked.index)
        self.accounts |= checked.accounts

    def waiting(self) -> Collection[str]:
        """The memberships with a row to take."""
        return {lane for source in self._sources for lane in source.waiting()}

    def waiting_jobs(self) -> int:
        """Count the rows not taken."""
        return sum(source.waiting_jobs() for source in self._sources)

    def take(self, membership: str) -> ManifestDelivery:
        """Take the next row of a membership that is waiting. Raises StoppedError."""
        source = next(source for source in self._sources if membership in source.waiting())
        delivery = source.take(membership)
        self.under_way += 1
        return delivery

    @property
    def is_busy(self) -> bool:
        """Whether rows are still to be taken or under way."""
        return bool(self.under_way or self.waiting_jobs())

    async def is_decided(self, ledger: QueueLedger) -> bool:
        """Whether every job is durably decided. The ledger is asked again only about those that were not."""
        if self.is_busy:
            return False
        if self._undecided is None:
            self._undecided = [key for index in self._indexes for key in index]
        keys = self._undecided
        actions = await ledger.actions(keys)
        self._undecided = [key for key, action in zip(keys, actions, strict=True) if action not in _DECIDED]
        return not self._undecided

    async def close(self) -> None:
        """Close the files."""
        await self.files.aclose()


async def open_manifests(
    pointer: Pointer, settings: Settings, *, region: str, ledger: QueueLedger
) -> ManifestMessage | DeadLetter:
    """Open the manifests of a pointer.

    Raises FetchError where S3 does not give one now, StoppedError where the ledger can no longer be relied on.
    """
    opened = ManifestMessage()
    async with AsyncExitStack() as files:
        for location in pointer.locations:
            opening = open_checked_manifest(location, settings, region=region, terms=Terms(batch=pointer.batch))
            try:
                _, reader, checked = await files.enter_async_context(opening)
            except FetchError:
                raise
            except UsageError as exc:
                return DeadLetter("InvalidManifest", str(exc))
            if checked.problems:
                return DeadLetter("InvalidManifest", _problems(checked))
            for warning in checked.warnings:
                get_logger().warning("checks.warning", reason=str(warning))
            actions = zip(checked.index, await ledger.actions(list(checked.index)), strict=True)
            # A row to be looked up is taken like the others: the engine claims it and looks it up.
            decision = {key: action if action in _DECIDED else Action.SUBMIT for key, action in actions}
            source = ManifestSource(reader, checked.index, batch=pointer.batch, decision=decision.__getitem__)
            opened.add(source, checked)
        opened.files = files.pop_all()
        return opened


def _problems(checked: CheckedManifest) -> str:
    more = checked.problem_count - 1
    return f"{checked.problems[0]}" + (f"; and {counted(more, 'more problem')}" if more else "")
