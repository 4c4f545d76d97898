"""Options that several commands share, and the settings that follow from them."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from batchsubmit.errors import BatchsubmitError, ManifestError, UsageError, exit_status
from batchsubmit.text import printable

if TYPE_CHECKING:
    from batchsubmit.config import Settings
    from batchsubmit.ledger.base import Location
    from batchsubmit.schema import RowWarning

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _LedgerType(click.ParamType["Location"]):
    """Where a ledger is: a file's path, or `dynamodb://TABLE`."""

    name = "ledger"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Location":  # noqa: ANN401
        """Tell one from the other."""
        from batchsubmit.ledger.base import parse_location  # noqa: PLC0415 (help is fast without)

        if not isinstance(value, str):
            return cast("Location", value)
        try:
            return parse_location(value)
        except UsageError as exc:
            self.fail(str(exc), param, ctx)


LEDGER = _LedgerType()


def region_for(location: "Location", config: Path | None = None) -> str | None:
    """The region of a ledger that is a table; a file needs none, and is read without loading settings."""
    if isinstance(location, Path):
        return None
    from batchsubmit.aws import resolve_region  # noqa: PLC0415 (pydantic takes a quarter of a second)

    return resolve_region(read_settings(config).aws)


def config_option(command: _Command) -> _Command:
    """Add `--config FILE`."""
    return click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="A TOML file of settings.")(
        command
    )


def allow_duplicates_option(command: _Command) -> _Command:
    """Add `--allow-duplicates`."""
    return click.option(
        "--allow-duplicates", is_flag=True, help="Let identical rows be jobs of their own, in their number."
    )(command)


def wait_for_inputs_option(command: _Command) -> _Command:
    """Add `--wait-for-inputs`."""
    return click.option(
        "--wait-for-inputs/--no-wait-for-inputs",
        default=None,
        help="Let jobs wait whose trained model or ML input channel is still being created.",
    )(command)


def sandbox_job_seconds_option(command: _Command) -> _Command:
    """Add `--sandbox-job-seconds`; `--sandbox` itself means another thing in each command."""
    return click.option(
        "--sandbox-job-seconds",
        type=click.FloatRange(min=0),
        default=10.0,
        show_default=True,
        metavar="SECONDS",
        help="How long the sandbox's jobs run.",
    )(command)


def json_option(command: Callable[..., int]) -> Callable[..., int]:
    """Add `--json`: one object on standard output, also where the command fails."""

    @wraps(command)
    def telling_programs(*args: Any, as_json: bool, **given: Any) -> int:  # noqa: ANN401 (click's)
        try:
            return command(*args, as_json=as_json, **given)
        except BatchsubmitError as exc:
            if as_json:
                told: dict[str, object] = {"error": str(exc), "problems": []}
                if isinstance(exc, ManifestError):
                    told = {**told, "problems": list(map(str, exc.problems)), "problem_count": exc.count}
                click.echo(json.dumps({**told, "exit_status": exit_status(exc)}))
            raise

    option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
    return option(telling_programs)


@contextmanager
def telling_problems() -> Iterator[None]:
    """Print the problems of a manifest before the error that counts them; of many that are alike, the first few."""
    try:
        yield
    except ManifestError as exc:
        for line in exc.told:
            click.echo(line, err=True)
        if any(line.lstrip().startswith("...") for line in exc.told) and exc.manifest != "-":
            click.echo(f"All {exc.count:,} are listed by: {_validate_command(exc.manifest)}", err=True)
        raise


def tell_warnings(warnings: "Iterable[RowWarning]") -> None:
    """Print what rows may not mean."""
    for warning in warnings:
        click.echo(f"warning: {printable(str(warning))}", err=True)


def _validate_command(manifest: str) -> str:
    """The command that lists every problem of a manifest under the options of the command at hand."""
    import shlex  # noqa: PLC0415 (help is fast without)

    given = click.get_current_context().params
    config, batch = given.get("config"), given.get("batch_id")
    options = [*(["--config", str(config)] if config else []), *(["--batch-id", batch] if batch else [])]
    options += ["--allow-duplicates"] if given.get("allow_duplicates") else []
    return shlex.join(["batchsubmit", "validate", manifest, *options])


def read_settings(config: Path | None, **flags: dict[str, Any]) -> "Settings":
    """Load the settings under these flags; a flag that was not given is None and counts for nothing."""
    from batchsubmit.config import load_settings  # noqa: PLC0415 (pydantic takes a quarter of a second)

    given = {
        section: {key: value for key, value in keys.items() if value is not None} for section, keys in flags.items()
    }
    return load_settings(config, given)
