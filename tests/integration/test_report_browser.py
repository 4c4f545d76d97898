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
    names = json.loads(await page.evaluate("document.getElementById('data').textContent"))["columns"]["name"]
    ids = json.loads(await page.evaluate("document.getElementById('ids').textContent"))
    row = names.index("churn-000123")
    key, tail = ids["key"][row], ids["arn"][row]
    assert key in words
    for text in (key, f"arn:aws:cleanrooms-ml:us-east-1:1:membership/x/trained-model-inference-job/{tail}"):
        await page.type("#search", "nothing has this")
        await page.until(f"{ROWS}.length === 0")
        await page.type("#search", text)
        await page.until(f"{NAMES}.join() === 'churn-000123'")
    await page.type("#search", "outofmemory gib")
    await page.until(f"{ROWS}.length && {ROWS}.every((row) => row.cells[1].textContent === 'failed')")


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
    await page.click("a.show[data-words]")
    count = await page.evaluate("document.querySelector('.reasons b').textContent")
    found = "document.getElementById('found').textContent"
    await page.until(f"{found} === '{count} of 600 jobs'")
    await page.click("#reason")
    await page.until(f"{found} === '600 jobs'")
    await page.evaluate(
        "(() => { const e = document.getElementById('state'); e.value = 'succeeded';"
        " e.dispatchEvent(new Event('change')); })()"
    )
    await page.until(f"{ROWS}.every((row) => row.cells[1].textContent === 'succeeded')")


async def test_hostile_names_stay_text(page: Page) -> None:
    """Searched for, shown, opened: never an element, never a dialog."""
    for name in HOSTILE:
        await page.type("#search", name)
        await page.until(f"{NAMES}.includes({json.dumps(name)})")
        await page.click("#body th button")
    assert await page.evaluate("document.querySelectorAll('script').length") == 5
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


DRAWN = "[...document.querySelectorAll('[data-chart]')].every((box) => box.dataset.drawn)"
FOUND = "document.getElementById('found').textContent"


async def draw_all(page: Page) -> None:
    """Scroll past every chart, so that each is drawn."""
    for name in await page.evaluate("[...document.querySelectorAll('[data-chart]')].map((box) => box.dataset.chart)"):
        await page.evaluate(f"document.getElementById('{name}').scrollIntoView({{behavior: 'instant'}})")
        await page.until(f"document.querySelector('[data-chart={name}]').dataset.drawn")


async def test_every_chart_is_drawn_answers_the_pointer_and_leads_to_its_jobs(page: Page) -> None:
    """Hover shows values, the legend switches, a marked time and a click filter the table and the address."""
    await draw_all(page)
    assert await page.evaluate("document.querySelectorAll('[data-chart]').length") == 7
    marks = "document.querySelectorAll('[data-chart=gantt] .mark-rect.role-mark path')"
    assert await page.evaluate(f"{marks}.length") > 500
    await page.evaluate(f"{marks}[40].id = 'bar'")
    await page.point("#bar")
    await page.until("document.getElementById('tip').textContent.includes('churn-')")
    name = await page.evaluate("document.querySelector('#tip dd').textContent")
    await page.click("#bar")
    await page.until(f"{NAMES}.length === 1")
    assert await page.evaluate(NAMES) == [name]
    assert await page.evaluate("location.hash.startsWith('#q=')")
    await page.evaluate("location.hash = '#state=failed'")
    await page.until(f"{ROWS}.every((row) => ['failed', 'rejected'].includes(row.cells[1].textContent))")

    lines = "document.querySelectorAll('[data-chart=burn-up] .mark-line path')"
    faint = f"[...{lines}].filter((line) => Number(line.getAttribute('opacity')) < 0.5).length"
    assert await page.evaluate(faint) == 0
    await page.evaluate("document.querySelectorAll('[data-chart=burn-up] .role-legend-symbol path')[5].id = 'switch'")
    await page.click("#switch")
    await page.until(f"{faint} === 3")

    before = await page.evaluate(FOUND)
    await page.drag("[data-chart=slots] svg", 0.3, 0.4)
    await page.until(f"location.hash.includes('from=') && {FOUND} !== {json.dumps(before)}")
    assert await page.evaluate(f"{marks}.length") < 200
    await page.click("#time")
    await page.until(f"{FOUND} === {json.dumps(before)}")


async def test_a_link_to_filtered_jobs_shows_them_again(path: Path) -> None:
    """The address holds the filters."""
    async with open_browser() as page:
        await page.open(path, "#state=failed&model=churn-v3&from=2026-11-22T22:00:00Z&to=2026-11-23T09:00:00Z")
        cells = f"{ROWS}.map((row) => row.cells[1].textContent + row.cells[2].textContent)"
        assert set(await page.evaluate(cells)) == {"failedchurn-v3"}
        assert await page.evaluate("document.getElementById('time').hidden") is False


@pytest.mark.parametrize(("width", "dark"), [(1200, True), (360, False)])
async def test_charts_fit_the_page_and_its_colours(path: Path, width: int, *, dark: bool) -> None:
    """On a phone only tables are wider than the page, in boxes of their own; in the dark, texts are light."""
    async with open_browser(width=width, dark=dark) as page:
        await page.open(path)
        await draw_all(page)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        sizes = "[...document.querySelectorAll('.chart text')].map((e) => e.getBoundingClientRect().height)"
        assert min(filter(None, await page.evaluate(sizes))) >= 9
        ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        text = await page.evaluate("getComputedStyle(document.querySelector('.chart .role-axis-label text')).fill")
        lights = [sum(map(int, colour[4:-1].split(","))) for colour in (ground, text)]
        assert lights[1] - lights[0] > 250 if dark else lights[0] - lights[1] > 250
        assert page.problems == []


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
