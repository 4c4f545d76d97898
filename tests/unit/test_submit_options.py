"""What a `submit` is asked for: flags over settings, place-holders, zones, and what follows the run."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from batchsubmit.app.after_run import AfterRun, Writer
from batchsubmit.app.run import SubmitOptions, submit_options
from batchsubmit.cli.export import write_export
from batchsubmit.cli.report import write_report
from batchsubmit.cli.submit import after_run_of
from batchsubmit.config import load_settings
from batchsubmit.core.jobs import Event
from batchsubmit.errors import UsageError
from batchsubmit.ledger.location import Location, TableLocation
from batchsubmit.outputs.notify import Target
from batchsubmit.outputs.upload import Destination

CONFIGS = Path(__file__).parents[2] / "configs"
EVENING = datetime(2026, 11, 23, 22, 0, tzinfo=UTC)
TOPIC = "arn:aws:sns:us-east-1:123456789012:nights"


def read(
    now: datetime = EVENING, *, config: Path | None = None, sandbox: bool = False, **flags: dict[str, Any]
) -> tuple[SubmitOptions, AfterRun | None]:
    """Read a request with these settings."""
    settings = load_settings(config, flags)
    options = submit_options(settings, now, manifest="jobs.csv", sandbox=sandbox)
    return options, after_run_of(settings, options)


def test_nothing_set_is_nothing_asked() -> None:
    """No batch, no deadline, nothing afterwards."""
    options, after = read()
    assert (options.batch, options.ledger, options.deadline, options.wait) == ("", None, None, False)
    assert after is None


def test_the_nightly_settings_make_one_batch_of_a_night() -> None:
    """Whether it is started in the evening or again after midnight; the deadline is the same morning."""
    requests = [
        read(datetime(2026, 11, day, hour, tzinfo=UTC), config=CONFIGS / "nightly.toml")[0]
        for day, hour in ((23, 22), (24, 1), (24, 5))
    ]
    assert {each.batch for each in requests} == {"nightly-2026-11-23"}
    assert {each.ledger for each in requests} == {Path("nightly-2026-11-23.ledger.jsonl")}
    assert {each.moment["date"] for each in requests} == {"2026-11-23"}
    assert {each.deadline for each in requests} == {datetime(2026, 11, 24, 6, tzinfo=UTC)}
    assert all(each.wait for each in requests)
    following, _ = read(datetime(2026, 11, 24, 22, tzinfo=UTC), config=CONFIGS / "nightly.toml")
    assert following.batch == "nightly-2026-11-24"


@pytest.mark.parametrize("name", ["kubernetes-nightly.yaml", "ecs-task-nightly.json"])
def test_the_scheduled_nights_keep_their_batch_after_midnight(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod or task that takes over at one o'clock must not make every job a new one."""
    text = (CONFIGS / "deploy" / name).read_text(encoding="utf-8")
    [(variable, value)] = re.findall(r"(BATCHSUBMIT_SUBMIT__DAY_BEGINS)\W+value\W+([\d:]+)", text)
    monkeypatch.setenv(variable, value)
    evening, night = (datetime(2026, 11, day, hour, tzinfo=UTC) for day, hour in ((23, 20), (24, 1)))
    batches = {read(moment, submit={"batch_id": "nightly-{date}"})[0].batch for moment in (evening, night)}
    assert batches == {"nightly-2026-11-23"}


def test_a_flag_beats_the_nightly_settings() -> None:
    """Yesterday's batch can be finished in the morning."""
    options, _ = read(
        datetime(2026, 11, 24, 9, tzinfo=UTC),
        config=CONFIGS / "nightly.toml",
        submit={"batch_id": "nightly-2026-11-23", "deadline": "20:00", "wait": False},
    )
    assert options.batch == "nightly-2026-11-23"
    assert options.deadline == datetime(2026, 11, 24, 20, tzinfo=UTC)
    assert not options.wait


