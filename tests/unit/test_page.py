"""The page without a browser: only its own script runs, text from outside stays text, every drawing has words."""

import base64
import hashlib
import json
import math
import operator
import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from itertools import combinations, pairwise

import pytest
from sample_ledgers import HOSTILE, Night, Story

from batchsubmit.core.job_states import State
from batchsubmit.report import page as report_page
from batchsubmit.report.charts import specs
from batchsubmit.report.page import library, make_page
from batchsubmit.report.timeline import Timeline

DEUTERANOPIA = ((0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969))
PROTANOPIA = ((0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052))
XYZ = ((0.4339, 0.3762, 0.1899), (0.2126, 0.7152, 0.0722), (0.0177, 0.1094, 0.8729))
"""Linear RGB to XYZ by its white."""
VOID = {"meta", "link", "input", "br", "img", "hr"}


class Outline(HTMLParser):
    """What a page consists of: elements with their attributes, texts by element, and whether all are closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open and close an element, as SVG does."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Close the element that is open."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.texts.append((self._open[-1] if self._open else "", data))

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        """The attributes of each element of a kind."""
        return (attributes for name, attributes in self.elements if name == tag)

    def text_of(self, tag: str) -> list[str]:
        """The texts in elements of a kind."""
        return [text for name, text in self.texts if name == tag]


def page_of(events: object, *remarks: str) -> str:
    """The page over these events."""
    timeline = Timeline.of(events)  # type: ignore[arg-type]
    made_at = (timeline.last_at or 0.0) + 3600
    return "".join(make_page(timeline, ledger="jobs.ledger.jsonl", made_at=made_at, remarks=remarks).parts())


@pytest.fixture(scope="module")
def page() -> str:
    """A night with some of everything."""
    return page_of(Night(jobs=400, hostile=HOSTILE, rows=420).events())


def data_of(page: str) -> dict[str, object]:
    """The table's data."""
    data, ids = (
        json.loads(page.split(f'id="{name}">')[1].split("</script>", maxsplit=1)[0]) for name in ("data", "ids")
    )
    return {**data, "columns": data["columns"] | ids}


def test_nothing_runs_but_the_page_s_own_script_and_style(page: str) -> None:
    """The policy knows the page's script, Vega and the style by their digests; no attribute is a script or a style."""
    outline = Outline(page)
    (policy,) = (each["content"] or "" for each in outline.all("meta") if each.get("http-equiv"))
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        texts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
        assert f"{tag}-src {allowed};" in policy
    assert len(list(outline.all("style"))) == 1
    assert [each.get("type") for each in outline.all("script")] == [
        "application/json",
        "application/json",
        None,
        None,
        "application/json",
    ]
    for _, attributes in outline.elements:
        assert not [name for name in attributes if name == "style" or name.startswith("on")]


