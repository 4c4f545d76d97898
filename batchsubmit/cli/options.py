"""Options that several commands share, the settings that follow from them, and what commands do alike."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from batchsubmit.aws import resolve_region
from batchsubmit.cli.output import membership_names, say
from batchsubmit.config import SETTINGS_FILE, Settings, load_settings
from batchsubmit.errors import BatchsubmitError, ManifestError, StoppedError, UsageError, exit_status
from batchsubmit.ledger.base import Location, parse_location

if TYPE_CHECKING:
    from batchsubmit.schema import RowWarning

_Result = TypeVar("_Result")


class _LedgerType(click.ParamType[Location]):
    """Where a ledger is: a file's path, or `dynamodb://TABLE`."""

    name = "ledger"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Location:  # noqa: ANN401
        """Tell one from the other."""
        try:
            return parse_location(str(value))
        except UsageError as exc:
            self.fail(str(exc), param, ctx)


LEDGER = _LedgerType()

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A TOML file of settings.  [default: batchsubmit.toml, if it is here]",
)
queue_url_option = click.option(
    "--queue-url", metavar="URL", help="The SQS queue. [default: worker.queue_url of the settings]"
)
allow_duplicates_option = click.option(
    "--allow-duplicates", is_flag=True, help="Let identical rows be jobs of their own, in their number."
)
sandbox_job_seconds_option = click.option(
    "--sandbox-job-seconds",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the sandbox's jobs run.",
)
job_minutes_option = click.option(
    "--job-minutes",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="What a job takes on average, for the estimates: where no ledger shows it, or instead of that.",
)
max_instance_hours_option = click.option(
    "--max-instance-hours",
    type=click.FloatRange(min=0),
    metavar="N",
    help="Send nothing where the jobs to do would take more than this.",
)
rate_option = click.option("--rate", type=float, metavar="N", help="Calls a second, 0 for no limit.  [default: 1]")


def _level_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add `-v` and `-q`."""
    quiet = "Log errors only, and show no progress."
    command = click.option("-q", "--quiet", "level", flag_value="error", help=quiet)(command)
    return click.option("-v", "--verbose", "level", flag_value="info", help="Log a line for each job.")(command)


_SENDING: dict[str, tuple[Callable[..., Any], str, str]] = {
    "level": (_level_options, "log", "level"),
    "progress": (
        click.option("--progress/--no-progress", default=None, help="Show how the run goes.  [default: progress]"),
        "log",
        "progress",
    ),
    "rate": (rate_option, "rate", "max_per_second"),
    "concurrency": (
        click.option("--concurrency", type=int, metavar="N", help="Calls in progress at once.  [default: 32]"),
        "submit",
        "concurrency",
    ),
    "wait_for_inputs": (
        click.option(
            "--wait-for-inputs/--no-wait-for-inputs",
            default=None,
            help="Let jobs wait whose trained model or ML input channel is still being created.",
        ),
        "submit",
        "wait_for_inputs",
    ),
}
"""The options of commands that send jobs, each with the section and key of its setting."""


def sending_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options of `submit` and `worker`; the command gets them as `sending`, to be given to `read_settings`."""

    @wraps(command)
    def with_sending(*args: Any, **given: Any) -> int:  # noqa: ANN401 (click's)
        sending: dict[str, dict[str, Any]] = {}
        for name, (_, section, key) in _SENDING.items():
            sending.setdefault(section, {})[key] = given.pop(name)
        return command(*args, sending=sending, **given)

    for option, _, _ in reversed(_SENDING.values()):
        with_sending = option(with_sending)
    return with_sending


def json_option(command: Callable[..., int]) -> Callable[..., int]:
    """Add `--json`: one object on standard output, also where the command fails."""

    @wraps(command)
    def with_json(*args: Any, as_json: bool, **given: Any) -> int:  # noqa: ANN401 (click's)
        try:
            return command(*args, as_json=as_json, **given)
        except BatchsubmitError as exc:
            if as_json:
                content: dict[str, object] = {"error": str(exc), "problems": []}
                if isinstance(exc, ManifestError):
                    content |= {"problems": list(map(str, exc.problems)), "problem_count": exc.count}
                click.echo(json.dumps({**content, "exit_status": exit_status(exc)}))
            raise

    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")(with_json)


def read_settings(config: Path | None, *flags: Mapping[str, Mapping[str, Any]], **more: Mapping[str, Any]) -> Settings:
    """Load the settings under these flags by section; a flag that was not given is None and counts for nothing.

    Without a file, `batchsubmit.toml` of the current folder is read, and that is said.
    """
    if config is None and Path(SETTINGS_FILE).is_file():
        config = Path(SETTINGS_FILE)
        say(f"settings: {config} of this folder")
    given: dict[str, dict[str, Any]] = {}
    for sections in (*flags, more):
        for section, keys in sections.items():
            known = {key: value for key, value in keys.items() if value is not None}
            given[section] = given.get(section, {}) | known
    settings = load_settings(config, given)
    membership_names.update(settings.names)
    return settings


def region_for(location: Location, config: Path | None = None) -> str | None:
    """The region of a ledger that is a table; a file needs none, and its settings are not read."""
    return None if isinstance(location, Path) else resolve_region(read_settings(config).aws)


def run_command(work: Coroutine[Any, Any, _Result], next_step: str = "run the same command again to go on") -> _Result:
    """Run what a command does. A second signal cuts it off: raises StoppedError."""
    try:
        return asyncio.run(work)
    except asyncio.CancelledError:
        raise StoppedError(f"ended at once by a second signal; {next_step}") from None


@contextmanager
def telling_problems() -> Iterator[None]:
    """Print the problems of a manifest before the error that counts them; of many that are alike, the first few."""
    try:
        yield
    except ManifestError as exc:
        for line in exc.lines:
            say(line)
        if any(line.lstrip().startswith("...") for line in exc.lines):
            say(f"All {exc.count:,} are listed by batchsubmit validate with the same manifest and options")
        raise


def tell_warnings(warnings: "Iterable[RowWarning]") -> None:
    """Print what rows may not mean."""
    for warning in warnings:
        say(f"warning: {warning}")
