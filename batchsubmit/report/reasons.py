"""Why jobs failed: failures that have the same reason, and how many there are. Pure."""

import re
from dataclasses import dataclass, field
from glob import escape

from batchsubmit.advice import FAILURE_ADVICE
from batchsubmit.core.job_states import JobState, Phase, State

_MOST_EXAMPLES = 5
_VARYING = re.compile(
    r"arn:[^\s,;)'\"]+"  # ARNs
    r"|\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"  # UUIDs
    r"|'[^']*'|\"[^\"]*\"|\b(?=\w*\d)[\w.:/-]+"  # quoted names, and words with a digit in them
)
_HAVE_CODES = frozenset({Phase.REJECTED, Phase.REFUSED, Phase.FINISHED})
_HAVE_MESSAGES = frozenset({Phase.REJECTED, Phase.FINISHED, Phase.UNKNOWN})


def reason_of(state: JobState) -> tuple[str, str]:
    """The code and message that still count: those of a refusal are over once the job is accepted."""
    code = state.code if state.phase in _HAVE_CODES else ""
    return code, state.message if state.phase in _HAVE_MESSAGES else ""


@dataclass(slots=True)
class Reason:
    """One reason, and how many jobs failed for it. `number` is its place in order of appearance.

    `status` is that of jobs that ran; `logs` says which of their logs did not reach CloudWatch, where AWS says so. `at`
    is when the jobs failed.
    """

    number: int
    code: str
    message: str
    status: str
    logs: str = ""
    count: int = 0
    at: list[float] = field(default_factory=list)
    memberships: set[str] = field(default_factory=set)
    examples: list[str] = field(default_factory=list)

    @property
    def state(self) -> State:
        """Where its jobs stand."""
        return State.of_end(self.status) if self.status else State.REJECTED

    @property
    def words(self) -> str:
        """Status, code and message, and what keeps the logs from being read."""
        words = ": ".join(dict.fromkeys(filter(None, (self.status, self.code, self.message))))
        return f"{words} ({self.logs})" if self.logs else words

    @property
    def kind(self) -> str:
        """The same without names, numbers and identifiers of jobs."""
        return ": ".join(dict.fromkeys(filter(None, (self.status, self.code, _VARYING.sub("…", self.message)))))

    @property
    def glob(self) -> str:
        """A pattern that its messages fit."""
        return "*".join(map(escape, _VARYING.split(self.message)))

    @property
    def advice(self) -> str:
        """What to do about it, where that is known."""
        return FAILURE_ADVICE.get(self.status or self.code, "")


class Reasons:
    """Groups failed jobs by reason as they come.

    Jobs that finished badly go by the code that AWS gave: it documents that the code is stable and the message is not.
    Of those that were not accepted, messages that differ only in names, numbers and identifiers are one reason. The
    first message of each is shown as it was received.
    """

    def __init__(self) -> None:
        self._by_words: dict[tuple[str, str], Reason] = {}

    def add(self, state: JobState, failed_at: float | None = None) -> int:
        """Take in a failed job; give the number of its reason."""
        code, message = reason_of(state)
        status = state.status if state.bad_end else ""
        words = (status, state.bad_end) if status else (code, _VARYING.sub("…", message))
        reason = self._by_words.get(words)
        if reason is None:
            reason = self._by_words[words] = Reason(len(self._by_words), state.bad_end or code, message, status)
        reason.logs = reason.logs or state.logs
        reason.count += 1
        reason.at.extend([] if failed_at is None else [failed_at])
        reason.memberships.add(state.membership)
        if len(reason.examples) < _MOST_EXAMPLES:
            reason.examples.append(state.name)
        return reason.number

    def retry_options(self, reason: Reason) -> list[str]:
        """The options of `retry` that choose exactly these jobs; empty where it takes none of them."""
        if reason.state is State.CANCELLED or not reason.code:
            return []
        alike = [each for each in self._by_words.values() if (each.state, each.code) == (reason.state, reason.code)]
        options = ["--status", str(reason.state), "--code", reason.code]
        return [*options, "--message", reason.glob] if len(alike) > 1 else options

    def most_frequent_first(self) -> list[Reason]:
        """All reasons."""
        return sorted(self._by_words.values(), key=lambda reason: (-reason.count, reason.number))
