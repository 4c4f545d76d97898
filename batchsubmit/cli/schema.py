"""`batchsubmit schema`."""

import json
from shutil import get_terminal_size

import click

from batchsubmit.cli.main import EXITS
from batchsubmit.cli.options import command, json_option
from batchsubmit.cli.output import say
from batchsubmit.config import Settings, setting_names
from batchsubmit.schema import columns, json_schema
from batchsubmit.text import wrapped

_WIDEST = 100


@command(
    ("the columns of a manifest", "batchsubmit schema"),
    ("for an editor that checks JSONL", "batchsubmit schema --json > job.schema.json"),
    ("every setting with its default", "batchsubmit schema --settings"),
    exits={0: EXITS[0], 2: "usage wrong"},
)
@click.option("--settings", "of_settings", is_flag=True, help="Describe the settings instead of the manifest.")
@json_option
def schema(*, of_settings: bool, as_json: bool) -> int:
    """Print the columns of a manifest: name, type, whether required, meaning, bounds.

    With --json, the JSON Schema of a job (one line of a JSONL manifest), or of the settings.
    """
    if of_settings:
        return _print_settings(as_json=as_json)
    if as_json:
        click.echo(json.dumps(json_schema(), indent=2))
        return 0
    for each in columns():
        needed = ", required" if each.required else ""
        _print_entry(each.name, f"{each.type}{needed}", each.meaning, each.bounds)
    return 0


def _print_settings(*, as_json: bool) -> int:
    described = Settings.model_json_schema()
    if as_json:
        click.echo(json.dumps(described, indent=2))
        return 0
    for section, *keys in setting_names():
        field = Settings.model_fields[section]
        for key in keys:
            field = field.annotation.model_fields[key]  # type: ignore[union-attr] # a section is a model
        default = field.get_default(call_default_factory=True, validated_data={})
        _print_entry(".".join((section, *keys)), json.dumps(default, default=str), field.description or "")
    return 0


def _print_entry(name: str, brief: str, *paragraphs: str) -> None:
    """Print a name with the rest under it: some bounds are lists of a hundred words, too long for a table."""
    say(f"{name}  ({brief})", to_stdout=True)
    width = min(get_terminal_size().columns, _WIDEST)
    for paragraph in filter(None, paragraphs):
        click.echo(wrapped(f"    {paragraph}", width))