def test_nothing_outside_is_named(page: str) -> None:
    """No address to load from or to follow but places in the page."""
    outline = Outline(page)
    links = [
        value for _, attributes in outline.elements for name, value in attributes.items() if name in {"href", "src"}
    ]
    assert all(link == "data:," or (link or "").startswith("#") for link in links)
    anchors = {attributes.get("id") for _, attributes in outline.elements}
    assert {(link or "")[1:] for link in links if (link or "").startswith("#") and "=" not in (link or "")} <= anchors
    own = page.replace(library(), "").replace('xmlns="http://www.w3.org/2000/svg"', "")
    own = own.replace('xmlns:xlink="http://www.w3.org/1999/xlink"', "")
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\((?!#)", own)


def test_hostile_names_are_text_wherever_they_stand(page: str) -> None:
    """In markup they are escaped, in the data they cannot end the element."""
    outline = Outline(page)
    assert (not list(outline.all("img")) and not list(outline.all("b"))) or all(not each for each in outline.all("b"))
    names = data_of(page)["columns"]["name"]  # type: ignore[index]
    assert set(HOSTILE) <= set(names)
    data = page.split('id="data">')[1].split("</script>", maxsplit=1)[0]
    assert not set("<>&\u2028\u2029") & set(data)


def test_every_text_from_outside_is_escaped() -> None:
    """Names, batch, manifest, holder, messages, codes, models, memberships, remarks."""
    bad = "</title></script><i>&amp;"
    story = Story(membership=bad)
    story.run(0, batch=bad, manifest=bad, run=bad)
    story.intent(1, bad)
    story.unknown(2, bad)
    for name in ("a", "c"):
        story.intent(3, name)
        story.accepted(4, name)
        story.finished(9, name, bad, bad)
    story.failed(5, "d", bad, bad)
    story.end(10, run=bad, reason=bad)
    outline = Outline(page_of(story.events, bad))
    assert not list(outline.all("i"))
    assert [text for text in outline.text_of("h1") if text.strip()] == [bad]
    assert bad in outline.text_of("blockquote")


def test_the_page_has_landmarks_one_title_and_headings_in_order(page: str) -> None:
    """What a screen reader goes by."""
    outline = Outline(page)
    tags = [tag for tag, _ in outline.elements]
    assert all(tags.count(tag) == 1 for tag in ("h1", "header", "nav", "main", "footer"))
    assert page.count("<title>", 0, page.index("<body>")) == 1
    assert next(outline.all("html"))["lang"] == "en"
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(below - above <= 1 for above, below in pairwise(levels))
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    labelled = [attributes["aria-labelledby"] for _, attributes in outline.elements if "aria-labelledby" in attributes]
    assert set(labelled) <= set(ids)


def test_every_drawing_is_hidden_from_readers_and_said_in_words_and_in_a_table(page: str) -> None:
    """Without its script too: only the jobs one by one, which stand in the table below, need it."""
    figures = re.findall(r"<figure.*?</figure>", page, re.DOTALL)
    assert len(figures) == 7
    for figure in figures:
        is_gantt = 'data-chart="gantt"' in figure
        assert len(re.findall(r'class="chart" data-chart="[a-z-]+" aria-hidden="true">', figure)) == 1
        assert ("<svg" in figure) == ("<table>" in figure) == (not is_gantt)
        assert re.search(r"<figcaption>[^<]{10,}", figure)


def test_charts_colour_states_by_the_words_of_the_table() -> None:
    """A state that is renamed is renamed there too."""
    domains = {name: json.dumps(spec) for name, spec in specs().items() if name in {"gantt", "failures-over-time"}}
    for fate in (State.SUBMITTED, State.SUCCEEDED, State.FAILED):
        assert f'"{fate}"' in domains["gantt"]
    for fate in (State.REJECTED, State.FAILED):
        assert f'"{fate}"' in domains["failures-over-time"]


def test_every_table_has_a_caption_and_scoped_headers(page: str) -> None:
    """So that cells can be read with their headers."""
    outline = Outline(page)
    assert len(list(outline.all("table"))) == len(list(outline.all("caption")))
    assert all(each.get("scope") in {"col", "row"} for each in outline.all("th"))


def test_the_table_s_data_is_all_jobs_as_the_ledger_has_them() -> None:
    """Key, name, ARN, times, waits: enough to find any."""
    timeline = Timeline.of(Night(jobs=300).events())
    data = data_of(page_of(Night(jobs=300).events()))
    columns, texts = data["columns"], data["texts"]
    for row, history in enumerate(timeline.histories()):
        state = history.state
        assert columns["key"][row] == state.job  # type: ignore[index]
        assert texts["arn_head"][columns["arn_head"][row]] + columns["arn"][row] == state.arn  # type: ignore[index]
        assert texts["membership"][columns["membership"][row]] == state.membership  # type: ignore[index]
    assert set(columns["retry"]) == {0}  # type: ignore[index]


def test_of_very_many_jobs_those_in_trouble_are_listed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the page says how many are not."""
    monkeypatch.setattr(report_page, "MOST_LISTED", 50)
    page = page_of(Night(jobs=400).events())
    columns = data_of(page)["columns"]
    troubled = list(columns["fate"][50:])  # type: ignore[index]
    assert troubled
    assert set(troubled) <= {0, 1, 2}
    assert f"{400 - len(columns['fate'])} jobs without trouble are left out" in page  # type: ignore[index]


@pytest.mark.parametrize("until", [None, 0.0, 1.0, 100.0, 3000.0])
def test_any_beginning_of_a_night_makes_a_page(until: float | None) -> None:
    """A crash, or a report while it runs."""
    Outline(page_of(Night(jobs=100, until_seconds=until).events()))


def test_names_and_prices_of_the_settings_are_shown() -> None:
    """Hours are of jobs that were seen to end."""
    story = Story()
    story.run(0)
    story.intent(1, "a")
    story.accepted(2, "a")
    story.finished(3602, "a")
    story.membership = "other"
    story.intent(5, "b")
    timeline = Timeline.of(story.events)
    names = {"other": "Retail </script>"}
    page = "".join(make_page(timeline, ledger="x", made_at=0, names=names, prices={"": 2.5}).parts())
    assert "1.0, 2.50 USD" in page
    assert "Retail &lt;/script&gt;" in page
    assert data_of(page)["aliases"] == names


def test_an_empty_ledger_makes_a_page() -> None:
    """It says so."""
    page = page_of([])
    Outline(page)
    assert "An empty ledger" in page


def test_without_ends_the_page_says_that_slots_are_not_sure() -> None:
    """And how to have them."""
    story = Story()
    story.run(0, rows=2)
    story.intent(1, "a")
    story.accepted(2, "a")
    page = page_of(story.events)
    assert "does not say when jobs end" in page
    assert "Jobs submitted and ended" in page


def test_what_was_left_out_of_a_damaged_ledger_is_said() -> None:
    """Where it is seen."""
    assert "line 7, the last one, is not whole and was left out" in page_of(
        [], "line 7, the last one, is not whole and was left out"
    )


def palettes() -> dict[str, dict[str, str]]:
    """The colours of light, dark and print."""
    css = "".join(re.findall(r"<style>(.*?)</style>", page_of([]), re.DOTALL))
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    return {
        name: {
            key: value if len(value) == 7 else "#" + "".join(c + c for c in value[1:])
            for key, value in re.findall(r"--([\w-]+): (#\w+);", block)
        }
        for name, block in zip(("light", "dark", "print"), blocks, strict=True)
    }


def luminance(colour: str) -> float:
    """WCAG's relative luminance."""
    red, green, blue = linear(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def linear(colour: str) -> list[float]:
    """Red, green and blue light of `#rrggbb`."""
    parts = (int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5))
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


@pytest.mark.parametrize("mode", ["light", "dark", "print"])
def test_texts_have_enough_contrast(mode: str) -> None:
    """WCAG AA: 4.5 to 1 for text, 3 to 1 for what must be told apart from the page."""

    def contrast(one: str, other: str) -> float:
        lights = sorted((luminance(colours[one]), luminance(colours[other])))
        return (lights[1] + 0.05) / (lights[0] + 0.05)

    colours = palettes()[mode]
    for ink in ("ink", "soft", "accent", "good", "warn", "bad"):
        for ground in ("page", "card"):
            assert contrast(ink, ground) >= 4.5, (ink, ground)
    for ink in ("ink", "soft", "bad"):
        assert contrast(ink, "bad-page") >= 4.5, ink
    for state in (*HUES, "left", "neutral"):
        assert min(contrast(state, "card"), contrast(state, "page")) >= 3, state


HUES = ("well", "accepted", "ended-badly", "failed", "unknown")


@pytest.mark.parametrize("mode", ["light", "dark", "print"])
@pytest.mark.parametrize("missing", [DEUTERANOPIA, PROTANOPIA])
def test_states_differ_also_for_the_colour_blind(mode: str, missing: tuple[tuple[float, ...], ...]) -> None:
    """By the simulation of Machado et al. (2009), and the distance of CIELAB: 10 is seen at a glance."""
    colours = palettes()[mode]
    for one, other in combinations(HUES, 2):
        assert math.dist(lab(colours[one], missing), lab(colours[other], missing)) >= 10, (one, other)


def lab(colour: str, missing: tuple[tuple[float, ...], ...]) -> tuple[float, float, float]:
    """A colour as such an eye sees it, in CIELAB."""
    seen = [sum(map(operator.mul, row, linear(colour))) for row in missing]
    x, y, z = (sum(map(operator.mul, row, seen)) for row in XYZ)
    a, b, c = (part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116 for part in (x, y, z))
    return 116 * b - 16, 500 * (a - b), 200 * (b - c)


def test_what_is_said_of_the_batch(page: str) -> None:
    """Account, region, batch, versions, settings, log group, where results lie."""
    about = page[page.index('id="about"') :]
    about = unescape(re.sub(r"<[^>]+>", " ", about[: about.index("</section>")]))
    for words in (
        *("123456789012, us-east-1", "nightly-2026-11-22", "0.1.0; this page", "rate.max_per_second = 0.5"),
        *("/aws/cleanroomsml/TrainedModelInferenceJobs", "<trained model>/123456789012/<job name>"),
    ):
        assert words in about, words
