"""Place-holders: what a night is called, and the files named after it."""

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchsubmit.config import SubmitSettings
from batchsubmit.errors import UsageError
from batchsubmit.outputs.templates import expand, expand_path, placeholders_at, zone_named

BERLIN = zone_named("Europe/Berlin")
VALUES = {"date": "2026-11-23", "time": "220000"}


def test_date_and_time_are_those_of_the_moment_s_zone() -> None:
    """The same moment is another day in Berlin."""
    moment = datetime(2026, 11, 23, 23, 30, 5, tzinfo=UTC)
    assert placeholders_at(moment, SubmitSettings()) == {"date": "2026-11-23", "time": "233005"}
    berlin = SubmitSettings(time_zone="Europe/Berlin")
    assert placeholders_at(moment, berlin) == {"date": "2026-11-24", "time": "003005"}


@pytest.mark.parametrize(
    ("hour", "date"),
    [(22, "2026-11-23"), (23, "2026-11-23"), (25, "2026-11-23"), (35, "2026-11-23"), (36, "2026-11-24")],
)
def test_a_night_has_one_date_also_when_it_is_started_again_after_midnight(hour: int, date: str) -> None:
    """Or its jobs would get new keys and be sent a second time."""
    moment = datetime(2026, 11, 23, tzinfo=BERLIN) + timedelta(hours=hour)
    assert placeholders_at(moment, SubmitSettings(time_zone="Europe/Berlin", day_begins="12:00"))["date"] == date


def test_zone_and_beginning_of_days_are_those_of_the_settings() -> None:
    """UTC and midnight where they say nothing."""
    moment = datetime(2026, 11, 24, 0, 30, tzinfo=UTC)
    assert placeholders_at(moment, SubmitSettings())["date"] == "2026-11-24"
    night = SubmitSettings(time_zone="Europe/Berlin", day_begins="12:00")
    assert placeholders_at(moment, night) == {"date": "2026-11-23", "time": "013000"}


@given(st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2040, 1, 1)), st.times())  # noqa: DTZ001 (aware below)
def test_a_day_lasts_from_its_beginning_to_the_next(moment: datetime, begins: time) -> None:
    """Whenever it begins: all moments of 24 hours have one date."""
    begins = begins.replace(second=0, microsecond=0)
    first = datetime.combine(moment.date(), begins, UTC)
    last = first + timedelta(hours=24) - timedelta(microseconds=1)
    settings = SubmitSettings(day_begins=f"{begins:%H:%M}")
    for each in (first, last):
        assert placeholders_at(each, settings)["date"] == f"{moment:%Y-%m-%d}"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ""),
        ("weekly", "weekly"),
        ("nightly-{date}", "nightly-2026-11-23"),
        ("{date}T{time}", "2026-11-23T220000"),
        ("{{date}} is {date}", "{date} is 2026-11-23"),
    ],
)
def test_a_template_is_filled_in(template: str, text: str) -> None:
    """Doubled braces are braces."""
    assert expand(template, VALUES, what="--batch-id") == text


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("{dat}", r"there is no placeholder \{dat\}; did you mean \{date\}"),
        ("{host}", r"no placeholder \{host\}; known are \{date\}, \{time\}"),
        ("{}", "no placeholder"),
        ("{date!r}", "no placeholder"),
        ("{date.year}", "no placeholder"),
        ("{date", "other half"),
        ("date}", "other half"),
    ],
)
def test_what_is_no_place_holder_is_an_error(template: str, sentence: str) -> None:
    """A typing mistake would be a batch of its own, and every job would be sent again."""
    with pytest.raises(UsageError, match=sentence):
        expand(template, VALUES, what="--batch-id")


def test_a_path_may_be_named_after_the_batch() -> None:
    """And after nothing."""
    assert expand_path("out/{batch}.html", VALUES, batch="n-1", what="--report") == "out/n-1.html"
    assert expand_path("out/{date}.html", VALUES, batch="a/b", what="--report") == "out/2026-11-23.html"


@pytest.mark.parametrize("batch", ["", "a/b", "../x", ".hidden", "a\x00b", "a\nb"])
def test_a_batch_id_that_is_no_file_name_is_refused_where_one_is_made_of_it(batch: str) -> None:
    """No report lands in another folder."""
    with pytest.raises(UsageError, match="--report"):
        expand_path("out/{batch}.html", VALUES, batch=batch, what="--report")


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../etc/passwd", "/etc/passwd", "Europe"])
def test_an_unknown_zone_is_an_error(name: str) -> None:
    """The sentence shows what would be right."""
    with pytest.raises(UsageError, match="Europe/Berlin"):
        zone_named(name)
