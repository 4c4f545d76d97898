"""A real browser for tests of the report page: the machine's own Chromium, without a window.

It is told what to do over its debugging protocol. Nothing is downloaded; without a Chromium `find_chromium` gives None.
"""

import asyncio
import itertools
import json
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_START_SECONDS = 30.0
_MOST_MESSAGE_BYTES = 1 << 26


def find_chromium() -> str | None:
    """The path of a Chromium, if the machine has one."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


@dataclass(slots=True)
class Page:
    """One tab. `problems` is what its console, its script and its policy complained of, `requests` what it loaded."""

    _socket: aiohttp.ClientWebSocketResponse
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _answers: dict[int, "asyncio.Future[Any]"] = field(default_factory=dict)

    async def listen(self) -> None:
        """Take in what the browser says, until it is closed."""
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                answer = self._answers.pop(told["id"])
                if not answer.done():
                    answer.set_result(told)
                continue
            self._note(told["method"], told["params"])

    def _note(self, method: str, params: Any) -> None:  # noqa: ANN401 (the browser's JSON)
        match method:
            case "Runtime.exceptionThrown":
                self.problems.append(json.dumps(params["exceptionDetails"])[:500])
            case "Runtime.consoleAPICalled" if params["type"] in {"error", "warning", "assert"}:
                self.problems.append(json.dumps(params["args"])[:500])
            case "Log.entryAdded" if params["entry"]["level"] in {"error", "warning"}:
                self.problems.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Page.javascriptDialogOpening":
                self.problems.append(f"dialog: {params['message']}")

    async def call(self, method: str, **params: Any) -> Any:  # noqa: ANN401 (the same)
        """Call a method of the protocol."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        told = await asyncio.wait_for(answer, _START_SECONDS)
        assert "error" not in told, (method, told)
        return told["result"]

    async def evaluate(self, expression: str) -> Any:  # noqa: ANN401 (the same)
        """The value of an expression; a promise is awaited."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def open(self, path: Path, fragment: str = "") -> float:
        """Open a file and wait until its script has built the table; gives the seconds that took."""
        return await self.visit(path.as_uri() + fragment)

    async def visit(self, url: str) -> float:
        """The same for an address."""
        began = time.monotonic()
        await self.call("Page.navigate", url=url)
        await self.until("document.documentElement.dataset.ready === 'true'")
        return time.monotonic() - began

    async def until(self, condition: str) -> None:
        """Wait until an expression is true, looking at each frame that is drawn."""
        async with asyncio.timeout(_START_SECONDS):
            while not await self.evaluate(
                f"new Promise((go) => requestAnimationFrame(() => go(Boolean({condition}))))"
            ):
                pass

    async def type(self, selector: str, text: str) -> None:
        """Type into a field as a person would."""
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).select()")
        await self.call("Input.insertText", text=text)

    async def click(self, selector: str) -> None:
        """Click where an element is, with the mouse."""
        x, y, *_ = await self._place(selector)
        for kind in ("mousePressed", "mouseReleased"):
            await self._mouse(kind, x, y)

    async def point(self, selector: str) -> None:
        """Move the mouse onto an element."""
        x, y, *_ = await self._place(selector)
        await self._mouse("mouseMoved", x, y)

    async def drag(self, selector: str, begin: float, end: float) -> None:
        """Drag the mouse across an element, between two parts of its width."""
        x, y, width = await self._place(selector)
        places = [x + (part - 0.5) * width for part in (begin, (begin + end) / 2, end)]
        await self._mouse("mousePressed", places[0], y)
        for place in places[1:]:
            await self._mouse("mouseMoved", place, y)
        await self._mouse("mouseReleased", places[-1], y)

    async def _mouse(self, kind: str, x: float, y: float) -> None:
        await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    async def _place(self, selector: str) -> tuple[float, float, float]:
        """Bring an element into view; give its middle and its width."""
        # Charts above are drawn as they come near, which moves it: it must have stood still for some frames.
        x, y, width = await self.evaluate(
            f"(async () => {{ const e = document.querySelector({json.dumps(selector)});"
            " for (let still = 0, last = ''; still < 6; still += 1) {"
            " e.scrollIntoView({block: 'center', behavior: 'instant'}); await new Promise(requestAnimationFrame);"
            " const place = JSON.stringify(e.getBoundingClientRect()); if (place !== last) still = 0; last = place; }"
            " const { x, y, width, height } = e.getBoundingClientRect();"
            " return [x + width / 2, y + height / 2, width]; })()"
        )
        return x, y, width


@asynccontextmanager
async def open_browser(*, width: int = 1200, height: int = 900, dark: bool = False) -> AsyncIterator[Page]:
    """Start a browser with one empty tab; it is gone afterwards, with all that it wrote."""
    chromium = find_chromium()
    assert chromium is not None
    with tempfile.TemporaryDirectory(prefix="batchsubmit-browser-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            chromium,
            "--headless=new",
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
            "--no-first-run",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-extensions",
            "--disable-dev-shm-usage",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "HOME": profile},
        )
        try:
            async with _tab(Path(profile)) as page:
                await page.call(
                    "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
                )
                scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
                await page.call("Emulation.setEmulatedMedia", features=[scheme])
                yield page
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


@asynccontextmanager
async def _tab(profile: Path) -> AsyncIterator[Page]:
    async with aiohttp.ClientSession() as session:
        address = f"http://127.0.0.1:{await _port(profile)}/json/list"
        tab: dict[str, str] | None = None
        async with asyncio.timeout(_START_SECONDS):
            while tab is None:
                async with session.get(address) as answer:
                    tab = next((each for each in await answer.json() if each["type"] == "page"), None)
        async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=_MOST_MESSAGE_BYTES) as socket:
            page = Page(socket)
            listening = asyncio.create_task(page.listen(), name="browser")
            for domain in ("Page", "Runtime", "Log", "Network"):
                await page.call(f"{domain}.enable")
            try:
                yield page
            finally:
                await socket.close()
                await listening


async def _port(profile: Path) -> int:
    """The port that the browser chose; it writes a file once it listens."""
    file = profile / "DevToolsActivePort"
    async with asyncio.timeout(_START_SECONDS):
        while not (file.exists() and file.read_text().count("\n")):  # noqa: ASYNC110 (only the file tells)
            await asyncio.sleep(0.02)
    return int(file.read_text().splitlines()[0])
