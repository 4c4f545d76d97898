"""The settings: flags over `BATCHSUBMIT_*` variables over a TOML file over the defaults, read once, then frozen.

AWS itself is not configured here but where every AWS program finds it: `AWS_*`, profiles, roles.
"""

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from batchsubmit.errors import UsageError
from batchsubmit.text import bare, nearest

ENV_PREFIX = "BATCHSUBMIT_"
SETTINGS_FILE = "batchsubmit.toml"
"""Taken from the current folder by the commands, where no other file is named."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _bare(cls, value: object, info: ValidationInfo) -> object:
        """Texts name things: batch, ledger, queue, region. A secret is taken as it stands."""
        name = str(info.field_name)
        if isinstance(value, list | tuple):
            return [bare(each, name) if isinstance(each, str) else each for each in value]
        return bare(value, name) if isinstance(value, str) and name != "webhook_secret" else value


def checked_text(text: str, what: str) -> str:
    """Do the same with a text that comes from elsewhere. Raises UsageError."""
    try:
        return bare(text, what)
    except ValueError as exc:
        raise UsageError(str(exc)) from None


Seconds = Annotated[float, Field(gt=0)]
CallsPerSecond = Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)]
ForeignArns = Literal["warn", "error", "allow"]


class RateSettings(_Section):
    """How often we call."""

    max_per_second: CallsPerSecond = Field(
        default=1.0,
        description="StartTrainedModelInferenceJob calls a second, after three at once; 0 for no limit. The default is "
        "AWS's limit for an account and region (its page Quotas for Clean Rooms ML): several workers share it",
    )
    reads_per_second: CallsPerSecond = Field(
        default=40.0,
        description="List and Get calls a second, apart from the calls above; 0 for no limit. The same page allows 50 "
        "GetTrainedModelInferenceJob calls a second; that it is so for List is an assumption",
    )


class SlotSettings(_Section):
    """How many jobs may be pending or running at once, and how closely that is watched."""

    per_membership: int = Field(default=0, ge=0, description="slots of a membership, 0 to learn them")
    per_account: int = Field(default=0, ge=0, description="slots of an account, 0 to learn them")
    min_poll_seconds: Seconds = Field(
        default=1.0, description="seconds at least between two polls of a membership, or two tries of a full lane"
    )
    max_poll_seconds: Seconds = Field(
        default=3600.0,
        description="seconds at most between two polls of a full membership; a raised quota is found within twice this "
        "by calls that are refused if it was not",
    )
    service_quotas: bool = Field(
        default=False, description="read the quotas from Service Quotas first; needs servicequotas:ListServiceQuotas"
    )
    priorities: dict[str, int] = Field(
        default={},
        description="number by membership: scarce slots of the account go to higher ones first; 0 if not given",
    )


class RetrySettings(_Section):
    """How a call that was not accepted is made again."""

    max_attempts: int = Field(default=5, ge=1, description="calls for a job that meets conflicts or cannot be sent")
    base_seconds: Seconds = Field(default=0.5, description="seconds, the first backoff's upper bound")
    cap_seconds: Seconds = Field(default=30.0, description="seconds, every backoff's upper bound")


class LookupSettings(_Section):
    """How a job whose fate is unknown is looked up."""

    settle_seconds: float = Field(default=60.0, ge=0, description="seconds within which List shows an accepted job")


class ChecksSettings(_Section):
    """What is said of rows that the service may or may not take."""

    foreign_arns: ForeignArns = Field(
        default="warn",
        description="a trained model or channel of another membership or account: warn, error, or allow; "
        "AWS documents such use of algorithm associations alone, and forbids it nowhere",
    )


class SubmitSettings(_Section):
    """How a batch is sent."""

    concurrency: int = Field(default=32, ge=1, le=4096, description="calls in progress at once")
    tag_jobs: bool = Field(
        default=True, description="tag jobs with batchsubmit:key; false for a role without cleanrooms-ml:TagResource"
    )
    batch_id: str = Field(
        default="",
        description="a word for this round of work, part of every job's key; {date} and {time} are filled in",
    )
    ledger: str | None = Field(
        default=None, description="the ledger file, {batch} filled in; unset: named after the manifest"
    )
    time_zone: str | None = Field(
        default=None,
        description="zone of {date}, {time} and the deadline, as in Europe/Berlin; unset: UTC, and local time for "
        "the deadline",
    )
    day_begins: str = Field(
        default="00:00",
        pattern=r"^([01]\d|2[0-3]):[0-5]\d$",
        description="HH:MM before which {date} is still the day before; noon keeps a night together",
    )
    deadline: str | None = Field(default=None, description="send nothing after this time (06:00) or RFC 3339 moment")
    max_failures: str | None = Field(default=None, description="stop once more jobs than this have failed, N or N%")
    wait: bool = Field(default=False, description="follow every job to its end, and exit 1 where one ends badly")
    wait_for_inputs: bool = Field(
        default=False,
        description="let jobs wait whose trained model or ML input channel is still being created; needs "
        "cleanrooms-ml:GetTrainedModel and GetMLInputChannel",
    )


class NightSettings(_Section):
    """What is done once a run has ended."""

    report: str | None = Field(default=None, description="write the report page here at the end, {batch} filled in")
    export: str | None = Field(
        default=None, description="write one row a job here at the end, CSV or JSONL, {batch} filled in"
    )
    upload: str | None = Field(
        default=None,
        description="copy ledger, report and export to this s3://bucket/prefix/ at the end, {batch} filled in",
    )
    upload_overwrite: bool = Field(default=False, description="overwrite objects that this ledger did not grow from")
    notify: tuple[str, ...] = Field(
        default=(), description="notify these at the end: sns:ARN, https://…, slack:https://… or teams:https://…"
    )
    webhook_secret: SecretStr | None = Field(
        default=None, min_length=16, description="key of the HMAC that signs webhooks; better in the environment"
    )
    notify_timeout_seconds: Seconds = Field(default=10.0, le=60, description="seconds for each of two tries to notify")


class AwsSettings(_Section):
    """The few things of the AWS client that a batch needs otherwise than by default."""

    region: str | None = Field(default=None, description="AWS region; unset: AWS's own configuration")
    read_timeout_seconds: Seconds = Field(default=60.0, description="seconds without an answer that make a job unknown")
    connect_timeout_seconds: Seconds = Field(default=10.0, description="seconds to connect, then nothing was sent")

    @property
    def call_seconds(self) -> float:
        """How long a call of Clean Rooms ML or SQS may take in all, beside the wait of a long poll."""
        return self.connect_timeout_seconds + self.read_timeout_seconds


class WorkerSettings(_Section):
    """The queue of a worker, and where its probes and metrics are."""

    queue_url: str | None = Field(default=None, description="URL of the SQS queue")
    visibility_timeout_seconds: int = Field(
        default=300, ge=1, le=43_200, description="seconds for which a received message stays hidden"
    )
    metrics_host: str = Field(default="127.0.0.1", description="address of /livez, /readyz and /metrics")
    metrics_port: int = Field(default=9464, ge=0, le=65_535, description="their port, 0 for none")
    ui: bool = Field(
        default=False,
        description="serve the report page there too, at an address with a random token, which is printed",
    )
    wait_seconds: int = Field(default=20, ge=1, le=20, description="seconds that a receive waits (long polling)")
    max_delay_seconds: int = Field(
        default=3600,
        ge=0,
        le=39_600,
        description="seconds, at most, that a message is put off which cannot be decided or held now",
    )
    max_held_messages: int = Field(
        default=5000, ge=1, description="messages held at once, most of which wait for a slot, some 2 kB of memory each"
    )
    grace_seconds: Seconds = Field(
        default=100.0,
        le=86_400,
        description="seconds after SIGTERM in which the poll and the calls in progress may end; what has not ended "
        "then is given up, to be looked up later; a container's own grace must be 15 s longer",
    )


class LedgerSettings(_Section):
    """The ledger that a fleet shares, `dynamodb://TABLE`."""

    lease_seconds: Seconds = Field(
        default=120.0,
        le=86_400,
        description="seconds of silence after which other workers take a worker's jobs over and look them up; "
        "calls begin only in the part of it that a call's timeouts leave",
    )


class LogSettings(_Section):
    """What is logged, on standard error."""

    format: Literal["auto", "console", "json"] = Field(
        default="auto", description="auto: console on a terminal, json elsewhere"
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="warning", description="least severity that is logged; info has a line for each job"
    )
    progress: bool = Field(default=True, description="show how a run goes")


class Settings(BaseSettings):
    """All settings, one attribute a section."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, env_prefix=ENV_PREFIX, env_nested_delimiter="__")

    rate: RateSettings = RateSettings()
    slots: SlotSettings = SlotSettings()
    retry: RetrySettings = RetrySettings()
    lookup: LookupSettings = LookupSettings()
    checks: ChecksSettings = ChecksSettings()
    submit: SubmitSettings = SubmitSettings()
    night: NightSettings = NightSettings()
    aws: AwsSettings = AwsSettings()
    worker: WorkerSettings = WorkerSettings()
    ledger: LedgerSettings = LedgerSettings()
    log: LogSettings = LogSettings()
    defaults: dict[str, Any] = Field(
        default={}, description="request members for rows that lack them, in the API's own names"
    )
    names: dict[str, str] = Field(
        default={}, description="what people call memberships, by their ids, on screens, in notices and the report"
    )
    prices: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default={}, description="USD an hour by instance type; plan, prompt and report sum up what jobs cost"
    )


