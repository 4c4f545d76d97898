"""Options that several commands share, and the settings that follow from them."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from batchsubmit.config import Settings

_Command = TypeVar("_Command", bound=Callable[..., Any])


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


def json_option(command: _Command) -> _Command:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")(command)


def read_settings(config: Path | None, **flags: dict[str, Any]) -> "Settings":
    """Load the settings under these flags; a flag that was not given is None and counts for nothing."""
    from batchsubmit.config import load_settings  # noqa: PLC0415 (pydantic takes a quarter of a second)

    given = {
        section: {key: value for key, value in keys.items() if value is not None} for section, keys in flags.items()
    }
    return load_settings(config, given)
