"""A file is written whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from batchsubmit.errors import UsageError
from batchsubmit.outputs.files import saving


def test_a_file_takes_its_place_at_the_end(tmp_path: Path) -> None:
    """Until then the old one stands, and afterwards nothing else lies about."""
    target = tmp_path / "x.csv"
    target.write_bytes(b"old")
    with saving(target) as file:
        file.write(b"new")
        file.flush()
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert [each.name for each in tmp_path.iterdir()] == ["x.csv"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """Not even a half of the new one."""
    target = tmp_path / "x.csv"
    target.write_bytes(b"old")
    with pytest.raises(TypeError), saving(target) as file:
        file.writelines([b"new", None])  # type: ignore[list-item]
    assert target.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["x.csv"]


def test_the_mode_is_the_old_file_s_or_what_the_umask_leaves(tmp_path: Path) -> None:
    """Not the secrecy of a temporary file."""
    before = os.umask(0o027)
    try:
        with saving(tmp_path / "new"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    (tmp_path / "new").chmod(0o600)
    with saving(tmp_path / "new"):
        pass
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """Its target is what is replaced."""
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    with saving(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_what_is_read_from_is_not_written_over(tmp_path: Path) -> None:
    """Whatever it is called."""
    ledger = tmp_path / "x.ledger.jsonl"
    ledger.write_bytes(b"precious")
    (tmp_path / "link").symlink_to(ledger)
    for target in (ledger, tmp_path / "link"):
        with pytest.raises(UsageError, match="is what is read from"), saving(target, inputs=[ledger]):
            pass
    assert ledger.read_bytes() == b"precious"


def test_folders_that_are_not_there_are_made(tmp_path: Path) -> None:
    """As a night's report needs them."""
    with saving(tmp_path / "some" / "where" / "x.csv") as file:
        file.write(b"x")
    assert (tmp_path / "some" / "where" / "x.csv").read_bytes() == b"x"


def test_a_folder_that_cannot_be_made_is_told_in_a_sentence(tmp_path: Path) -> None:
    """Which file, and why."""
    (tmp_path / "none").write_text("a file")
    with (
        pytest.raises(UsageError, match=r"none/x\.csv cannot be written: (Not a directory|File exists)"),
        saving(tmp_path / "none/x.csv"),
    ):
        pass


def test_a_device_is_written_to_as_it_is() -> None:
    """It has no place to take."""
    with saving(Path("/dev/null")) as file:
        file.write(b"gone")
    assert Path("/dev/null").is_char_device()
