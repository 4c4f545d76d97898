"""The jobs of a manifest that a message points to: read from S3, checked as a whole, and submitted row by row."""

from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from batchsubmit.config import Settings
from batchsubmit.core.states import Action
from batchsubmit.errors import UsageError
from batchsubmit.log import get_logger
from batchsubmit.manifest.check import CheckedManifest, Terms, open_checked_manifest
from batchsubmit.manifest.file import FetchError
from batchsubmit.manifest.source import ManifestDelivery, ManifestSource
from batchsubmit.queue.ledger import QueueLedger
from batchsubmit.queue.message import Pointer, Poison
from batchsubmit.text import counted

if TYPE_CHECKING:
    from batchsubmit.manifest.index import Index

_DECIDED = frozenset({Action.NOTHING, Action.LEAVE_FAILED})


class ManifestMessage:
    """Manifests that were opened because of one pointer; close it when its jobs are decided."""

    def __init__(self, key: str) -> None:
        self.key = key
        self._stack = AsyncExitStack()
        self._sources: list[tuple[ManifestSource, Index]] = []
        self.accounts: dict[str, str] = {}
        self.under_way = 0
        self.has_unknown = False
        self._open_keys: list[str] | None = None

    def own(self, stack: AsyncExitStack) -> None:
        """Take over what is open, to close it."""
        self._stack = stack

    def add(self, source: ManifestSource, inventory: CheckedManifest) -> None:
        """Take in one manifest."""
        self._sources.append((source, inventory.index))
        self.accounts |= inventory.accounts

    def waiting(self) -> Collection[str]:
        """The memberships with a row to take."""
        return {lane for source, _ in self._sources for lane in source.waiting()}

    def waiting_jobs(self) -> int:
        """Rows not taken."""
        return sum(source.waiting_jobs() for source, _ in self._sources)

    def take(self, membership: str) -> ManifestDelivery:
        """Take the next row of a membership that is waiting. Raises StoppedError."""
        source = next(source for source, _ in self._sources if membership in source.waiting())
        delivery = source.take(membership)
        self.under_way += 1
        return delivery

    def request_of(self, key: str) -> Mapping[str, Any] | None:
        """Give the request of a row that is held back."""
        found = (source.request_of(key) for source, _ in self._sources)
        return next((request for request in found if request is not None), None)

    def reinstate(self, key: str) -> None:
        """Let a row that is held back be taken."""
        for source, _ in self._sources:
            source.reinstate(key)

    @property
    def is_busy(self) -> bool:
        """Whether rows are still to be taken or under way."""
        return bool(self.under_way or self.waiting_jobs())

    async def is_decided(self, books: QueueLedger) -> bool:
        """Whether every job is durably decided. Those that were found to be so once are not asked for again."""
        if self.is_busy:
            return False
        if self._open_keys is None:
            self._open_keys = [key for _, index in self._sources for key in index]
        keys = self._open_keys
        actions = await books.standing(keys)
        self._open_keys = [key for key, action in zip(keys, actions, strict=True) if action not in _DECIDED]
        return not self._open_keys

    async def close(self) -> None:
        """Close the files."""
        await self._stack.aclose()


async def expand(pointer: Pointer, settings: Settings, *, region: str, books: QueueLedger) -> ManifestMessage | Poison:
    """Open the manifests of a pointer.

    Raises FetchError where S3 does not give one now, StoppedError where the ledger can no longer be relied on.
    """
    async with AsyncExitStack() as stack:
        expansion = ManifestMessage(pointer.key)
        for location in pointer.locations:
            checked = open_checked_manifest(location, settings, region=region, terms=Terms(batch=pointer.batch))
            try:
                _, reader, inventory = await stack.enter_async_context(checked)
            except FetchError:
                raise
            except UsageError as exc:
                return Poison("InvalidManifest", str(exc))
            if inventory.problems:
                return Poison("InvalidManifest", _told(inventory))
            for warning in inventory.warnings:
                get_logger().warning("checks.warning", reason=str(warning))
            actions = dict(zip(inventory.index, await books.standing(list(inventory.index)), strict=True))
            for key, action in actions.items():
                if action is Action.LOOK_UP:
                    actions[key] = Action.SUBMIT  # handed out like the others: the engine claims it and looks it up
            source = ManifestSource(reader, inventory.index, batch=pointer.batch, decision=actions.__getitem__)
            expansion.add(source, inventory)
        expansion.own(stack.pop_all())
        return expansion


def _told(inventory: CheckedManifest) -> str:
    more = inventory.problem_count - 1
    return f"{inventory.problems[0]}" + (f"; and {counted(more, 'more problem')}" if more else "")
