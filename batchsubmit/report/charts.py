"""The report's charts, drawn by pygal as SVG that the page styles: no colour, script or address of its own is in it.

pygal brings a style sheet and a script with each chart; both are taken out, so that the page's rules (light, dark,
print) hold inside the charts and its content security policy needs no exception. Each chart is drawn twice, wide and
narrow, for a chart that is only scaled down cannot be read on a phone. What a pointer shows is SVG's own <title>.
It must not know what is drawn: numbers and labels in, markup out.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

from markupsafe import Markup

Ticks = Sequence[tuple[float, str]]
_UNWANTED = frozenset({"", "defs", "script", "style", "title"})
_SVG = "{http://www.w3.org/2000/svg}"
_WIDE, _NARROW = (980, 280), (400, 260)
_FONT_SIZE = 13
_ROOM_SHARE = 0.02 / 1.04  # pygal widens every plot by 2 % at each end


@dataclass(frozen=True, slots=True)
class Size:
    """A drawing's width and height, in the units of its own text."""

    width: int
    height: int

    @property
    def is_narrow(self) -> bool:
        """Whether it is for a phone."""
        return self.width < 600


def both_sizes(draw: Callable[[Size], Any], *, height: int | None = None, flush: bool = False) -> Markup:
    """Draw for a wide page and for a phone; the page shows the one that fits.

    `flush` cuts off the room that pygal leaves left and right of what it draws.
    """
    wide, narrow = Size(_WIDE[0], height or _WIDE[1]), Size(_NARROW[0], height or _NARROW[1])
    return _markup(draw(wide), "wide", wide, flush=flush) + _markup(draw(narrow), "narrow", narrow, flush=flush)


