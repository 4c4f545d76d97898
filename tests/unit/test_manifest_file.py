"""A manifest from anywhere becomes a local file that can be read twice."""

import codecs
import gzip
import hashlib
import io
import os
import sys
import threading
from pathlib import Path

import pytest

from batchsubmit.errors import UsageError
from batchsubmit.manifest.file import open_manifest, physical_lines

CONTENT = b"name,tags.a\njob,1\n"


async def read(location: str | Path) -> tuple[str, str, bytes]:
    """The label, the format and the content, read twice."""
    async with open_manifest(str(location)) as spooled:
        content = spooled.file.read()
        spooled.file.seek(0)
        assert spooled.file.read() == content
        assert spooled.sha256 == hashlib.sha256(content).hexdigest()
        return spooled.label, spooled.format, content


async def refusal(location: str | Path) -> str:
    """The sentence with which a location is refused."""
    with pytest.raises(UsageError) as caught:
        await read(location)
    return str(caught.value).replace(str(location), "M")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("m.csv", b"{", "csv"),
        ("m.TSV", b"{", "csv"),
        ("m.txt", b"{", "csv"),
        ("m.jsonl", b"x", "jsonl"),
        ("m.ndjson", b"x", "jsonl"),
        ("m.json", b"x", "jsonl"),
        ("m", codecs.BOM_UTF8 + b"\n {}", "jsonl"),
        ("m.dat", b"name", "csv"),
    ],
)
async def test_the_format_is_told_by_suffix_else_by_content(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    """Packed or not."""
    path, packed = tmp_path / name, tmp_path / f"{name}.gz"
    path.write_bytes(content)
    packed.write_bytes(gzip.compress(content))
    assert await read(path) == (str(path), expected, content)
    assert await read(packed) == (str(packed), expected, content)


async def test_gzip_is_told_by_its_content(tmp_path: Path) -> None:
    """A wrong name does not matter, unless it promises what the content is not."""
    (tmp_path / "m.csv").write_bytes(gzip.compress(CONTENT))
    assert (await read(tmp_path / "m.csv"))[2] == CONTENT
    (tmp_path / "m.csv.gz").write_bytes(CONTENT)
    assert "M: is not gzip data" in await refusal(tmp_path / "m.csv.gz")


@pytest.mark.parametrize("keep", [2, 12, -1, -9])
async def test_cut_off_gzip_is_refused(tmp_path: Path, keep: int) -> None:
    """However much of it is there."""
    path = tmp_path / "m.csv.gz"
    path.write_bytes(gzip.compress(CONTENT * 100)[:keep])
    assert await refusal(path) == "M: the gzip data is damaged or cut off; compress it again"


async def test_damaged_gzip_is_refused(tmp_path: Path) -> None:
    """A flipped byte in the middle."""
    data = bytearray(gzip.compress(os.urandom(1000)))
    data[500] ^= 0xFF
    (tmp_path / "m.gz").write_bytes(data)
    assert await refusal(tmp_path / "m.gz") == "M: the gzip data is damaged or cut off; compress it again"


async def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path: Path) -> None:
    """A folder, a missing file, an empty one, UTF-16, and a name that is none."""
    (tmp_path / "empty.csv").touch()
    (tmp_path / "empty.csv.gz").write_bytes(gzip.compress(b""))
    (tmp_path / "wide.csv").write_bytes("name".encode("utf-16"))
    assert await refusal(tmp_path) == "M: is a folder, not a manifest; name the file in it"
    assert await refusal(tmp_path / "none.csv") == "M: there is no such file"
    assert "M: is empty" in await refusal(tmp_path / "empty.csv")
    assert "M: is empty" in await refusal(tmp_path / "empty.csv.gz")
    assert await refusal(tmp_path / "wide.csv") == "M: is UTF-16, not UTF-8; save it as UTF-8"
    assert "is no file name" in await refusal("a\0b")
    assert "M: cannot be read: " in await refusal("x" * 5000)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_an_unreadable_file_is_said_in_a_sentence(tmp_path: Path) -> None:
    """The permission is named as the cause."""
    (tmp_path / "m.csv").write_bytes(CONTENT)
    (tmp_path / "m.csv").chmod(0)
    assert await refusal(tmp_path / "m.csv") == "M: may not be read; ask for read permission"


async def test_a_pipe_is_copied(tmp_path: Path) -> None:
    """It can be read once only, and readers go back."""
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(CONTENT,))
    writer.start()
    assert (await read(pipe))[2] == CONTENT
    writer.join()


@pytest.mark.parametrize("content", [CONTENT, gzip.compress(CONTENT)], ids=["plain", "packed"])
async def test_standard_input_is_copied(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """From a pipe, packed or not."""
    receiving, sending = os.pipe()
    os.write(sending, content)
    os.close(sending)
    with open(receiving, encoding="utf-8") as stdin:  # noqa: ASYNC230, PTH123 - a pipe that is full already
        monkeypatch.setattr(sys, "stdin", stdin)
        assert await read("-") == ("stdin", "csv", CONTENT)


async def test_standard_input_may_be_no_real_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in tests of the command line."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"name": "a"}')))
    assert (await read("-"))[1] == "jsonl"


async def test_the_file_is_closed_at_the_end(tmp_path: Path) -> None:
    """Also when the user of it fails."""
    (tmp_path / "m.csv").write_bytes(CONTENT)
    with pytest.raises(KeyError):
        async with open_manifest(str(tmp_path / "m.csv")) as spooled:
            raise KeyError
    assert spooled.file.closed


async def test_errors_of_the_user_are_not_reworded(tmp_path: Path) -> None:
    """Only what happens while opening is about the manifest."""
    (tmp_path / "m.csv").write_bytes(CONTENT)
    with pytest.raises(FileNotFoundError):
        async with open_manifest(str(tmp_path / "m.csv")):
            raise FileNotFoundError


@pytest.mark.parametrize("padding", range(20))
def test_lines_are_whole_wherever_a_block_ends(padding: int) -> None:
    """A CR at the end of a block still finds its LF."""
    data = b"x" * padding + b"a\r\nbc\rd\n\r\n\r\r\n" * 3000 + b"end\r"
    assert list(physical_lines(io.BytesIO(data), 0)) == data.splitlines(keepends=True)
    assert list(physical_lines(io.BytesIO(data), 3)) == data[3:].splitlines(keepends=True)
