"""The report page of a big ledger: its bytes, the seconds to write it, and the seconds until a person can use it.

    .venv/bin/python tests/bench/report.py [--jobs N] [--runs N]

The ledger is a night with refusals, failures, lookups and an end for each job. `write s` is the whole process of
`batchsubmit report`, start and imports included; `export s` the same for `export` to CSV. `usable s` is from the
navigation of a headless Chromium until the table of jobs is built and a frame was drawn; `search s` and `sort s` from
the key or click until the table shows it. Without Chromium on the path, only what needs none is measured.
"""

import argparse
import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import Figures, machine, print_figures, tell
from workload import PROGRAM

sys.path.append(str(Path(__file__).parents[1] / "support"))

from browser import find_chromium, open_browser
from sample_ledgers import HOSTILE, Night

BUDGETS = "budgets: 25 MB, usable within 2 s"


def measure(ledger: Path) -> Figures:
    """Write a page and a table, and open the page."""
    page, table = ledger.with_name("night.html"), ledger.with_name("night.csv")
    figures = {
        "write s": _seconds("report", str(ledger), "--output", str(page)),
        "export s": _seconds("export", str(ledger), "--output", str(table)),
        "page MB": page.stat().st_size / 1e6,
        "peak MB": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }
    return figures | (asyncio.run(_use(page)) if find_chromium() else {})


def _seconds(*arguments: str) -> float:
    began = time.monotonic()
    subprocess.run([*PROGRAM, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - began


async def _use(path: Path) -> Figures:
    async with open_browser() as page:
        interactive = await page.open(path)
        began = time.monotonic()
        await page.type("#search", "churn-000777")
        await page.until("document.querySelectorAll('#body tr').length === 1")
        searched = time.monotonic() - began
        await page.type("#search", " ")
        await page.until("document.querySelectorAll('#body tr').length > 1")
        began = time.monotonic()
        await page.click("#head th:nth-child(7) button")
        await page.until("document.querySelector('#head th:nth-child(7)').getAttribute('aria-sort')")
        return {"usable s": interactive, "search s": searched, "sort s": time.monotonic() - began}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000, help="jobs of the ledger")
    parser.add_argument("--runs", type=int, default=5, help="rounds")
    given = parser.parse_args()
    print(f"{machine()}; {given.jobs:,} jobs; {BUDGETS}")
    with tempfile.TemporaryDirectory() as folder:
        tell("writing the ledger")
        ledger = Night(jobs=given.jobs, hostile=HOSTILE).write(Path(folder).resolve() / "night.ledger.jsonl")
        runs = []
        for number in range(given.runs):
            tell(f"run {number + 1} of {given.runs}")
            runs.append(measure(ledger))
        print_figures({"report": runs})


if __name__ == "__main__":
    main()
