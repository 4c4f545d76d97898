"""`batchsubmit schema`."""

import json
from collections.abc import Iterator

import click

from batchsubmit.cli.help import EXITS
from batchsubmit.cli.options import command, json_option
from batchsubmit.cli.output import say
from batchsubmit.config import Settings, setting_names
from batchsubmit.schema import columns, json_schema


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
    if as_json:
        click.echo(json.dumps(Settings.model_json_schema() if of_settings else json_schema(), indent=2))
    else:
        say(*(_settings() if of_settings else _columns()), to_stdout=True)
    return 0


def _columns() -> Iterator[str]:
    for each in columns():
        yield f"{each.name}  ({each.type}{', required' if each.required else ''})"
        yield from (f"    {words}" for words in (each.meaning, each.bounds) if words)


def _settings() -> Iterator[str]:
    for section, *keys in setting_names():
        field = Settings.model_fields[section]
        for key in keys:
            field = field.annotation.model_fields[key]  # type: ignore[union-attr] # a section is a model
        default = field.get_default(call_default_factory=True, validated_data={})
        yield f"{'.'.join((section, *keys))}  ({json.dumps(default, default=str)})"
        yield f"    {field.description}"
