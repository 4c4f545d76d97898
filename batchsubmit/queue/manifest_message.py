"""The jobs of a manifest that a message points to: read from S3, checked as a whole, and submitted row by row."""

import gzip
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack

from botocore.exceptions import BotoCoreError

from batchsubmit.config import Settings
from batchsubmit.core.source import Ending
from batchsubmit.core.states import Action
from batchsubmit.errors import UsageError
from batchsubmit.log import get_logger
from batchsubmit.manifest.check import CheckedManifest, Terms, check_manifest
from batchsubmit.manifest.file import FetchError, open_manifest
from batchsubmit.manifest.source import ManifestDelivery, ManifestSource
from batchsubmit.queue.acks import QueueLedger
from batchsubmit.queue.message import DeadLetter, Pointer, S3Object
from batchsubmit.text import counted

_DECIDED = frozenset({Action.NOTHING, Action.LEAVE_FAILED})


class ManifestMessage:
    """Manifests that were opened because of one pointer; close its files when its jobs are decided.

    `let_go` is called with the key of each job that is no longer under way.
    """

    def __init__(self, let_go: Callable[[str], None]) -> None:
        self._let_go = let_go
        self.files = AsyncExitStack()
        self.accounts: dict[str, str] = {}
        self.rows = 0
        self.under_way = 0
        self.has_unknown = False
        self._sources: list[ManifestSource] = []
        self._undecided: list[str] = []

    def add(self, source: ManifestSource, checked: CheckedManifest) -> None:
        """Add one manifest."""
        self._sources.append(source)
        self._undecided += checked.index
        self.rows += len(checked.index)
        self.accounts |= checked.accounts

    def ended(self, key: str, how: Ending) -> None:
        """Note that a row is no longer under way. One that is unknown sends the message back for long, at the end."""
        self.has_unknown |= how is Ending.UNKNOWN
        self.under_way -= 1
        self._let_go(key)

    def waiting(self) -> Collection[str]:
        """The memberships with a row to take."""
        return {lane for source in self._sources for lane in source.waiting()}

    def waiting_jobs(self) -> int:
        """Count the rows not taken."""
        return sum(source.waiting_jobs() for source in self._sources)

    def take(self, membership: str) -> ManifestDelivery:
        """Take the next row of a membership that is waiting. Raises StoppedError."""
        delivery = next(each for each in self._sources if membership in each.waiting()).take(membership)
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
        keys = self._undecided
        actions = await ledger.actions(keys)
        self._undecided = [key for key, action in zip(keys, actions, strict=True) if action not in _DECIDED]
        return not self._undecided


async def open_manifests(
    pointer: Pointer, settings: Settings, *, region: str, ledger: QueueLedger, let_go: Callable[[str], None]
) -> ManifestMessage | DeadLetter:
    """Open the manifests of a pointer.

    Raises FetchError where one cannot be had now, StoppedError where the ledger can no longer be relied on.
    """
    opened, terms = ManifestMessage(let_go), Terms(batch=pointer.batch)
    async with AsyncExitStack() as files:
        for each in pointer.objects:
            try:
                spooled = await files.enter_async_context(
                    open_manifest(each.location, region=region, version=each.version)
                )
                checked = await check_manifest(spooled, settings, region=region, terms=terms)
            except (UsageError, OSError) as exc:
                if _is_local(exc):
                    raise FetchError(str(exc)) from exc
                return DeadLetter("InvalidManifest", str(exc))
            if checked.problems:
                more = (
                    f"; and {counted(checked.problem_count - 1, 'more problem')}" if checked.problem_count > 1 else ""
                )
                return DeadLetter("InvalidManifest", f"{checked.problems[0]}{more}")
            _warn(each, spooled.etag, checked)
            actions = zip(checked.index, await ledger.actions(list(checked.index)), strict=True)
            # A row to be looked up is taken like the others: the engine claims it and looks it up.
            decision = {key: action if action in _DECIDED else Action.SUBMIT for key, action in actions}
            source = ManifestSource(
                checked.index, batch=pointer.batch, decision=decision.__getitem__, on_ended=opened.ended
            )
            opened.add(source, checked)
        opened.files = files.pop_all()
        return opened


def _is_local(exc: Exception) -> bool:
    """Whether disk, files, network or configuration of this machine failed, and not the manifest."""
    cause = exc if isinstance(exc, OSError) else exc.__cause__
    if isinstance(exc, FetchError) or type(cause) is ValueError:  # botocore's of an endpoint
        return True
    return isinstance(cause, OSError | BotoCoreError) and not isinstance(cause, gzip.BadGzipFile)


def _warn(asked: S3Object, etag: str, checked: CheckedManifest) -> None:
    for warning in checked.warnings:
        get_logger().warning("checks.warning", reason=str(warning))
    if asked.etag and not asked.version and asked.etag != etag:
        reason = (
            "the object was written again after the event that this message is: the jobs of the earlier one are not "
            "submitted; turn versioning of the bucket on"
        )
        get_logger().warning("manifest.replaced", manifest=asked.location, etag=asked.etag, now=etag, reason=reason)
