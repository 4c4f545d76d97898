"""Options that several commands share, the settings that follow from them, and what commands do alike."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterable
from functools import partial, reduce, wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from batchsubmit.cli.help import EXITS, manual
from batchsubmit.cli.output import membership_names, say
from batchsubmit.config import SETTINGS_FILE, Settings, load_settings
from batchsubmit.errors import BatchsubmitError, ManifestError, StoppedError, exit_status

_Result = TypeVar("_Result")
_Command = Callable[..., int]
_Option = Callable[[_Command], _Command]


def command(
    *examples: tuple[str, str],
    exits: dict[int, str] = EXITS,
    more: str = "",
    name: str | None = None,
) -> Callable[[_Command], click.Command]:
    """Make a function a command; the rest is what `manual` makes its help's end of.

    One with `settings_option` gets the settings, under those of its flags that are named `section__key`; one with
    `json_option` prints an object also where it fails.
    """

    def made(function: _Command) -> click.Command:
        @wraps(function)
        def called(**given: Any) -> int:  # noqa: ANN401 (click's)
            try:
                if "settings" in given:
                    given["settings"] = read_settings(given["settings"], given)
                return function(**given)
            except BatchsubmitError as exc:
                if given.get("as_json"):
                    content: dict[str, object] = {"error": str(exc), "problems": []}
                    if isinstance(exc, ManifestError):
                        content |= {"problems": list(map(str, exc.problems)), "problem_count": exc.count}
                    click.echo(json.dumps({**content, "exit_status": exit_status(exc)}))
                raise

        return click.command(name, epilog=manual(*examples, exits=exits, more=more))(called)

    return made


def setting_option(flag: str, setting: str, metavar: str | None = None, *, words: str = "") -> _Option:
    """An option for a setting, `section.key`, with its type, its default and (unless `words` are given) its words."""
    section, _, key = setting.partition(".")
    field = type(Settings.model_fields[section].default).model_fields[key]
    words, is_list = words or field.description or "", field.default == ()
    more = "; may be repeated." if is_list else "."
    if field.default:
        more += f"  [default: {key if field.default is True else field.default}]"
    return click.option(
        flag,
        f"{section}__{key}",
        type={int: click.INT, float: click.FLOAT}.get(field.annotation, click.Path() if metavar == "FILE" else None),
        metavar=metavar,
        is_flag=field.annotation is bool,
        multiple=is_list,
        default=None,
        help=words[0].upper() + words[1:] + more,
    )


config_option = partial(
    click.option,
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A TOML file of settings.  [default: batchsubmit.toml, if it is here]",
)
settings_option = config_option("settings")
queue_url_option = setting_option("--queue-url", "worker.queue_url", "URL")
ledger_option = partial(click.option, "--ledger", "submit__ledger", type=click.Path(), metavar="LEDGER")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
batch_id_option = setting_option("--batch-id", "submit.batch_id", "TEXT")
rate_option = setting_option("--rate", "rate.max_per_second", "N", words="Calls a second, 0 for no limit")
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


def together(*options: _Option) -> _Option:
    """Make one decorator of several options, in their order."""
    return lambda command: reduce(lambda made, option: option(made), reversed(options), command)


manifest_options = together(
    click.argument("manifest", type=click.Path(allow_dash=True)),
    batch_id_option,
    settings_option,
    allow_duplicates_option,
)
settings_and_json = together(settings_option, json_option)
sending_options = together(
    click.option("-v", "--verbose", "log__level", flag_value="info", help="Log a line for each job."),
    click.option("-q", "--quiet", "log__level", flag_value="error", help="Log errors only, and show no progress."),
    setting_option("--progress/--no-progress", "log.progress"),
    rate_option,
    setting_option("--concurrency", "submit.concurrency", "N"),
    setting_option("--wait-for-inputs/--no-wait-for-inputs", "submit.wait_for_inputs"),
)
run_options = together(
    sending_options,
    setting_option("--wait/--no-wait", "submit.wait"),
    setting_option("--max-failures", "submit.max_failures", "N|N%"),
    job_minutes_option,
    click.option(
        "--max-instance-hours",
        type=click.FloatRange(min=0),
        metavar="N",
        help="Send nothing where the jobs to do would take more than this.",
    ),
    click.option("--yes", is_flag=True, help="Ask nothing. Without a terminal nothing is ever asked."),
    json_option,
)


def read_settings(config: Path | None, given: dict[str, Any] | None = None) -> Settings:
    """Load the settings under the flags in `given` that are named `section__key`, which are taken out of it.

    A flag that was not given is None, or empty, and counts for nothing. Without a file, `batchsubmit.toml` of the
    current folder is read, and that is said.
    """
    if config is None and Path(SETTINGS_FILE).is_file():
        config = Path(SETTINGS_FILE)
        say(f"settings: {config} of this folder")
    flags: dict[str, dict[str, Any]] = {}
    for name in [name for name in given or () if "__" in name]:
        section, _, key = name.partition("__")
        if given and (value := given.pop(name)) not in {None, ()}:
            flags.setdefault(section, {})[key] = value
    settings = load_settings(config, flags)
    membership_names.update(settings.names)
    return settings


def run_command(work: Coroutine[Any, Any, _Result], next_step: str = "run the same command again to go on") -> _Result:
    """Run what a command does. A second signal cuts it off: raises StoppedError."""
    try:
        return asyncio.run(work)
    except asyncio.CancelledError:
        raise StoppedError(f"ended at once by a second signal; {next_step}") from None


def conclude(lines: Iterable[object], content: dict[str, Any], *, as_json: bool, are_data: bool = False) -> int:
    """Say how a command ended and, where that is asked, print its object; give the exit status in it, else 0.

    Lines that are data go to standard output, where the object takes their place.
    """
    if not (are_data and as_json):
        say(*lines, to_stdout=are_data)
    if as_json:
        click.echo(json.dumps(content))
    return int(content.get("exit_status", 0))


def tell_warnings(warnings: Iterable[object]) -> None:
    """Print what rows may not mean."""
    say(*(f"warning: {warning}" for warning in warnings))
