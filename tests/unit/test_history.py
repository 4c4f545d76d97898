"""What ledgers tell of running times: ends, jobs cut short, and what runs now."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from batchsubmit.clock import timestamp
from batchsubmit.forecast.history import History, Observation
from batchsubmit.jobs import Event, Finished, Intent, RunEnded, Submitted, Unknown

BEGIN = datetime(2026, 11, 23, tzinfo=UTC)


def at(seconds: float) -> str:
    """A moment of the ledger."""
    return timestamp(BEGIN + timedelta(seconds=seconds))


def begun(job: str, intended: float, submitted: float, *, via: str = "start", model: str = "m") -> Iterator[Event]:
    """A job's way to its acceptance."""
    stamp = {"job": job, "membership": "a", "name": job}
    yield Intent(at=at(intended), **stamp, attempt=1, trained_model=model)
    yield Submitted(at=at(submitted), **stamp, arn=f"arn:{job}", attempt=1, via=via)


def ended(job: str, seen: float, *, of_service: float | None = None) -> Event:
    """A job's end."""
    told = at(of_service) if of_service is not None else ""
    return Finished(
        at=at(seen), job=job, membership="a", name=job, arn=f"arn:{job}", status="ACTIVE", message="", ended=told
    )


def read(*events: Event) -> History:
    """Read one ledger."""
    history = History()
    history.read(events)
    return history


def test_a_job_s_time_is_from_its_acceptance_to_its_own_end() -> None:
    """The service's own time where it is there, else when the end was seen; and what the call took."""
    history = read(*begun("a", 0, 1), *begun("b", 0, 0.5), ended("a", 100, of_service=61), ended("b", 100))
    assert history.observations == {"m": [Observation(60.0), Observation(99.5)]}
    assert history.call_seconds == [1.0, 0.5]
    assert history.running == []


def test_a_service_whose_clock_is_behind_is_not_believed() -> None:
    """No job ends before it begins."""
    history = read(*begun("a", 0, 100), ended("a", 110, of_service=50))
    assert history.observations == {"m": [Observation(10.0)]}


def test_a_job_without_an_end_ran_at_least_until_the_last_look() -> None:
    """Later ones tell nothing, nor do any where nobody ever looked."""
    history = read(*begun("a", 0, 1), *begun("b", 0, 1), ended("b", 31), *begun("c", 40, 41))
    assert history.observations == {"m": [Observation(30.0), Observation(30.0, ended=False)]}
    assert [each.since for each in history.running] == [BEGIN + timedelta(seconds=each) for each in (1, 41)]
    assert read(*begun("a", 0, 1)).observations == {}


def test_a_job_that_was_found_by_a_lookup_began_with_its_intent() -> None:
    """It was found later than it was accepted, and the search was no call."""
    history = read(*begun("a", 0, 50, via="lookup"), ended("a", 60))
    assert history.observations == {"m": [Observation(60.0)]}
    assert history.call_seconds == []


def test_jobs_without_acceptance_tell_nothing() -> None:
    """An unknown job does not run as far as we know."""
    intent = Intent(at=at(0), job="a", membership="a", name="a", attempt=1, trained_model="m")
    unknown = Unknown(at=at(1), job="a", membership="a", name="a", reason="lost", attempt=1)
    assert read(intent, unknown, ended("b", 5)) == History()


def test_histories_add_up_and_the_last_word_on_quotas_stands() -> None:
    """Several ledgers, read one after the other."""
    first = read(*begun("a", 0, 1), ended("a", 11), _end(account=10))
    first.add(read(*begun("b", 0, 1, model="n"), ended("b", 21), _end(account=20)))
    assert first.observations == {"m": [Observation(10.0)], "n": [Observation(20.0)]}
    assert first.quotas == {"account": 20}


def _end(**quotas: int) -> RunEnded:
    return RunEnded(at=at(99), run="r", exit_status=0, reason="", counts={}, quotas=quotas)
