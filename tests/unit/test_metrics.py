"""What a worker counts for Prometheus: the right series move, and none can grow without end."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from batchsubmit.core.jobs import (
    Absent,
    Duplicate,
    Intent,
    JobEvent,
    JobFinished,
    JobRejected,
    JobSubmitted,
    JobUnknown,
    Refused,
    Stamp,
)
from batchsubmit.observers.base import Readings
from batchsubmit.observers.metrics import MOST_CODES, Metrics

STAMP: Stamp = {"at": "2026-11-23T00:00:00.000000Z", "job": "k", "membership": "m", "name": "n"}
INTENT = Intent(**STAMP, attempt=1, trained_model="t")
SUBMITTED = JobSubmitted(**STAMP, arn="a", attempt=1, via="start")


class Watched:
    """Metrics with a clock and readings that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.readings = Readings()
        self.metrics = Metrics(lambda: self.readings, monotonic=lambda: self.now)

    def value(self, name: str, **labels: str) -> float | None:
        """The value of one series, None where there is none."""
        return self.metrics.registry.get_sample_value(f"batchsubmit_{name}", labels)

    def values(self, name: str, label: str) -> dict[str, float]:
        """The values of a name's series by one label."""
        families = self.metrics.registry.collect()
        samples = [sample for family in families for sample in family.samples]
        return {each.labels[label]: each.value for each in samples if each.name == f"batchsubmit_{name}"}


@pytest.fixture
def watched() -> Watched:
    """Metrics on which nothing has happened."""
    return Watched()


@pytest.mark.parametrize(
    ("event", "name", "labels"),
    [
        (INTENT, "attempts_total", {}),
        (SUBMITTED, "jobs_submitted_total", {"via": "start"}),
        (JobSubmitted(**STAMP, arn="a", attempt=1, via="lookup"), "jobs_submitted_total", {"via": "lookup"}),
        (JobSubmitted(**STAMP, arn="a", attempt=1, via="lookup"), "lookups_total", {"outcome": "found"}),
        (Absent(**STAMP, attempt=1), "lookups_total", {"outcome": "absent"}),
        (Duplicate(**STAMP, arn="b", of="a"), "lookups_total", {"outcome": "duplicate"}),
        (
            Refused(**STAMP, code="ThrottlingException", cause="throttled", attempt=1),
            "attempts_refused_total",
            {"code": "ThrottlingException", "cause": "throttled"},
        ),
        (JobUnknown(**STAMP, reason="a reason", attempt=1), "attempts_unknown_total", {}),
        (
            JobRejected(**STAMP, code="ValidationException", message="", attempt=1),
            "jobs_rejected_total",
            {"code": "ValidationException"},
        ),
        (
            JobFinished(**STAMP, arn="a", status="CREATE_FAILED", message="", code="ALGORITHM_ERROR"),
            "jobs_failed_total",
            {"code": "ALGORITHM_ERROR"},
        ),
        (JobFinished(**STAMP, arn="a", status="ACTIVE", message=""), "jobs_finished_total", {"status": "ACTIVE"}),
    ],
)
def test_each_event_moves_its_counter_by_one(
    watched: Watched, event: JobEvent, name: str, labels: dict[str, str]
) -> None:
    """No event is lost, none counts twice."""
    before = watched.value(name, **labels) or 0
    watched.metrics.saw(event)
    assert watched.value(name, **labels) == before + 1


def test_an_answer_that_came_is_no_lookup(watched: Watched) -> None:
    """Only what was found counts as found."""
    watched.metrics.saw(SUBMITTED)
    assert watched.values("lookups_total", "outcome") == {}


def test_an_attempt_is_timed_from_its_intent_to_its_outcome(watched: Watched) -> None:
    """In seconds; a lookup's find has no attempt to time."""
    watched.metrics.saw(INTENT)
    watched.now = 0.3
    watched.metrics.saw(SUBMITTED)
    watched.metrics.saw(JobSubmitted(**STAMP, arn="a", attempt=1, via="lookup"))
    assert watched.value("attempt_seconds_count") == 1
    assert watched.value("attempt_seconds_sum") == pytest.approx(0.3)


def test_the_ledger_s_latency_and_the_cuts_of_the_rate_are_counted(watched: Watched) -> None:
    """What the observer is told beside events."""
    watched.metrics.ledger_took(0.004)
    watched.metrics.rate_cut(2.5)
    assert watched.value("ledger_write_seconds_sum") == pytest.approx(0.004)
    assert watched.value("rate_cuts_total") == 1


def test_the_queue_s_counts_are_read_at_the_scrape(watched: Watched) -> None:
    """As counters: the worker keeps them itself."""
    watched.readings = Readings(queue_polls=3, messages={"received": 10}, queue_failures={"throttled": 2})
    assert watched.value("queue_polls_total") == 3
    assert watched.value("messages_total", event="received") == 10
    assert watched.value("queue_failures_total", kind="throttled") == 2


def test_gauges_show_the_moment_of_the_scrape(watched: Watched) -> None:
    """Read anew each time; what is not known has no series rather than a zero."""
    watched.readings = Readings(jobs_waiting={"m": 7}, slots_used={"m": 4}, rate_calls_per_second=2.5, jobs_unknown=1)
    assert watched.value("jobs_waiting", membership="m") == 7
    assert watched.value("slots_used", membership="m") == 4
    assert watched.value("slots_known", membership="m") is None
    assert watched.value("rate_calls_per_second") == 2.5
    assert watched.value("oldest_message_age_seconds") is None
    watched.readings = Readings(
        jobs_waiting={"m": 0},
        slots_used={"m": 5},
        slots_known={"m": 5},
        oldest_message_age_seconds=12.5,
        draining=True,
    )
    assert watched.value("slots_known", membership="m") == 5
    assert watched.value("oldest_message_age_seconds") == 12.5
    assert watched.value("draining") == 1
    assert watched.value("jobs_unknown") == 0


def test_however_many_codes_come_the_series_are_bounded(watched: Watched) -> None:
    """The many beyond the bound are one series, and none is lost."""
    for number in range(MOST_CODES + 10):
        watched.metrics.saw(Refused(**STAMP, code=f"Code{number}", attempt=1))
    series = watched.values("attempts_refused_total", "code")
    assert len(series) == MOST_CODES + 1
    assert series["other"] == 10


def test_two_workers_in_one_process_share_nothing(watched: Watched) -> None:
    """There is no global registry in play."""
    other = Watched()
    watched.metrics.saw(INTENT)
    assert other.value("attempts_total") == 0


def test_every_name_has_our_prefix_and_every_time_is_in_seconds(watched: Watched) -> None:
    """Prometheus' conventions: base units, in the name. Process metrics are the library's."""
    for family in text_string_to_metric_families(watched.metrics.exposition()[0].decode()):
        assert family.name.startswith(("batchsubmit_", "process_"))
        assert not family.name.endswith(("_ms", "_milliseconds", "_minutes"))
        assert family.documentation
        assert family.type != "histogram" or family.name.endswith("_seconds")


def test_a_scraper_gets_the_format_it_asks_for(watched: Watched) -> None:
    """OpenMetrics where it is accepted, the plain text format elsewhere."""
    body, content_type = watched.metrics.exposition("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    assert watched.metrics.exposition()[1].startswith("text/plain")
