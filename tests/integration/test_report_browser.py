"""The report page in a real browser: it works without a complaint or a request, and strangers' words stay text."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from browser import Page, find_chromium, open_browser
from sample_ledgers import HOSTILE, Night

from batchsubmit.report.page import make_page
from batchsubmit.report.timeline import Timeline

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium on this machine")

ROWS = "[...document.querySelectorAll('#body tr:not(.details)')]"
NAMES = f"{ROWS}.map((row) => row.querySelector('th button').textContent)"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a night with some of everything."""
    timeline = Timeline.of(Night(jobs=600, hostile=HOSTILE, rows=640).events())
    page = make_page(timeline, ledger="night.ledger.jsonl", made_at=(timeline.last_at or 0) + 3600)
    target = tmp_path_factory.mktemp("report") / "night.html"
    target.write_text("".join(page.parts()), encoding="utf-8")
    return target


@pytest.fixture
async def page(path: Path) -> AsyncIterator[Page]:
    """The page, open; at the end nothing may have been complained of, and nothing loaded but the file itself."""
    async with open_browser() as page:
        await page.open(path)
        yield page
        assert page.problems == []
        assert [url for url in page.requests if not url.startswith("data:")] == [path.as_uri()]


async def test_the_table_begins_with_what_needs_a_hand(page: Page) -> None:
    """Fifty rows of it, and a count of all."""
    assert len(await page.evaluate(NAMES)) == 50
    assert await page.evaluate("document.getElementById('found').textContent") == "600 jobs"
    assert await page.evaluate(f"{ROWS}[0].cells[1].textContent") == "unknown"


async def test_search_finds_by_name_key_message_and_arn(page: Page) -> None:
    """Whatever part of it is typed or pasted."""
    await page.type("#search", "CHURN-000123")
    await page.until(f"{NAMES}.join() === 'churn-000123'")
    await page.click("#body th button")
    words = await page.evaluate("document.querySelector('.details dl').textContent")
    data = json.loads(await page.evaluate("document.getElementById('data').textContent"))
    row = data["columns"]["name"].index("churn-000123")
    key, tail = data["columns"]["key"][row], data["columns"]["arn"][row]
    assert key in words
    for text in (key, f"arn:aws:cleanrooms-ml:us-east-1:1:membership/x/trained-model-inference-job/{tail}"):
        await page.type("#search", "nothing has this")
        await page.until(f"{ROWS}.length === 0")
        await page.type("#search", text)
        await page.until(f"{NAMES}.join() === 'churn-000123'")
    await page.type("#search", "outofmemory gib")
    await page.until(f"{ROWS}.length && {ROWS}.every((row) => row.cells[1].textContent === 'ended badly')")


async def test_a_column_s_button_sorts_up_then_down_and_says_so(page: Page) -> None:
    """To the eye and to `aria-sort`, on one column at a time; what has no value stays last."""
    heading = "document.querySelector('#head th:nth-child(1)').getAttribute('aria-sort')"
    await page.click("#head th:nth-child(1) button")
    await page.until(f"{heading} === 'ascending'")
    upwards = await page.evaluate(NAMES)
    assert upwards == sorted(upwards)
    await page.click("#head th:nth-child(1) button")
    await page.until(f"{heading} === 'descending'")
    assert (await page.evaluate(NAMES))[0] == "{{ 7 * 7 }}"
    assert await page.evaluate("document.querySelectorAll('#head [aria-sort]').length") == 1
    for _ in range(2):
        await page.click("#head th:nth-child(6) button")
        assert await page.evaluate(f"{ROWS}[0].cells[5].textContent") != "\u2013"


async def test_pages_turn_to_the_last_and_back(page: Page) -> None:
    """Every job is on one of them."""
    await page.click("#last")
    assert await page.evaluate("document.getElementById('page').textContent") == "551 to 600 of 600"
    assert await page.evaluate("document.getElementById('after').disabled") is True
    await page.click("#first")
    seen: set[str] = set()
    for _ in range(12):
        seen |= set(await page.evaluate(NAMES))
        await page.evaluate("document.getElementById('after').click()")
    assert len(seen) == 600


