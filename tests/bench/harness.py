"""Side-by-side measurement: alternatives in alternation, their medians and spreads, and the ratios pair by pair.

A machine's speed drifts, so two figures mean something only as a ratio of neighbours: after a warm-up each round runs
every alternative once, and a ratio is formed within the round.
"""

import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Figures = Mapping[str, float]
"""One run's figures by their names, units included: `{"jobs/s": 812.0, "CPU ms/call": 1.1}`."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """How two alternatives compare in one figure; above one means that the first has more of it."""

    figure: str
    of: str
    to: str


def machine() -> str:
    """What the figures were measured on, in one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.python_implementation()} {platform.python_version()}, {platform.system()}, {cores} cores"


def alternate(
    alternatives: Mapping[str, Callable[[], Figures]], *, runs: int, warm_ups: int = 1
) -> dict[str, list[Figures]]:
    """Run A B A B …, and return what each brought in every round after the warm-up."""
    measured: dict[str, list[Figures]] = {name: [] for name in alternatives}
    for number in range(-warm_ups, runs):
        for name, run in alternatives.items():
            tell(f"{'warm-up' if number < 0 else f'run {number + 1} of {runs}'}: {name}")
            figures = run()
            if number >= 0:
                measured[name].append(figures)
    return measured


def tell(text: str) -> None:
    """Say on standard error how far things are, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def print_figures(measured: Mapping[str, Sequence[Figures]]) -> None:
    """Print a line for each alternative and figure: the median, and the least and the most."""
    width = max(map(len, measured))
    for name, runs in measured.items():
        for figure in runs[0]:
            print(f"{name:{width}}  {figure:16}  {spread([run[figure] for run in runs])}")


def print_ratios(measured: Mapping[str, Sequence[Figures]], ratios: Sequence[Ratio]) -> None:
    """Print how alternatives compare, round by round."""
    for ratio in ratios:
        pairs = zip(measured[ratio.of], measured[ratio.to], strict=True)
        values = [first[ratio.figure] / second[ratio.figure] for first, second in pairs]
        print(f"{ratio.of} / {ratio.to}, {ratio.figure}: {spread(values)} x")


def spread(values: Sequence[float]) -> str:
    """The median and, in brackets, least and most."""
    return f"{_short(median(values)):>9} ({_short(min(values))} to {_short(max(values))}, n={len(values)})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