def test_the_zone_is_that_of_date_and_deadline() -> None:
    """At 23:30 UTC it is the next day in Berlin, and six is five."""
    late = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)
    chosen = {"batch_id": "{date}", "time_zone": "Europe/Berlin", "deadline": "06:00"}
    options, _ = read(late, submit=chosen)
    assert options.batch == "2026-11-24"
    assert options.deadline is not None
    assert options.deadline.astimezone(UTC) == datetime(2026, 11, 24, 5, tzinfo=UTC)


def test_what_follows_is_named_after_the_batch() -> None:
    """Files in their order, the copies, the notices."""
    night = {
        "report": "out/{batch}.html",
        "export": "out/{date}.csv",
        "upload": "s3://bucket/{batch}",
        "notify": [f"sns:{TOPIC}", "https://example.com/x"],
        "webhook_secret": "0123456789abcdef",
    }
    _, after = read(submit={"batch_id": "n-{date}"}, night=night)
    assert after is not None
    report, export = after.files
    assert (report, export) == (Path("out/n-2026-11-23.html"), Path("out/2026-11-23.csv"))
    assert after.files[report] is write_report
    assert after.files[export] is write_export
    assert after.report == "out/n-2026-11-23.html"
    assert after.destination == Destination("bucket", "n-2026-11-23/")
    assert after.targets == (Target(TOPIC, "sns"), Target("https://example.com/x"))
    assert after.settings.night.webhook_secret is not None
    assert after.settings.night.webhook_secret.get_secret_value() == "0123456789abcdef"
    assert "0123456789abcdef" not in repr(after)


def test_a_rehearsal_writes_files_and_reaches_nobody() -> None:
    """Its ledger would lie where the real one belongs."""
    _, after = read(
        sandbox=True, night={"report": "r.html", "upload": "s3://bucket", "notify": ["https://example.com/x"]}
    )
    assert after is not None
    assert after.files
    assert after.destination is None
    assert after.targets == ()


@pytest.mark.parametrize(
    ("section", "keys", "sentence"),
    [
        ("submit", {"batch_id": "n-{day}"}, r"--batch-id .*\{day\}"),
        ("submit", {"ledger": "{batch}.jsonl"}, "--ledger .*no --batch-id"),
        ("submit", {"time_zone": "Berlin"}, "no time zone 'Berlin'"),
        ("submit", {"deadline": "late"}, "--deadline late"),
        ("submit", {"max_failures": "many"}, "--max-failures many"),
        ("night", {"upload": "bucket"}, "--upload bucket"),
        ("night", {"notify": ["mail"]}, "--notify"),
        ("night", {"report": "{nope}.html"}, r"--report .*\{nope\}"),
        ("submit", {"day_begins": "noon"}, "submit.day_begins"),
        ("night", {"notify_timeout_seconds": 0}, "notify_timeout_seconds"),
    ],
)
def test_a_mistake_is_found_before_anything_is_sent(section: str, keys: dict[str, Any], sentence: str) -> None:
    """Also in what only matters at the end of the night."""
    with pytest.raises(UsageError, match=sentence):
        read(**{section: keys})


def test_a_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in an error nor where settings are printed."""
    monkeypatch.setenv("BATCHSUBMIT_NIGHT__WEBHOOK_SECRET", "hunter2")
    with pytest.raises(UsageError, match=r"night\.webhook_secret") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("BATCHSUBMIT_NIGHT__WEBHOOK_SECRET", "hunter2hunter2hunter2")
    assert "hunter2" not in repr(load_settings())


@pytest.mark.parametrize("write", [write_report, write_export])
def test_a_table_is_read_in_the_region_of_the_run_s_own_settings(
    write: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of --config: neither batchsubmit.toml nor the environment has to name it again."""
    regions = []

    def read_nothing(_: Location, *, region: str | None, **__: object) -> list[Event]:
        regions.append(region)
        return []

    monkeypatch.setattr("batchsubmit.cli.export.read_ledger", read_nothing)
    settings = load_settings(None, {"aws": {"region": "eu-west-3"}})
    write(TableLocation("jobs"), tmp_path / "out", settings)
    assert regions == ["eu-west-3"]
