"""The report as one HTML page that needs nothing but itself: no network, no other file.

All text from outside (names, messages, ARNs, batch ids) is escaped by Jinja2, or escaped JSON that the script puts into
text nodes. The content security policy allows this page's own script and style sheet, which it knows by their digests,
and nothing else; so a mistake in escaping would still run nothing.
"""

import base64
import hashlib
import math
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from batchsubmit import __version__
from batchsubmit.core.job_states import LOG_GROUP, State
from batchsubmit.core.ledger_state import Counts
from batchsubmit.report.charts import charts, specs
from batchsubmit.report.headline import headline
from batchsubmit.report.reasons import reason_of
from batchsubmit.report.stats import Figures, ReportedJob, model_name
from batchsubmit.report.timeline import Timeline
from batchsubmit.report.waits import Cause
from batchsubmit.schema.arns import parse_arn
from batchsubmit.text import date_and_time, duration, share

if TYPE_CHECKING:
    from jinja2 import Environment

MOST_LISTED = 150_000
"""Jobs in a page's table, beside those in trouble: more of them make it too large to open."""
_LEAST_SHARE = 0.008
_BAR_ORDER = (
    State.SUCCEEDED,
    State.SUBMITTED,
    State.PENDING,
    State.FAILED,
    State.REJECTED,
    State.UNKNOWN,
    State.CANCELLED,
)
_ALWAYS_LISTED = frozenset({State.UNKNOWN, State.REJECTED, State.FAILED, State.CANCELLED})
_FATES = list(State)


def _job_table(figures: Figures, names: Mapping[str, str]) -> dict[str, Any]:
    """The jobs for the page's script; texts that repeat are kept as numbers. Times are seconds after `base`.

    Of very many jobs those without trouble are left out. Keys and ARNs are apart: they come last in the page.
    """
    listed = [each for place, each in enumerate(figures.jobs) if place < MOST_LISTED or each[1] in _ALWAYS_LISTED]
    base, texts = math.floor(figures.begin), dict[str, list[str]]()
    arns = [job.state.arn.rpartition("/") for job, _, _ in listed]
    ids = {
        "key": [job.state.job for job, _, _ in listed],
        "arn": [tail for _, _, tail in arns],
        "arn_head": _numbered(texts, "arn_head", (head + slash for head, slash, _ in arns)),
    }
    data = {
        "base": base,
        "end": figures.end - base,
        "aliases": dict(names),
        "fates": _FATES,
        "causes": list(Cause),
        "columns": _columns(listed, base, texts),
        "texts": texts,
    }
    accounts = sorted({(arn.account, arn.region) for arn in map(parse_arn, texts["arn_head"]) if any(arn)})
    return {"data": data, "ids": ids, "left_out": len(figures.jobs) - len(listed), "accounts": accounts}


def _columns(listed: list[ReportedJob], base: int, texts: dict[str, list[str]]) -> dict[str, list[Any]]:
    def times(column: Iterable[float | None], since: int = 0) -> list[float | None]:
        return [None if each is None else round(each - since, 1) for each in column]

    jobs, states = [job for job, _, _ in listed], [job.state for job, _, _ in listed]
    return {
        "name": [state.name for state in states],
        "membership": _numbered(texts, "membership", (state.membership for state in states)),
        "model": _numbered(texts, "model", (model_name(state.trained_model) for state in states)),
        "instance": _numbered(texts, "instance", (job.instance_type for job in jobs)),
        "message": _numbered(texts, "message", (": ".join(filter(None, reason_of(state))) for state in states)),
        "fate": [_FATES.index(fate) for _, fate, _ in listed],
        "reason": [-1 if reason is None else reason for _, _, reason in listed],
        "attempts": [state.attempt for state in states],
        "intent": times((job.first_intent_at for job in jobs), base),
        "accepted": times((job.accepted_at for job in jobs), base),
        "ran": times(job.seconds for job in jobs),
        **{cause: times(job.waited[cause] for job in jobs) for cause in Cause},
    }


def _numbered(texts: dict[str, list[str]], name: str, column: Iterable[str]) -> list[int]:
    """The numbers of a column's texts in the list of them."""
    numbers: dict[str, int] = {}
    column_numbers = [numbers.setdefault(text, len(numbers)) for text in column]
    texts[name] = list(numbers)
    return column_numbers


