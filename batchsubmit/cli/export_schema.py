"""`batchsubmit schema`."""

import json
from collections.abc import Sequence

import click

from batchsubmit.cli.manual import manual
from batchsubmit.cli.options import json_option


@click.command(
    epilog=manual(
        ("the columns of a manifest", "batchsubmit schema"),
        ("for an editor that checks JSONL", "batchsubmit schema --json > job.schema.json"),
        ("every setting with its default", "batchsubmit schema --settings"),
        exits={1: "", 2: "usage wrong", 3: "", 4: ""},
    )
)
@click.option("--settings", "of_settings", is_flag=True, help="Describe the settings instead of the manifest.")
@json_option
def schema(*, of_settings: bool, as_json: bool) -> int:
    """Print the columns of a manifest: name, whether required, type, bounds, meaning.

    With --json, the JSON Schema of a job (one line of a JSONL manifest), or of the settings.
    """
    if of_settings:
        return _print_settings(as_json=as_json)
    from batchsubmit.schema import columns, json_schema  # noqa: PLC0415 (help is fast without)

    if as_json:
        click.echo(json.dumps(json_schema(), indent=2))
        return 0
    rows = [("column", "required", "type", "bounds", "meaning")]
    rows += [(each.name, "yes" if each.required else "", each.type, each.bounds, each.meaning) for each in columns()]
    _print_table(rows)
    return 0


def _print_settings(*, as_json: bool) -> int:
    from batchsubmit.config import Settings, setting_names  # noqa: PLC0415 (help is fast without)

    described = Settings.model_json_schema()
    if as_json:
        click.echo(json.dumps(described, indent=2))
        return 0
    rows = [("setting", "default", "meaning")]
    for section, *keys in setting_names():
        field = Settings.model_fields[section]
        for key in keys:
            field = field.annotation.model_fields[key]  # type: ignore[union-attr] # a section is a model
        default = field.get_default(call_default_factory=True, validated_data={})
        rows.append((".".join((section, *keys)), json.dumps(default, default=str), field.description or ""))
    _print_table(rows)
    return 0


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print aligned columns; the last is as long as it is."""
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[-1]]).rstrip())