def load_settings(file: Path | None = None, flags: Mapping[str, Mapping[str, Any]] | None = None) -> Settings:
    """Read the settings: `flags` (section to key to value) over the environment over `file` over the defaults.

    Raises UsageError that names the key, where it came from and what it may be.
    """
    content = _read_toml(file) if file is not None else {}
    for variable in os.environ:
        if variable.upper().startswith(ENV_PREFIX):
            path = tuple(variable[len(ENV_PREFIX) :].lower().split("__"))
            _check_key(f"environment variable {variable}", path)
    merged: dict[str, Any] = {}
    try:
        for layer in (content, EnvSettingsSource(Settings)(), flags or {}):
            for section, keys in layer.items():
                below = merged.get(section)
                merged[section] = {**below, **keys} if isinstance(below, dict) and isinstance(keys, dict) else keys
        return Settings(**merged)
    except ValidationError as exc:
        raise UsageError(_explain(exc, file)) from exc
    except SettingsError as exc:
        raise UsageError(f"environment: {exc}; a whole section in one variable is written as JSON") from exc


def _read_toml(file: Path) -> dict[str, Any]:
    """Read a settings file; what is wrong with it is said in a sentence, before pydantic sees it."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as exc:
        raise UsageError(f"the settings file {file} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise UsageError(
            f"the settings file {file} is not UTF-8: {exc.reason} at byte {exc.start}; save it so"
        ) from exc
    except tomllib.TOMLDecodeError as exc:
        raise UsageError(f"the settings file {file} is not TOML: {exc}") from exc
    for section, keys in content.items():
        _check_key(str(file), (section,))
        for key in keys if isinstance(keys, dict) else ():
            _check_key(str(file), (section, key))
    return content


_FREE = frozenset({"defaults", "names", "prices"})
"""Sections whose keys are the user's own."""
_SECRET = {"webhook_secret", "notify"}
"""Nothing writes these down: the address of a webhook lets who has it post there."""


