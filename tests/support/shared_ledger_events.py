"""What the tests of the shared ledger have in common: events, a table's content, workers with clocks of their own."""

from batchsubmit.core.jobs import Event, Intent, Submitted
from batchsubmit.ledger.items import JOB, RUNS
from batchsubmit.ledger.scan import job_events, run_events
from batchsubmit.ledger.table import MemoryTable

AT = "2026-11-23T00:00:00.000000Z"


def intent(key: str, *, attempt: int = 1) -> Intent:
    """An intent of the job with this key."""
    return Intent(at=AT, job=key, membership="m", name="n", attempt=attempt, trained_model="model")


def submitted(key: str, *, attempt: int = 1, arn: str = "") -> Submitted:
    """The acceptance of the job with this key."""
    return Submitted(at=AT, job=key, membership="m", name="n", arn=arn or f"arn-{key}", attempt=attempt, via="start")


def events_in(table: MemoryTable) -> list[Event]:
    """All events of a table in memory, as the commands read them."""
    found: list[Event] = [*run_events([item for address, item in table.items.items() if address.pk == RUNS], "t")]
    for address, item in table.items.items():
        if address.sk == JOB:
            found += job_events(address.pk.removeprefix("job#"), item, table.items.get, "t")
    return found
