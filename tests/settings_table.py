"""The table in docs/settings.md, made from the model: `python tests/settings_table.py` prints it, a test compares."""

import json
import sys
from collections.abc import Iterator

from pydantic.fields import FieldInfo

from batchsubmit.config import Settings, setting_names

HEAD = "| setting | default | meaning |\n| --- | --- | --- |\n"


def settings_table() -> str:
    """Every setting with its default, as TOML has it, and what the model says of it."""
    return HEAD + "".join(f"| `{name}` | {_default(field)} | {_meaning(field)} |\n" for name, field in _fields())


def _fields() -> Iterator[tuple[str, FieldInfo]]:
    for section, *keys in setting_names():
        field = Settings.model_fields[section]
        for key in keys:
            yield f"{section}.{key}", field.annotation.model_fields[key]
        if not keys:
            yield section, field


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    return "unset" if default is None else f"`{json.dumps(default)}`"


def _meaning(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(settings_table())
