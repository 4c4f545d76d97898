"""The settings of the sandbox: quotas, durations, failures. Values only; it must not know who uses them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Self

import msgspec

_NEVER_NEGATIVE = ("per_", "job_", "cancel_", "pending_", "list_", "start", "reads_")


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """How the sandbox behaves. Every duration is in seconds, every probability between 0 and 1."""

    pending_seconds: float = 0.1
    """How long a job stays `CREATE_PENDING`. It holds its slot meanwhile."""
    job_seconds: float = 2.0
    """The mean time a job then spends `CREATE_IN_PROGRESS`."""
    job_sigma: float = 0.0
    """The sigma of a log-normal `job_seconds`; 0 for jobs that all take the same time."""
    cancel_seconds: float = 0.2
    """How long it then stays `CANCEL_IN_PROGRESS`."""
    per_membership: int = 5
    """Pending or running jobs of one membership; 0 for no quota."""
    per_account: int = 10
    """Pending or running jobs of one account; 0 for no quota."""
    starts_per_second: float = 1.0
    """StartTrainedModelInferenceJob calls a second, by AWS's page "Quotas for Clean Rooms ML"; 0 for no limit."""
    start_burst: int = 3
    """How many of them may come at once after a pause, from the same page."""
    reads_per_second: float = 50.0
    """GetTrainedModelInferenceJob calls a second, from the same page; 0 for no limit. That List has the same limit, and
    that as many may come at once, are assumptions."""
    tells_quota: bool = True
    """Whether a refusal for a quota carries its name and value."""
    other_quotas: Mapping[str, str] = field(default_factory=dict)
    """Memberships in which a quota of this name, not one of slots, refuses every Start: its value is 0."""
    denied: frozenset[str] = frozenset()
    """Memberships, job names, and ARNs of models, channels and associations with which a Start is denied."""
    failure_probability: float = 0.0
    """The share of jobs that end as `CREATE_FAILED`."""
    failing_names: frozenset[str] = frozenset()
    """Names of jobs that always end as `CREATE_FAILED`."""
    failure_messages: Mapping[str, str] = field(default_factory=dict)
    """What statusDetails says of jobs that fail, by name; its code stays. Of every other one, the usual words."""
    unpublished: str = ""
    """Why logs and metrics of jobs do not reach CloudWatch; empty: they do."""
    list_lag_seconds: float = 0.0
    """How long an accepted job is missing from List; Get by ARN finds it at once."""
    missing_inputs: frozenset[str] = frozenset()
    """ARNs of trained models and ML input channels that do not exist. Every other one does."""
    input_statuses: Mapping[str, str] = field(default_factory=dict)
    """Status of trained models and ML input channels by ARN. Every other one is `ACTIVE`."""
    creating_seconds: Mapping[str, float] = field(default_factory=dict)
    """For how long trained models and ML input channels are still being created, by ARN, once the settings are set."""
    retention_days: int = 30
    """`retentionInDays` of every ML input channel; none goes by itself after them."""
    channel_age_days: float = 0.0
    """How long before the sandbox began its channels were created."""
    access_budgets: Mapping[str, int] = field(default_factory=dict)
    """What is left of the access budget of the table behind an ML input channel, by ARN; no job uses it up."""
    memberships: tuple[str, ...] = tuple(
        f"{digit * 8}-{digit * 4}-4{digit * 3}-8{digit * 3}-{digit * 12}" for digit in "123"
    )
    """Those that ListMemberships shows. Others can be used as well."""
    seed: int | None = None
    """Makes job ids, durations and failures repeatable."""

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing, with their name."""
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name.endswith("_probability") and not 0 <= value <= 1:
                raise ValueError(f"{item.name} must be between 0 and 1, not {value}")
            if item.name.startswith(_NEVER_NEGATIVE) and not value >= 0:
                raise ValueError(f"{item.name} must not be negative")

    def changed(self, changes: Mapping[str, object]) -> Self:
        """Return these settings with the changes of a JSON object. Raises ValueError that says what does not fit."""
        known = [item.name for item in fields(self)]
        for name in changes:
            if name not in known:
                raise ValueError(f"unknown setting {name!r}; known are {', '.join(known)}")
        try:
            return msgspec.convert({**asdict(self), **changes}, type(self))
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from error
