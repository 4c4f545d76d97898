"""Makes configs/report.png, the README's picture: the head of a night's report, as a headless Chromium shows it.

Run it again where the page looks different: `.venv/bin/python tests/picture.py`.
"""

import asyncio
import base64
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "support"))

from browser import open_browser
from sample_ledgers import BEGIN, MEMBERSHIPS, Night

from batchsubmit.clock import timestamp
from batchsubmit.core.jobs import Event, JobRejected, JobSubmitted, RunEnded
from batchsubmit.report.page import make_page
from batchsubmit.report.timeline import Timeline

PICTURE = Path(__file__).parents[1] / "configs" / "report.png"
ROWS = 300
SEED = 9  # of a night whose one lost answer was looked up
WIDTH, HEIGHT = 1110, 1285
DEADLINE = BEGIN + timedelta(hours=8)


def night() -> Iterator[Event]:
    """A night of 300 jobs that its deadline cuts at six in the morning."""
    decided = 0
    for event in Night(jobs=ROWS, seed=SEED).events():
        if event.at > timestamp(DEADLINE):
            break
        decided += isinstance(event, JobSubmitted | JobRejected)
        yield event
    yield RunEnded(
        at=timestamp(DEADLINE),
        run="20261122T220000Z-17",
        exit_status=3,
        reason="deadline",
        counts={"rows": ROWS, "left": ROWS - decided},
        quotas={"account": 10} | dict.fromkeys(MEMBERSHIPS, 5),
    )


async def photograph(page: Path) -> bytes:
    """The head of a page, in light colours, as PNG."""
    async with open_browser(width=WIDTH, height=HEIGHT) as browser:
        await browser.open(page)
        shot = await browser.call(
            "Page.captureScreenshot",
            format="png",
            captureBeyondViewport=True,
            clip={"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT, "scale": 1},
        )
        return base64.b64decode(shot["data"])


def main() -> None:
    """Write the picture."""
    made_at = (DEADLINE + timedelta(seconds=2)).timestamp()
    page = make_page(Timeline.of(night()), ledger="nightly.ledger.jsonl", made_at=made_at)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "night.html"
        path.write_text("".join(page.parts()), encoding="utf-8")
        PICTURE.write_bytes(asyncio.run(photograph(path)))


if __name__ == "__main__":
    main()
