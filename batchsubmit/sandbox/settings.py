"""The settings of the sandbox: quotas, durations, failures. Values only; it must not know who uses them."""

from collections.abc import Mapping
from typing import Annotated, Self, TypeAlias

import msgspec

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
Amount: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]


class SandboxSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the sandbox behaves. Every duration is in seconds. What comes from outside is given to `changed`."""

    pending_seconds: Amount = 0.1
    """How long a job stays `CREATE_PENDING`. It holds its slot meanwhile."""
    job_seconds: Amount = 2.0
    """The mean time a job then spends `CREATE_IN_PROGRESS`."""
    job_sigma: Amount = 0.0
    """The sigma of a log-normal `job_seconds`; 0 for jobs that all take the same time."""
    cancel_seconds: Amount = 0.2
    """How long it then stays `CANCEL_IN_PROGRESS`."""
    per_membership: Count = 5
    """Pending or running jobs of one membership; 0 for no quota."""
    per_account: Count = 10
    """Pending or running jobs of one account; 0 for no quota."""
    starts_per_second: Amount = 1.0
    """StartTrainedModelInferenceJob calls a second, by AWS's page "Quotas for Clean Rooms ML"; 0 for no limit."""
    start_burst: Count = 3
    """How many of them may come at once after a pause, from the same page."""
    reads_per_second: Amount = 50.0
    """GetTrainedModelInferenceJob calls a second, from the same page; 0 for no limit. That List has the same limit, and
    that as many may come at once, are assumptions."""
    tells_quota: bool = True
    """Whether a refusal for a quota carries its name and value."""
    other_quotas: Mapping[str, str] = {}
    """Memberships in which a quota of this name, not one of slots, refuses every Start: its value is 0."""
    denied: frozenset[str] = frozenset()
    """Memberships, job names, and ARNs of models, channels and associations with which a Start is denied."""
    failure_probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """The share of jobs that end as `CREATE_FAILED`."""
    failing_names: frozenset[str] = frozenset()
    """Names of jobs that always end as `CREATE_FAILED`."""
    failure_messages: Mapping[str, str] = {}
    """What statusDetails says of jobs that fail, by name; its code stays. Of every other one, the usual words."""
    unpublished: str = ""
    """Why logs and metrics of jobs do not reach CloudWatch; empty: they do."""
    list_lag_seconds: Amount = 0.0
    """How long an accepted job is missing from List; Get by ARN finds it at once."""
    missing_inputs: frozenset[str] = frozenset()
    """ARNs of trained models and ML input channels that do not exist. Every other one does."""
    input_statuses: Mapping[str, str] = {}
    """Status of trained models and ML input channels by ARN. Every other one is `ACTIVE`."""
    creating_seconds: Mapping[str, float] = {}
    """For how long trained models and ML input channels are still being created, by ARN, once the settings are set."""
    retention_days: int = 30
    """`retentionInDays` of every ML input channel; none goes by itself after them."""
    channel_age_days: float = 0.0
    """How long before the sandbox began its channels were created."""
    access_budgets: Mapping[str, int] = {}
    """What is left of the access budget of the table behind an ML input channel, by ARN; no job uses it up."""
    memberships: tuple[str, ...] = tuple(
        f"{digit * 8}-{digit * 4}-4{digit * 3}-8{digit * 3}-{digit * 12}" for digit in "123"
    )
    """Those that ListMemberships shows. Others can be used as well."""
    seed: int | None = None
    """Makes job ids, durations and failures repeatable."""

    def changed(self, changes: Mapping[str, object]) -> Self:
        """Return these settings with the changes of a JSON object. Raises ValueError that says what does not fit."""
        return msgspec.convert({**msgspec.structs.asdict(self), **changes}, type(self))
