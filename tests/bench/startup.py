"""`.venv/bin/python tests/bench/startup.py`: how long commands take that do next to nothing, beside a bare import.

Each is a process of its own, timed from its start to its end. `--help` and `--version` are held against
`python -c 'import click'`, whose time no click program can fall below; `validate` reads the 22 rows of
configs/demo.csv in all its settings, schema and checks.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

from harness import Figures, Ratio, alternate, machine, print_figures, print_ratios

ROOT = Path(__file__).parents[2]
PROGRAM = str(Path(sys.executable).with_name("batchsubmit"))
SECONDS = "seconds"
CLICK = "python -c 'import click'"
COMMANDS: dict[str, Sequence[str]] = {
    CLICK: (sys.executable, "-c", "import click"),
    "batchsubmit --version": (PROGRAM, "--version"),
    "batchsubmit --help": (PROGRAM, "--help"),
    "batchsubmit validate": (PROGRAM, "validate", str(ROOT / "configs" / "demo.csv")),
}
MOST_TIMES_CLICK = 1.5
MOST_VALIDATE_SECONDS = 1.0


def timed(command: Sequence[str]) -> Figures:
    """Run a process to its end."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return {SECONDS: time.perf_counter() - began}


def measure(runs: int) -> dict[str, list[Figures]]:
    """Run them in alternation."""
    return alternate({name: partial(timed, command) for name, command in COMMANDS.items()}, runs=runs)


def times_click(measured: dict[str, list[Figures]], name: str) -> float:
    """The median of a command's ratios to the bare import, round by round."""
    pairs = zip(measured[name], measured[CLICK], strict=True)
    return median(one[SECONDS] / other[SECONDS] for one, other in pairs)


def main() -> int:
    """Measure, print, and exit with 1 where a bound is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=21)
    measured = measure(parser.parse_args().runs)
    print(machine())
    print_figures(measured)
    quick = ("batchsubmit --version", "batchsubmit --help")
    print_ratios(measured, [Ratio(SECONDS, name, CLICK) for name in quick])
    validated = median(run[SECONDS] for run in measured["batchsubmit validate"])
    kept = max(times_click(measured, name) for name in quick) <= MOST_TIMES_CLICK
    return 0 if kept and validated < MOST_VALIDATE_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
