"""Failures grouped by reason, in the words of whoever refused: the service, or our own checks. Pure.

Jobs that ran to a bad end go by the code that AWS gave: it documents that the code is stable and the message is not. Of
those that were not accepted, messages that differ only in names, numbers and identifiers are one reason. The first
message of each is shown as it was said.
"""

import re
from dataclasses import dataclass, field

from batchsubmit.core.states import LOG_GROUP
from batchsubmit.report.export import reason_of
from batchsubmit.report.timeline import History

_VARYING = re.compile(
    r"arn:[^\s,;)'\"]+"  # ARNs
    r"|\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"  # UUIDs
    r"|'[^']*'|\"[^\"]*\"|\b(?=\w*\d)[\w.:/-]+"  # quoted names, and words with a digit in them
)
_MOST_EXAMPLES = 5

_ADVICE = {
    "InvalidRow": "Mend the rows: batchsubmit export LEDGER --failed-manifest MANIFEST writes them as a manifest.",
    "ValidationException": "The request is wrong: mend its row and submit it again, which makes it a new job.",
    "ResourceNotFoundException": "Something that the row names does not exist, in this region and account at least.",
    "AccessDeniedException": "The role may not use what the row names: allow it, then submit with --retry-failed.",
    "ConflictException": "The service was busy with something of the same name: submit again with --retry-failed.",
    "InputUnusable": "The trained model or the channel can not be used: make another and name it in the rows.",
    "NoAnswer": "None of the calls was accepted, as lookups proved: submit again with --retry-failed.",
    "CREATE_FAILED": "The job was accepted and failed while it ran: fix its row, or give it another --batch-id. "
    f"Its container's logs are in the CloudWatch log group {LOG_GROUP}.",
    "CANCEL_FAILED": "Somebody cancelled the job, and cancelling failed: look at it in the console.",
    "INACTIVE": "Somebody cancelled the job; another --batch-id submits it again.",
}


@dataclass(slots=True)
class Reason:
    """One reason, and how many jobs failed for it. `number` is its place in order of appearance.

    `status` is that of jobs that ran; `logs` says what of theirs did not reach CloudWatch, where AWS told.
    """

    number: int
    code: str
    message: str
    status: str
    logs: str = ""
    count: int = 0
    memberships: set[str] = field(default_factory=set)
    examples: list[str] = field(default_factory=list)

    @property
    def has_run(self) -> bool:
        """Whether the jobs were accepted, and failed while they ran."""
        return bool(self.status)

    @property
    def advice(self) -> str:
        """What to do about it, where that is known."""
        return _ADVICE.get(self.status or self.code, "")


class Reasons:
    """Groups failed jobs as they come."""

    def __init__(self) -> None:
        self._by_words: dict[tuple[str, str], Reason] = {}

    def add(self, history: History) -> int:
        """Take in a failed job; give the number of its reason."""
        state = history.state
        code, message = reason_of(history)
        status = state.status if state.bad_end else ""
        words = (status, state.bad_end) if status else (code, _VARYING.sub("…", message))
        reason = self._by_words.get(words)
        if reason is None:
            reason = self._by_words[words] = Reason(len(self._by_words), state.bad_end or code, message, status)
        reason.logs = reason.logs or state.logs
        reason.count += 1
        reason.memberships.add(history.state.membership)
        if len(reason.examples) < _MOST_EXAMPLES:
            reason.examples.append(history.state.name)
        return reason.number

    def __len__(self) -> int:
        return len(self._by_words)

    def most_frequent_first(self) -> list[Reason]:
        """All reasons."""
        return sorted(self._by_words.values(), key=lambda reason: (-reason.count, reason.number))
