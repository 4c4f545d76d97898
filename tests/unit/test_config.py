"""Settings: flags over environment over file over defaults, and no mistake passes."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from batchsubmit.config import Settings, changed, load_settings, setting_names
from batchsubmit.errors import UsageError

WHOLE = """
[rate]
max_per_second = 2.5
[slots]
per_membership = 7
[defaults]
resourceConfig = { instanceType = "ml.m5.large" }
"""


def toml(folder: Path, text: str) -> Path:
    """Write a settings file."""
    file = folder / "settings.toml"
    file.write_text(text)
    return file


def test_without_anything_the_defaults_hold() -> None:
    """Those that the contract and the README name."""
    settings = load_settings()
    assert settings.model_dump() == Settings().model_dump()
    assert settings.rate.max_per_second == 1
    assert (settings.slots.per_membership, settings.slots.per_account) == (0, 0)
    assert settings.submit.tag_jobs
    assert settings.defaults == {}


def test_flags_beat_the_environment_beats_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Key by key: what a higher layer leaves out comes from a lower one."""
    file = toml(tmp_path, "[rate]\nmax_per_second = 1\n[retry]\nmax_attempts = 2\nbase_seconds = 0.25\n")
    monkeypatch.setenv("BATCHSUBMIT_RATE__MAX_PER_SECOND", "2")
    monkeypatch.setenv("BATCHSUBMIT_RETRY__MAX_ATTEMPTS", "3")
    settings = load_settings(file, {"rate": {"max_per_second": 3}})
    assert settings.rate.max_per_second == 3
    assert settings.retry.max_attempts == 3
    assert settings.retry.base_seconds == 0.25


def test_a_file_sets_sections_and_request_defaults(tmp_path: Path) -> None:
    """Defaults are free keys, in the API's own names."""
    settings = load_settings(toml(tmp_path, WHOLE))
    assert settings.rate.max_per_second == 2.5
    assert settings.slots.per_membership == 7
    assert settings.defaults == {"resourceConfig": {"instanceType": "ml.m5.large"}}


def test_a_dot_env_file_is_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies about in the current folder changes nothing."""
    (tmp_path / ".env").write_text("BATCHSUBMIT_RATE__MAX_PER_SECOND=3\n")
    monkeypatch.chdir(tmp_path)
    assert load_settings().rate.max_per_second == 1


def test_a_whole_section_may_stand_in_one_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """As JSON."""
    monkeypatch.setenv("BATCHSUBMIT_RETRY", '{"max_attempts": 9}')
    assert load_settings().retry.max_attempts == 9


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[rate]\nmax_per_secnd = 1\n", r"no setting rate\.max_per_secnd; did you mean rate\.max_per_second"),
        ("[rates]\nmax_per_second = 1\n", r"no setting rates; did you mean rate"),
        ("[rate\n", "is not TOML"),
        ("[rate]\nmax_per_second = 'fast'\n", r"rate\.max_per_second .*'fast'"),
        ("[rate]\nmax_per_second = -1\n", r"rate\.max_per_second .*-1"),
        ("[rate]\nmax_per_second = nan\n", r"rate\.max_per_second"),
        ("[submit]\nconcurrency = 0\n", r"submit\.concurrency"),
        ("[log]\nlevel = 'loud'\n", r"log\.level .*'loud'"),
        ("rate = 3\n", "rate"),
        ("concurrency = 3\n", "no setting concurrency"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_key(tmp_path: Path, text: str, sentence: str) -> None:
    """And with the file."""
    file = toml(tmp_path, text)
    with pytest.raises(UsageError, match=sentence) as caught:
        load_settings(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("BATCHSUBMIT_RATE__MAX_PER_SECND", "1", "BATCHSUBMIT_RATE__MAX_PER_SECND: there is no setting"),
        ("BATCHSUBMIT_RATE_MAX_PER_SECOND", "1", "did you mean rate.max_per_second"),
        ("BATCHSUBMIT_RATE__MAX_PER_SECOND", "fast", "BATCHSUBMIT_RATE__MAX_PER_SECOND"),
        ("BATCHSUBMIT_RATE__MAX_PER_SECOND", "", "BATCHSUBMIT_RATE__MAX_PER_SECOND"),
        ("BATCHSUBMIT_RETRY", "not json", "environment"),
        ("BATCHSUBMIT_RATE__MAX_PER_SECOND__DEEPER", "1", "there is no setting"),
    ],
)
def test_a_mistake_in_the_environment_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, sentence: str
) -> None:
    """A misspelt variable is an error, not silence."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=sentence):
        load_settings()


def test_a_settings_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, a folder, or not UTF-8."""
    with pytest.raises(UsageError, match=r"nowhere\.toml cannot be read"):
        load_settings(tmp_path / "nowhere.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        load_settings(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# \xe4\n")
    with pytest.raises(UsageError, match="is not UTF-8"):
        load_settings(tmp_path / "latin.toml")


def test_settings_are_frozen() -> None:
    """Read once, then the same for the whole run."""
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.rate.max_per_second = 1
    with pytest.raises(ValidationError):
        settings.rate = settings.rate


def test_every_setting_has_a_meaning_and_a_default_that_it_would_itself_accept() -> None:
    """`batchsubmit schema --settings` and the documentation rest on it."""
    names = list(setting_names())
    assert ("rate", "max_per_second") in names
    assert ("defaults",) in names
    for section, *keys in names:
        field = Settings.model_fields[section]
        for key in keys:
            field = field.annotation.model_fields[key]  # type: ignore[union-attr]
        assert field.description
    defaults = Settings().model_dump()
    assert Settings(**defaults) == Settings()


def test_what_differs_from_the_defaults_is_given_but_no_secret_and_no_request() -> None:
    """The ledger has it, so that the report can say it."""
    given = {
        "rate": {"max_per_second": 0.5},
        "slots": {"priorities": {"m": 2}},
        "night": {"notify": ("https://hooks.example/T0/secret",), "webhook_secret": "0123456789abcdef"},
        "defaults": {"environment.TOKEN": "secret"},
    }
    assert changed(Settings(**given)) == {"rate.max_per_second": "0.5", "slots.priorities": '{"m": 2}'}
    assert changed(Settings()) == {}