async def test_filters_narrow_and_a_reason_shows_its_jobs(page: Page) -> None:
    """From the list of failures to the rows, and back again."""
    await page.click("button.show[data-reason]")
    count = await page.evaluate("document.querySelector('.reasons b').textContent")
    found = "document.getElementById('found').textContent"
    await page.until(f"{found} === '{count} of 600 jobs'")
    await page.click("#reason")
    await page.until(f"{found} === '600 jobs'")
    await page.evaluate(
        "(() => { const e = document.getElementById('fate'); e.value = '5'; e.dispatchEvent(new Event('change')); })()"
    )
    await page.until(f"{ROWS}.every((row) => row.cells[1].textContent === 'finished well')")


async def test_hostile_names_stay_text(page: Page) -> None:
    """Searched for, shown, opened: never an element, never a dialog."""
    for name in HOSTILE:
        await page.type("#search", name)
        await page.until(f"{NAMES}.includes({json.dumps(name)})")
        await page.click("#body th button")
    assert await page.evaluate("document.querySelectorAll('script').length") == 2
    assert await page.evaluate("document.querySelectorAll('#jobs img, #jobs b, #failures img').length") == 0


@pytest.fixture
def attacked(path: Path) -> Path:
    """The page with what a mistake in escaping would let in."""
    injected = "<script>window.ran = 1</script><img src='http://127.0.0.1:9/x.png' onerror='window.ran = 2'></body>"
    bad = path.with_name("bad.html")
    bad.write_text(path.read_text(encoding="utf-8").replace("</body>", injected), encoding="utf-8")
    return bad


async def test_the_policy_holds_even_where_escaping_would_fail(attacked: Path) -> None:
    """A script and a handler that got into the page all the same do not run."""
    async with open_browser() as page:
        await page.open(attacked)
        await page.until("document.readyState === 'complete'")
        assert await page.evaluate("window.ran") is None
        assert any("Content Security Policy" in problem for problem in page.problems)


@pytest.mark.parametrize(("width", "shown"), [(1200, "wide"), (360, "narrow")])
async def test_a_phone_gets_its_own_drawings_and_nothing_to_scroll_sideways(path: Path, width: int, shown: str) -> None:
    """Texts of a chart stay readable, and only tables are wider than the page, in boxes of their own."""
    async with open_browser(width=width) as page:
        await page.open(path)
        visible = "[...document.querySelectorAll('svg.chart')].filter((e) => e.getBoundingClientRect().width)"
        assert set(await page.evaluate(f"{visible}.map((e) => e.classList[1])")) == {shown}
        sizes = "[...document.querySelectorAll('svg.chart text')].map((e) => e.getBoundingClientRect().height)"
        assert min(filter(None, await page.evaluate(sizes))) >= 9
        assert await page.evaluate("document.documentElement.scrollWidth") <= width


async def test_the_dark_page_is_dark_inside_its_charts_too(path: Path) -> None:
    """Texts are light, and no chart brings a light ground of its own."""
    async with open_browser(dark=True) as page:
        await page.open(path)
        ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        text = await page.evaluate("getComputedStyle(document.querySelector('svg.chart text')).fill")
        assert sum(map(int, ground[4:-1].split(","))) < 150
        assert sum(map(int, text[4:-1].split(","))) > 400
        assert await page.evaluate("getComputedStyle(document.querySelector('svg .background')).fill") == "none"


async def test_a_screen_reader_finds_landmarks_and_named_tables(page: Page) -> None:
    """As the browser itself tells assistive programs."""
    tree = (await page.call("Accessibility.getFullAXTree"))["nodes"]
    told = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]]
    roles = [role for role, _ in told]
    assert {"banner", "navigation", "main", "contentinfo", "search"} <= set(roles)
    assert all(name for role, name in told if role in {"table", "region", "button", "combobox", "searchbox"})
    assert roles.count("heading") >= 7


async def test_without_scripts_the_page_still_answers(path: Path) -> None:
    """All but the table, which says what to do instead."""
    async with open_browser() as page:
        await page.call("Emulation.setScriptExecutionDisabled", value=True)
        await page.call("Page.navigate", url=path.as_uri())
        async with asyncio.timeout(10):
            text = ""
            while "This table needs JavaScript" not in text:
                tree = (await page.call("Accessibility.getFullAXTree"))["nodes"]
                text = "\n".join(node.get("name", {}).get("value", "") for node in tree)
        assert "What failed, and why" in text
