"""What the tests of the shared ledger have in common: events, a table's content, workers with clocks of their own."""

from memory_table import MemoryTable

from batchsubmit.core.jobs import Event, Intent, JobSubmitted
from batchsubmit.ledger.read import table_events

AT = "2026-11-23T00:00:00.000000Z"


def intent(key: str, *, attempt: int = 1) -> Intent:
    """An intent of the job with this key."""
    return Intent(at=AT, job=key, membership="m", name="n", attempt=attempt, trained_model="model")


def submitted(key: str, *, attempt: int = 1, arn: str = "") -> JobSubmitted:
    """The acceptance of the job with this key."""
    return JobSubmitted(at=AT, job=key, membership="m", name="n", arn=arn or f"arn-{key}", attempt=attempt, via="start")


def events_in(table: MemoryTable) -> list[Event]:
    """All events of a table in memory, as the commands read them; nothing in it ever waits."""
    try:
        table_events(table, "t").send(None)
    except StopIteration as done:
        return list(done.value)
    raise AssertionError("a table in memory has all at once")
