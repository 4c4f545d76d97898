"""Pulse and contact: when a worker counts as alive, and when as ready."""

from conftest import FakeClock

from batchsubmit.app.worker_status import Contact, Pulse
from batchsubmit.health.check import probe_url
from batchsubmit.health.server import unmet


async def test_a_pulse_is_missed_after_its_time_and_no_sooner(clock: FakeClock) -> None:
    """A beat sets it right again."""
    pulse = Pulse(30, monotonic=clock.monotonic)
    await clock.sleep(30)
    assert pulse.trouble() == ""
    await clock.sleep(1)
    assert pulse.trouble() == "no progress for 31 s, allowed are 30 s"
    pulse.beat()
    assert pulse.trouble() == ""


async def test_a_loop_that_has_ended_is_not_missed(clock: FakeClock) -> None:
    """A worker that drains for minutes must not be killed for it."""
    pulse = Pulse(30, monotonic=clock.monotonic)
    pulse.rest()
    await clock.sleep(3600)
    assert pulse.trouble() == ""


def test_a_contact_is_as_its_last_call_went() -> None:
    """Not there before the first, lost and made again."""
    contact = Contact()
    assert contact.trouble() == "not reached yet"
    contact.made()
    assert contact.trouble() == ""
    contact.lost("AccessDenied")
    assert contact.trouble() == "AccessDenied"
    contact.lost("")
    assert contact.trouble()


def test_only_conditions_that_lack_something_are_unmet() -> None:
    """By name, with their words."""
    assert unmet({"queue": lambda: "", "ledger": lambda: "the disk is full"}) == {"ledger": "the disk is full"}


def test_a_worker_that_listens_everywhere_is_asked_on_loopback() -> None:
    """An address to bind is none to connect to."""
    assert probe_url("0.0.0.0", 9464, "livez") == "http://127.0.0.1:9464/livez"  # noqa: S104 (asked, not bound)
    assert probe_url("::", 9464, "readyz") == "http://[::1]:9464/readyz"
    assert probe_url("10.0.0.7", 1, "livez") == "http://10.0.0.7:1/livez"