@dataclass(frozen=True, slots=True)
class Page:
    """A report, ready to be written."""

    context: dict[str, Any]

    def parts(self) -> Iterator[str]:
        """The page, part by part."""
        return templates().get_template("page.html.j2").generate(self.context)

    def for_notebook(self) -> str:
        """Its headline and first charts, for a cell of a notebook, which shows light colours."""
        colours = " ".join(asset("page.css").split("{", 1)[1].split("}", 1)[0].split())
        return templates().get_template("notebook.html.j2").render(self.context, colours=colours)

    def as_dict(self) -> dict[str, Any]:
        """Its headline and figures, as JSON has them."""
        figures, words = self.context["figures"], self.context["headline"]
        return {
            "ledger": self.context["ledger"],
            "title": words.title,
            "status": words.status,
            "sentences": words.sentences,
            "jobs": figures.counts.total,
            "counts": figures.counts.as_dict(),
            "left": figures.counts.pending,
            "is_left_known": figures.is_total_known,
            "seconds_to_submit": figures.seconds_to_submit,
            "seconds_to_finish": figures.seconds_to_finish,
            "calls": figures.attempts,
            "duplicates": figures.duplicates,
            "remarks": list(self.context["remarks"]),
        }


@cache
def templates() -> "Environment":
    """Make the pages' templates ready, once."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 (only a report needs it)

    environment = Environment(
        loader=PackageLoader("batchsubmit.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.globals["version"] = __version__
    environment.filters |= {
        "share": lambda part: share(part, 1),
        "duration": duration,
        "moment": date_and_time,
        "quoted": shlex.quote,
    }
    return environment


def make_page(
    timeline: Timeline,
    *,
    ledger: str,
    made_at: float,
    remarks: tuple[str, ...] = (),
    names: Mapping[str, str] = {},
    prices: Mapping[str, float] = {},
    live: str = "",
) -> Page:
    """Gather all that a page has.

    `remarks` say what of the ledger had to be left out; `names` are aliases of memberships; `prices` USD an hour by
    instance type. `live` is the version of a page that is served, and asks its server for the next one.
    """
    figures = Figures(timeline, made_at)
    drawings = {chart.name: chart for chart in charts(figures, names)}
    style, script = asset("page.css"), asset("page.js") + asset("live.js")
    drawn = {"config": specs()["config"], "specs": {name: chart.spec for name, chart in drawings.items()}}
    return Page(
        {
            "ledger": ledger,
            "remarks": remarks,
            "figures": figures,
            "headline": headline(figures),
            "bar": _bar(figures.counts),
            "charts": drawings,
            "chart_data": drawn,
            "hours": figures.instance_hours(prices),
            "log_group": LOG_GROUP,
            "names": names,
            "live": live,
            "style": style,
            "script": script,
            "library": Markup(library()),  # noqa: S704 (Vega's)
            "policy": policy(style, script, library(), source="'self'" if live else "'none'"),
            **_job_table(figures, names),
        }
    )


@cache
def library() -> str:
    """The script that draws in the page, out of vl-convert. Making it takes seconds, so the user's cache keeps it."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    kept = home / "batchsubmit" / f"vega-{metadata.version('vl-convert-python')}.js"
    with suppress(OSError):
        return kept.read_text(encoding="utf-8")
    import vl_convert  # noqa: PLC0415 (slow to import)

    # In a function of its own: its hundreds of short names are none of the page's.
    made = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")
    script = f"(() => {{{made}}})();"
    with suppress(OSError):  # a home that cannot be written: it is made again next time
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_text(script, encoding="utf-8")
        part.replace(kept)
    return script


def asset(name: str) -> Markup:
    """Read a file that a page contains."""
    text = resources.files("batchsubmit.report").joinpath("assets", name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704 (our own file)


def _bar(counts: Counts) -> list[tuple[State, int, int, float, float]]:
    """All jobs in one bar: state, its number, jobs, begin and width in percent, wide enough to be seen."""
    numbers = counts.as_dict() | {State.SUBMITTED: counts.running + counts.not_checked}
    shown = {state: max(numbers[state], counts.total * _LEAST_SHARE) for state in _BAR_ORDER if numbers[state]}
    widths = [100 * width / sum(shown.values()) for width in shown.values()]
    begins = accumulate(widths, initial=0.0)
    parts = zip(shown, begins, widths, strict=False)
    return [(state, _FATES.index(state), numbers[state], begin, width) for state, begin, width in parts]


def policy(style: str, *scripts: str, source: str = "'none'") -> str:
    """Nothing may be loaded and nothing run except what has these digests."""
    return (
        f"default-src 'none'; style-src {_digest(style)}; script-src {' '.join(map(_digest, scripts))}; img-src data:; "
        f"connect-src {source}; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
