"""Whether a worker lives and is ready, and how an orchestrator learns it.

`vitals` holds what is asked about, `server` answers over HTTP, `check` asks. Nothing here knows queue, ledger or AWS:
the worker names its conditions, and each says what it lacks.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

Condition: TypeAlias = Callable[[], str]
"""Says in a few words why it is not met, or nothing where it is. It must not wait: it is asked in a probe."""

Conditions: TypeAlias = Mapping[str, Condition]


def unmet(conditions: Conditions) -> dict[str, str]:
    """What is lacking, by name."""
    reasons = ((name, condition()) for name, condition in conditions.items())
    return {name: reason for name, reason in reasons if reason}
