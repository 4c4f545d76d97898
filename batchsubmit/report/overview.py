"""The overview of a folder's ledgers: many nights, and the newest beside those before it. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from batchsubmit.core.ledger_state import Counts
from batchsubmit.report.headline import Headline, headline
from batchsubmit.report.page import asset, policy, templates
from batchsubmit.report.stats import Figures
from batchsubmit.report.timeline import Timeline

_COMPARED = 5
"""So many nights the newest is compared with."""


class Night(NamedTuple):
    """One ledger of an overview. Hours and cost in USD are of the jobs that were seen to end."""

    name: str
    words: Headline
    began_at: float
    seconds: float
    counts: Counts
    hours: float
    cost: float

    @classmethod
    def of(cls, timeline: Timeline, name: str, now: float, prices: Mapping[str, float]) -> Self:
        """Sum up a ledger."""
        figures = Figures(timeline, now)
        return cls(
            name=name,
            words=headline(figures),
            began_at=figures.begin,
            seconds=figures.end - figures.begin,
            counts=figures.counts,
            hours=sum(spent for _, spent, _ in figures.instance_hours(prices)),
            cost=sum(cost or 0.0 for _, _, cost in figures.instance_hours(prices)),
        )

    @property
    def failed(self) -> int:
        """Jobs that failed in either way."""
        return self.counts.rejected + self.counts.failed


def make_overview(folder: str, nights: Sequence[Night], live: str) -> str:
    """Many ledgers, the newest first, and the newest beside the mean of those before it."""
    newest_first = sorted(nights, key=lambda night: -night.began_at)
    style, script = asset("page.css"), asset("live.js")
    template = templates().get_template("overview.html.j2")
    return template.render(
        folder=folder,
        nights=newest_first,
        compared=newest_first[1 : 1 + _COMPARED],
        live=live,
        style=style,
        script=script,
        policy=policy(style, script, source="'self'"),
    )
