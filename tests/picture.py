"""Makes the README's pictures of real runs on the sandbox: `.venv/bin/python tests/picture.py`.

`configs/run.svg` shows the terminal while the demo runs, `configs/report.png` the head of the report of a run in which
some jobs fail, as a headless Chromium shows it. Make them again where display or page look different.
"""

import asyncio
import base64
import json
import os
import pty
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

sys.path.insert(0, str(Path(__file__).parent / "support"))

from browser import open_browser

CONFIGS = Path(__file__).parents[1] / "configs"
JOBS = 66
FAULTS = [
    ("churn-012", "validation"),
    ("churn-030", "validation"),
    ("churn-021", "lost_after"),
    ("churn-040", "throttled"),
]
WIDTH, HEIGHT = 1110, 1285
COLUMNS, LINES, FRAMES = 96, 9, 12
STEPS = re.compile(r"(\r\n|\n|\r|\x1b\[\d*A|\x1b\[2K|\x1b\[\?25[lh])")
FRAME = (
    '<style>{styles}</style><g transform="translate(9, 9)">{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>'
)
"""rich's, without its window and fonts from the network."""


def recorded(folder: Path, *arguments: str) -> Iterator[tuple[float, str]]:
    """Run the program in a terminal; give what it writes, each with the seconds since its begin."""
    yield 0.0, f"$ batchsubmit {shlex.join(arguments)}\r\n"
    master, terminal = pty.openpty()
    size = {"COLUMNS": str(COLUMNS), "LINES": str(LINES), "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "batchsubmit", *arguments]
    began = time.monotonic()
    with subprocess.Popen(command, cwd=folder, stdin=terminal, stdout=terminal, stderr=terminal, env=os.environ | size):
        os.close(terminal)
        with suppress(OSError):  # the terminal's end
            while written := os.read(master, 1 << 16):
                yield time.monotonic() - began, written.decode(errors="ignore")
        os.close(master)


def screens(written: Sequence[tuple[float, str]]) -> list[str]:
    """What the terminal shows at moments equally far apart, and at the end; a redrawn line is erased before."""
    end, shown, lines, row = written[-1][0], list[str](), [""], 0
    for at, text in written:
        if at >= end * (len(shown) + 1) / FRAMES:
            shown.append("\n".join(lines[-LINES:]))
        for step in STEPS.split(text):
            if step.endswith("A"):
                row -= int(step[2:-1] or 1)
            elif step.endswith("\n"):
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif step == "\x1b[2K":
                lines[row] = ""
            elif not STEPS.fullmatch(step):
                lines[row] += step
    return [*shown, "\n".join(lines[-LINES:])]


def animated(frames: Sequence[str]) -> str:
    """The screens one after another; the last one stays, also where nothing moves."""
    parts = []
    for number, frame in enumerate(frames):
        console = Console(record=True, width=COLUMNS, file=StringIO())
        console.print(Text.from_ansi(frame))
        drawn = re.sub(r' clip-path="[^"]*"', "", console.export_svg(code_format=FRAME, unique_id=f"f{number}"))
        begin, end = number * 100 / len(frames), (number + 1) * 100 / len(frames)
        moving = f"@keyframes k{number} {{ 0%, {end:.2f}%, 100% {{ opacity: 0 }} {begin:.2f}% {{ opacity: 1 }} }}"
        still = "opacity: 1" if number == len(frames) - 1 else "opacity: 0"
        style = f"#g{number} {{ {still}; animation: k{number} {len(frames)}s step-end 1 }}"
        parts.append(f'<style>{moving} {style}</style><g id="g{number}">{drawn}</g>')
    width, height = round(COLUMNS * 12.2) + 18, round(LINES * 24.4) + 18
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="monospace">'
        f'<rect width="{width}" height="{height}" rx="8" fill="#292929"/><g font-size="20">{"".join(parts)}</g></svg>\n'
    )


async def photograph(page: Path) -> bytes:
    """The head of a page, in light colours, as PNG."""
    async with open_browser(width=WIDTH, height=HEIGHT) as browser:
        await browser.open(page)
        for name in ("failures-over-time", "burn-up", "slots"):
            await browser.until(f"document.querySelector('[data-chart={name}]').dataset.drawn")
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT, "scale": 1}
        shot = await browser.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(shot["data"])


def record(target: Path, manifest: Path = CONFIGS / "demo.csv") -> None:
    """Run the demo in a terminal, and write what it shows."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "configs" / "demo.csv"
        place.parent.mkdir()
        place.write_bytes(manifest.read_bytes())
        written = list(recorded(Path(folder), "submit", "configs/demo.csv", "--sandbox", "--yes"))
    target.write_text(animated(screens(written)), encoding="utf-8")


def report(folder: Path) -> Path:
    """Run the demo's jobs three times over, some of which fail, and write the report."""
    head, *rows = (CONFIGS / "demo.csv").read_text(encoding="utf-8").splitlines()
    numbered = [re.sub(r"^churn-\d+", f"churn-{number + 1:03}", rows[number % len(rows)]) for number in range(JOBS)]
    (folder / "jobs.csv").write_text("\n".join([head, *numbered, ""]), encoding="utf-8")
    script = [{"name": name, "fault": fault} for name, fault in FAULTS]
    (folder / "faults.json").write_text(json.dumps({"script": script}), encoding="utf-8")
    program = [sys.executable, "-m", "batchsubmit"]
    given = ("--sandbox", "--faults", "faults.json", "--wait", "--yes", "--batch-id", "nightly-2026-11-26")
    subprocess.run([*program, "submit", "jobs.csv", *given], cwd=folder, check=False)  # 1: some are rejected
    subprocess.run([*program, "report", "jobs.sandbox.ledger.jsonl"], cwd=folder, check=True)
    return folder / "jobs.sandbox.html"


def main() -> None:
    """Write both pictures."""
    record(CONFIGS / "run.svg")
    with tempfile.TemporaryDirectory() as folder:
        (CONFIGS / "report.png").write_bytes(asyncio.run(photograph(report(Path(folder)))))


if __name__ == "__main__":
    main()