def area_chart(
    edges: Sequence[float], layers: Sequence[Sequence[float]], limit: Ticks, *, x: Callable[[int], Ticks], y: Ticks
) -> Callable[[Size], Any]:
    """Layers stacked upon each other over time, and a line above which they cannot go (its steps as (x, value))."""

    def draw(size: Size) -> Any:  # noqa: ANN401 (pygal has no types)
        chart = _new("XY", size, x(size.width // 90), y, show_dots=False)
        heights = [0.0] * (len(edges) - 1)
        outlines = []
        for layer in layers:
            heights = [below + value for below, value in zip(heights, layer, strict=True)]
            outlines.append(list(_steps(edges, heights)))
        for number, outline in reversed(list(enumerate(outlines))):
            chart.add(str(number), outline, fill=True)
        if limit:
            # Above the limit's first moment nothing is known, so the line begins there.
            corners = [(at, float(value)) for at, value in limit]
            chart.add("limit", list(_line(corners, edges[-1])), fill=False)
        return chart

    return draw


def histogram(
    bars: Sequence[tuple[float, float, float, str]], *, x: Callable[[int], Ticks], y: Ticks
) -> Callable[[Size], Any]:
    """Bars over time: begin, end, height, words."""

    def draw(size: Size) -> Any:  # noqa: ANN401
        chart = _new("Histogram", size, x(size.width // 90), y)
        chart.add("0", [{"value": (height, begin, end), "label": words} for begin, end, height, words in bars])
        return chart

    return draw


def horizontal_bars(bars: Sequence[tuple[str, float, str]], *, y: Ticks) -> Callable[[Size], Any]:
    """One bar a line: label, length, words; the first one on top."""

    def draw(size: Size) -> Any:  # noqa: ANN401
        upwards = list(reversed(bars))
        chart = _new("HorizontalBar", size, [], y, x_labels=[label for label, _, _ in upwards])
        chart.add("0", [{"value": value, "label": words} for _, value, words in upwards])
        return chart

    return draw


def shares(parts: Sequence[tuple[int, float, str]]) -> Callable[[Size], Any]:
    """One bar of everything, cut into parts: colour, size, words."""

    def draw(size: Size) -> Any:  # noqa: ANN401
        total = sum(value for _, value, _ in parts)
        chart = _new("HorizontalStackedBar", size, [], [], show_y_labels=False, show_x_labels=False, margin=0)
        chart.range = (0, total)
        by_colour = {colour: (value, words) for colour, value, words in parts}
        for colour in range(max(by_colour) + 1):
            value, words = by_colour.get(colour, (0, ""))
            chart.add(str(colour), [{"value": value, "label": words}])
        return chart

    return draw


def boxes(rows: Sequence[tuple[str, Sequence[float], str]], *, y: Ticks) -> Callable[[Size], Any]:
    """A box and whiskers for each label, from its five numbers; and words."""

    def draw(size: Size) -> Any:  # noqa: ANN401
        labels = [_shortened(label, 60 // len(rows) if size.is_narrow else 140 // len(rows)) for label, _, _ in rows]
        chart = _new("Box", size, [], y, x_labels=labels, box_mode="extremes", truncate_label=-1)
        for label, numbers, words in rows:
            chart.add(label, [{"value": numbers[0], "label": words}, *numbers[1:]])
        return chart

    return draw


def _new(kind: str, size: Size, x: Ticks, y: Ticks, **config: Any) -> Any:  # noqa: ANN401
    pygal = _pygal()
    style = pygal.style.Style(
        label_font_size=_FONT_SIZE, major_label_font_size=_FONT_SIZE, font_family="sans-serif", opacity="1"
    )
    given = {"x_labels": [{"value": at, "label": label} for at, label in x], **config}
    chart = getattr(pygal, kind)(
        width=size.width,
        height=size.height,
        style=style,
        js=[],
        show_legend=False,
        no_prefix=True,
        margin=given.pop("margin", 6),
        truncate_label=given.pop("truncate_label", -1),
        **given,
    )
    if y:
        chart.y_labels = [{"value": value, "label": label} for value, label in y]
        chart.range = (0, y[-1][0])
    return chart


def _pygal() -> Any:  # noqa: ANN401
    """Import pygal, and take back the import hook for plugins that it leaves behind: Python warns of its old form."""
    import pygal  # noqa: PLC0415 (only a report draws)
    import pygal.style  # noqa: PLC0415

    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "pygal"]
    return pygal


def _steps(edges: Sequence[float], heights: Sequence[float]) -> Iterator[tuple[float, float]]:
    yield edges[0], 0.0
    for index, height in enumerate(heights):
        yield edges[index], height
        yield edges[index + 1], height
    yield edges[-1], 0.0


def _line(corners: Sequence[tuple[float, float]], end: float) -> Iterator[tuple[float, float]]:
    before: float | None = None
    for at, value in corners:
        if before is not None:
            yield at, before
        yield at, value
        before = value
    if before is not None:
        yield end, before


def _markup(chart: Any, name: str, size: Size, *, flush: bool) -> Markup:  # noqa: ANN401
    """Render a chart without what is the page's: styles, scripts, names, comments."""
    root = chart.render_tree()
    _prune(root)
    for attribute in list(root.attrib):
        if attribute != "viewBox":
            del root.attrib[attribute]
    if flush:
        room = size.width * _ROOM_SHARE
        root.attrib["viewBox"] = f"{room:.1f} 0 {size.width - 2 * room:.1f} {size.height}"
    root.attrib |= {"class": f"chart {name}", "aria-hidden": "true", "focusable": "false"}
    # Trusted: every text in it was escaped by the serialiser, and scripts and styles are gone.
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704


def _prune(node: ET.Element) -> None:
    for child in list(node):
        tag = str(child.tag) if type(child.tag) is str else ""  # a comment's tag is a function
        if tag.removeprefix(_SVG) in _UNWANTED or child.get("class") == "tooltip":
            node.remove(child)
            continue
        for attribute in ("style", "id"):
            child.attrib.pop(attribute, None)
        if tag.removeprefix(_SVG) == "desc":
            _describe(node, child)
            continue
        _prune(child)


def _describe(node: ET.Element, description: ET.Element) -> None:
    """Turn pygal's words about a value, meant for its script, into what every browser shows to a pointer."""
    node.remove(description)
    kind = description.get("class", "")
    title = node.find("title")
    if kind not in {"value", "label"}:
        return
    if title is None:
        title = ET.Element("title")
        node.insert(0, title)
    if kind == "label" or not title.text:
        title.text = description.text


def _shortened(text: str, most: int) -> str:
    most = max(most, 8)
    return text if len(text) <= most else f"{text[: most - 1]}…"
