"""The jobs of a manifest that a message points to: read from S3, checked as a whole, and submitted row by row."""

import gzip
from collections.abc import Callable
from contextlib import AsyncExitStack

from botocore.exceptions import BotoCoreError

from batchsubmit.config import Settings
from batchsubmit.core.job_states import Action
from batchsubmit.core.source import Ending
from batchsubmit.errors import UsageError
from batchsubmit.log import get_logger
from batchsubmit.manifest.check import CheckedManifest, Terms, check_manifest
from batchsubmit.manifest.file import FetchError, open_manifest
from batchsubmit.manifest.source import ManifestDelivery, ManifestSource
from batchsubmit.queue.acks import QueueLedger
from batchsubmit.queue.message import DeadLetter
from batchsubmit.queue.s3_event import Pointer
from batchsubmit.text import counted


class ManifestMessage(ManifestSource):
    """A manifest's rows; close its `file` once they are decided.

    `let_go` is called with the key of each job that is no longer under way.
    """

    def __init__(
        self, checked: CheckedManifest, batch: str, actions: dict[str, Action], let_go: Callable[[str], None]
    ) -> None:
        # A row to be looked up is taken like the others: the engine claims it and looks it up.
        decision = {key: action if action is Action.NOTHING else Action.SUBMIT for key, action in actions.items()}
        super().__init__(checked.index, batch=batch, decision=decision.__getitem__, on_ended=self._ended)
        self._let_go = let_go
        self._undecided = list(actions)
        self.file = AsyncExitStack()
        self.rows = len(actions)
        self.under_way = 0
        self.has_unknown = False

    def _ended(self, key: str, how: Ending) -> None:
        """Note that a row is no longer under way. One that is unknown sends the message back for long, at the end."""
        self.has_unknown |= how is Ending.UNKNOWN
        self.under_way -= 1
        self._let_go(key)

    def take(self, membership: str) -> ManifestDelivery:
        """Take the next row of a membership that is waiting. Raises StoppedError."""
        delivery = super().take(membership)
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
        actions = zip(self._undecided, await ledger.actions(self._undecided), strict=True)
        self._undecided = [key for key, action in actions if action is not Action.NOTHING]
        return not self._undecided


async def open_manifest_message(
    pointer: Pointer, settings: Settings, *, region: str, ledger: QueueLedger, let_go: Callable[[str], None]
) -> ManifestMessage | DeadLetter:
    """Open the manifest of a pointer.

    Raises FetchError where it cannot be had now, StoppedError where the ledger can no longer be relied on.
    """
    async with AsyncExitStack() as file:
        try:
            opening = open_manifest(pointer.location, region=region, version=pointer.version)
            spooled = await file.enter_async_context(opening)
            checked = await check_manifest(spooled, settings, region=region, terms=Terms(batch=pointer.batch))
        except (UsageError, OSError) as exc:
            if _is_local(exc):
                raise FetchError(str(exc)) from exc
            return DeadLetter("InvalidManifest", str(exc))
        if checked.problems:
            left = checked.problem_count - 1
            more = f"; and {counted(left, 'more problem')}" if left else ""
            return DeadLetter("InvalidManifest", f"{checked.problems[0]}{more}")
        _warn(pointer, spooled.etag, checked)
        keys = list(checked.index)
        actions = dict(zip(keys, await ledger.actions(keys), strict=True))
        opened = ManifestMessage(checked, pointer.batch, actions, let_go)
        opened.file = file.pop_all()
        return opened


def _is_local(exc: Exception) -> bool:
    """Whether disk, files, network or configuration of this machine failed, and not the manifest."""
    cause = exc if isinstance(exc, OSError) else exc.__cause__
    if isinstance(exc, FetchError) or type(cause) is ValueError:  # botocore's of an endpoint
        return True
    return isinstance(cause, OSError | BotoCoreError) and not isinstance(cause, gzip.BadGzipFile)


def _warn(asked: Pointer, etag: str, checked: CheckedManifest) -> None:
    for warning in checked.warnings:
        get_logger().warning("checks.warning", reason=str(warning))
    if asked.etag and not asked.version and asked.etag != etag:
        reason = (
            "the object was written again after the event that this message is: the jobs of the earlier one are not "
            "submitted; turn versioning of the bucket on"
        )
        get_logger().warning("manifest.replaced", manifest=asked.location, etag=asked.etag, now=etag, reason=reason)
