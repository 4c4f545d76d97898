"""The table of metrics against a scrape, both ways."""

import re

from book import PAGES, section
from prometheus_client.parser import text_string_to_metric_families

from batchsubmit.core.jobs import Absent, Intent, JobFinished, JobRejected, JobSubmitted, JobUnknown, Refused, Stamp
from batchsubmit.observers.base import Readings
from batchsubmit.observers.metrics import MOST_CODES, Metrics

SECTION = section(PAGES["metrics"], "Metrics")
STAMP: Stamp = {"at": "2026-11-23T00:00:00.000000Z", "job": "k", "membership": "m", "name": "n"}


def scraped() -> dict[str, tuple[str, frozenset[str]]]:
    """Type and labels of each metric of ours, from a worker to which everything has happened once."""
    names = ("messages", "queue_failures", "jobs_waiting", "slots_used", "slots_known")
    metrics = Metrics(lambda: Readings(**{key: {"one": 1} for key in names}))
    for event in (
        Intent(**STAMP, attempt=1, trained_model="t"),
        JobUnknown(**STAMP, reason="", attempt=1),
        Absent(**STAMP, attempt=1),
        Refused(**STAMP, code="c", attempt=1),
        JobSubmitted(**STAMP, arn="a", attempt=1, via="start"),
        JobRejected(**STAMP, code="c", message="", attempt=1),
        JobFinished(**STAMP, arn="a", status="ACTIVE", message=""),
        JobFinished(**STAMP, arn="a", status="CREATE_FAILED", message=""),
    ):
        metrics.saw(event)
    found = {}
    for family in text_string_to_metric_families(metrics.exposition()[0].decode()):
        if family.name.startswith("batchsubmit_") and not family.name.endswith("_created"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            found[name] = (family.type, frozenset(labels))
    return found


def test_the_table_of_metrics_is_what_a_scrape_shows() -> None:
    """Each name with its type and its labels; none is missing, none invented."""
    rows = re.findall(r"^\| `(batchsubmit_\w+)` \| (\w+) \| (.*?)\| (?:.+) \|$", SECTION, re.MULTILINE)
    documented = {name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert len(documented) == len(rows)
    assert documented == scraped()


def test_the_bounds_on_series_are_the_documented_ones() -> None:
    """The number in the text is that of the code."""
    assert f"At most {MOST_CODES} codes" in SECTION
