"""The closing account of a run: counts, what is left, what to do next, and the exit status that follows. Pure."""

from dataclasses import asdict, dataclass, field
from typing import Any

from batchsubmit.errors import status_of_work
from batchsubmit.schema import RowWarning


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownJob:
    """A job that may or may not run on the service."""

    job: str
    membership: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One run in numbers.

    Every row of the manifest is in exactly one of the counts from `submitted` to `left`. `unknown_elsewhere` are jobs
    of the ledger whose rows the manifest no longer has. `finished_*` are among the submitted.
    """

    run: str
    batch: str
    manifest: str
    ledger: str
    rows: int
    submitted: int
    submitted_before: int
    failed: int
    failed_before: int
    invalid: int
    unknown: int
    left: int
    unknown_elsewhere: int
    finished_well: int
    finished_badly: int
    refused_by_quota: int
    throttled: int
    seconds: float
    is_waited_for: bool = False
    stop_reason: str = ""
    stop_message: str = ""
    unknown_jobs: tuple[UnknownJob, ...] = ()
    warnings: tuple[RowWarning, ...] = ()
    """What the rows may not mean, each kind once; it changes no exit status."""
    held_by_others: dict[str, str] = field(default_factory=dict)
    """How much of which quota others seemed to use at the end, while jobs waited for it: `account` or a membership."""
    held: dict[str, str] = field(default_factory=dict)
    """The quotas, not of slots, that held lanes at the end, by membership: the service's name and value."""
    waits_for: dict[str, str] = field(default_factory=dict)
    """The trained models and channels that jobs still waited for at the end, and their status."""
    bad_ends: dict[str, int] = field(default_factory=dict)
    """The jobs that finished badly, by the code that AWS gave (their status where it gave none)."""
    refused_by: dict[str, float | None] = field(default_factory=dict)
    """The quotas that refused calls, by the service's name (empty where it told none), and their values."""

    @property
    def exit_status(self) -> int:
        """The contract's exit status: what remains to be done outranks what failed."""
        return status_of_work(
            left=self.stop_reason or self.unknown or self.unknown_elsewhere or self.left or self.not_seen_to_end,
            failed=self.failed or self.failed_before or self.invalid or (self.is_waited_for and self.finished_badly),
        )

    @property
    def not_seen_to_end(self) -> int:
        """Accepted jobs whose end a run that waits for ends has not seen."""
        accepted = self.submitted + self.submitted_before
        return max(accepted - self.finished_well - self.finished_badly, 0) if self.is_waited_for else 0

    def counts(self) -> dict[str, int]:
        """The counts alone, as the ledger's last line of a run has them."""
        return {name: value for name, value in asdict(self).items() if type(value) is int}

    def as_dict(self) -> dict[str, Any]:
        """The JSON summary: the same names, and the exit status."""
        return {**asdict(self), "exit_status": self.exit_status}