def _check_key(where: str, path: tuple[str, ...]) -> None:
    """Raise UsageError with a suggestion where no setting has this path."""
    known = {".".join(name) for name in setting_names()} | set(Settings.model_fields)
    name = ".".join(path)
    if name in known or path[0] in _FREE:
        return
    near = nearest(name, known)
    hint = f"did you mean {near}?" if near else f"known are {', '.join(sorted(known))}"
    raise UsageError(f"{where}: there is no setting {name}; {hint}")


def setting_names() -> Iterator[tuple[str, ...]]:
    """Every setting as (section, key); a section of free keys stands alone."""
    for section, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Section):
            for key in field.annotation.model_fields:
                yield section, key
        else:
            yield (section,)


def changed(settings: Settings) -> dict[str, str]:
    """The settings that differ from their defaults, as TOML has them: no free sections, and nothing that is secret."""
    given = settings.model_dump(exclude_defaults=True, exclude={"night": _SECRET, **dict.fromkeys(_FREE, True)})
    return {f"{section}.{key}": json.dumps(each) for section, keys in given.items() for key, each in keys.items()}


def _explain(exc: ValidationError, file: Path | None) -> str:
    """Put pydantic's first finding into a sentence."""
    fault = exc.errors(include_url=False)[0]
    name = ".".join(str(part) for part in fault["loc"])
    sources = f"a flag, {ENV_PREFIX}{name.upper().replace('.', '__')}" + (f" or {file}" if file else "")
    shown = "" if name.endswith("secret") else f"{fault['input']!r}: "
    if fault["type"] == "value_error":
        return f"setting {name} ({sources}): {fault['msg'].removeprefix('Value error, ')}"
    return f"setting {name} ({sources}): {shown}{fault['msg'][:1].lower()}{fault['msg'][1:]}"
