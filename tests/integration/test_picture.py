"""The command that makes the README's pictures works: it runs the real program and shows what that shows."""

import re
from pathlib import Path

import pytest
from browser import find_chromium

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium on this machine")


def test_the_recording_shows_a_real_run_from_its_command_to_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Display and summary; nothing in it is loaded from elsewhere, nor runs."""
    monkeypatch.syspath_prepend(ROOT / "tests")
    import picture  # noqa: PLC0415 (a command, of the folder above)

    head, *rows = (ROOT / "configs" / "demo.csv").read_text().splitlines()
    manifest, target = tmp_path / "two.csv", tmp_path / "run.svg"
    manifest.write_text("\n".join([head, *rows[:2], ""]))
    picture.record(target, manifest)
    drawn = target.read_text()
    shown = re.sub(r"<[^>]+>", "", drawn).replace("&#160;", " ")
    assert "$ batchsubmit submit configs/demo.csv --sandbox --yes" in shown
    assert "of 2 done" in shown
    assert "2 of 2 jobs submitted" in shown
    assert "<script" not in drawn
    assert re.findall(r"https?://[^\"]+", drawn) == ["http://www.w3.org/2000/svg"]


def test_the_recording_in_the_readme_is_of_this_display() -> None:
    """Whoever changes its words makes the pictures again."""
    shown = re.sub(r"<[^>]+>", "", (ROOT / "configs" / "run.svg").read_text()).replace("&#160;", " ")
    assert re.search(r"\d+ %, \d+ of 22 done, \d+ submitted, 10 of 10 slots used", shown)
    assert "22 of 22 jobs submitted" in shown
