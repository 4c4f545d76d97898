"""The report page served live: it follows its ledger, and only who has its address sees anything."""

import re
import signal
import time
import urllib.request
from pathlib import Path

import aiohttp
import pytest
from browser import find_chromium, open_browser
from conftest import Program, finish
from sample_ledgers import HOSTILE, Night, Story, write_story

from batchsubmit.app.ui import serving
from batchsubmit.config import Settings
from batchsubmit.ledger.lines import encode_line

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium on this machine")


@pytest.fixture
def story() -> Story:
    """A run under way."""
    story = Story()
    story.run(0, rows=3)
    story.intent(1, "first")
    story.accepted(2, "first")
    story.finished(9, "first")
    return story


async def test_an_open_page_follows_its_ledger(tmp_path: Path, story: Story) -> None:
    """A line that is appended is seen in text, table and charts; filters stay; nothing but the server is asked."""
    ledger = write_story(tmp_path / "jobs.ledger.jsonl", story)
    async with serving(ledger, host="127.0.0.1", port=0, settings=Settings()) as address, open_browser() as page:
        await page.visit(f"{address}#state=bad")
        found = "document.getElementById('found').textContent"
        assert await page.evaluate(found) == "0 of 1 jobs"
        append_failure(ledger, story, HOSTILE[1])
        await page.until(f"{found} === '1 of 2 jobs'")
        assert HOSTILE[1] in await page.evaluate("document.getElementById('table').textContent")
        await page.until("document.querySelector('[data-chart]').dataset.drawn")
        assert await page.evaluate("document.querySelectorAll('main img, main script').length") == 0
        assert all(url.startswith((address, "data:")) for url in page.requests)
        assert page.problems == []


async def test_an_open_page_hears_of_a_line_and_has_its_text_within_two_seconds(tmp_path: Path, story: Story) -> None:
    """Without what a browser takes to draw it. The best of three, for a machine that is busy for a moment."""
    ledger = write_story(tmp_path / "jobs.ledger.jsonl", story)
    async with (
        serving(ledger, host="127.0.0.1", port=0, settings=Settings()) as address,
        aiohttp.ClientSession() as session,
    ):
        delays = []
        for name in ("one", "two", "three"):
            async with session.get(address) as answer:
                shown = re.search(r'data-live="([^"]*)"', await answer.text())
            assert shown is not None
            async with session.get(f"{address}events", params={"shown": shown[1]}) as events:
                append_failure(ledger, story, name)
                began = time.monotonic()
                while not (await events.content.readline()).startswith(b"data:"):
                    pass
                async with session.get(f"{address}?update") as answer:
                    assert name in await answer.text()
                delays.append(time.monotonic() - began)
    assert min(delays) < 2


def append_failure(ledger: Path, story: Story, name: str) -> None:
    """Let a job of this name be seen to fail."""
    story.failed(10, name, message=HOSTILE[0])
    with ledger.open("ab") as file:
        file.write(encode_line(story.events[-1]))


async def test_a_folder_shows_its_nights_beside_one_another(tmp_path: Path, story: Story) -> None:
    """The newest first, with the mean of those before it; each leads to its page."""
    Night(jobs=40).write(tmp_path / "old.ledger.jsonl")
    write_story(tmp_path / "new.ledger.jsonl", story)
    (tmp_path / "manifest.jsonl").write_text('{"name": "no ledger"}\n')
    async with serving(tmp_path, host="127.0.0.1", port=0, settings=Settings()) as address, open_browser() as page:
        await page.call("Page.navigate", url=address)
        await page.until("document.querySelectorAll('tbody tr').length === 3")
        links = await page.evaluate("[...document.querySelectorAll('th a')].map((link) => link.getAttribute('href'))")
        assert sorted(links) == ["new.ledger.jsonl/", "old.ledger.jsonl/"]
        await page.visit(f"{address}old.ledger.jsonl/")
        assert await page.evaluate("document.querySelector('h1').textContent") == "nightly-2026-11-22"
        assert page.problems == []


async def test_without_the_token_there_is_nothing(tmp_path: Path, story: Story) -> None:
    """No path outside it, no name that is no ledger of the folder, and nothing that changes anything."""
    write_story(tmp_path / "a.ledger.jsonl", story)
    (tmp_path / "secret.jsonl").write_text("no ledger\n")
    async with (
        serving(tmp_path, host="127.0.0.1", port=0, settings=Settings()) as address,
        aiohttp.ClientSession() as session,
    ):
        root = address.split("/", 3)
        for url in (
            f"{root[0]}//{root[2]}/",
            f"{root[0]}//{root[2]}/x/",
            f"{address}secret.jsonl/",
            f"{address}..%2Fx/",
        ):
            async with session.get(url) as answer:
                assert answer.status == 404, url
        async with session.post(address) as answer:
            assert answer.status == 405
        async with session.get(address) as answer:
            assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_the_command_prints_its_address_first_and_ends_with_ctrl_c(program: Program, story: Story, host: str) -> None:
    """With exit status 0, on this machine's own address unless told another; what is no ledger is a mistake."""
    write_story(program.folder / "jobs.ledger.jsonl", story)
    given = () if host == "127.0.0.1" else ("--host", host)
    with program.running("ui", "jobs.ledger.jsonl", "--no-browser", *given) as process:
        assert process.stdout is not None
        address = process.stdout.readline().decode()
        assert re.fullmatch(rf"http://{host}:\d+/[\w-]{{32}}/\n", address)
        with urllib.request.urlopen(address.strip()) as answer:  # noqa: S310 (ours)
            assert b"<h1>jobs.csv</h1>" in answer.read()
        process.send_signal(signal.SIGINT)
        assert finish(process).status == 0
    assert program.run("ui", "none.jsonl").status == 2


async def test_a_damaged_ledger_is_said(tmp_path: Path) -> None:
    """In the place of its page."""
    ledger = tmp_path / "a.ledger.jsonl"
    ledger.write_bytes(b'{"event":"x"}\n{"event":"y"}\n')
    async with (
        serving(ledger, host="127.0.0.1", port=0, settings=Settings()) as address,
        aiohttp.ClientSession() as session,
        session.get(address) as answer,
    ):
        assert answer.status == 500
        assert "line 1" in await answer.text()


async def test_the_server_ends_while_a_tab_is_open(tmp_path: Path, story: Story) -> None:
    """An event stream has no end of its own."""
    ledger = write_story(tmp_path / "jobs.ledger.jsonl", story)
    async with aiohttp.ClientSession() as session:
        async with serving(ledger, host="127.0.0.1", port=0, settings=Settings()) as address:
            answer = await session.get(f"{address}events")
            assert (await answer.content.readuntil(b"\n\n")).startswith(b": here")
            assert (await answer.content.readuntil(b"\n\n")).startswith(b"data: ")
        answer.close()
