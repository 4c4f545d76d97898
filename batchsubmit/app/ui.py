"""`ui`: the report page of a ledger, or of each ledger in a folder, served to this machine's browser as it changes.

Read-only, and only under an address with a random token. A page is made when a tab asks for it and its ledger has
changed, once for all tabs, and never so often that making pages takes more than a quarter of a processor.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from batchsubmit.aws import resolve_region
from batchsubmit.config import Settings
from batchsubmit.errors import BatchsubmitError, UsageError
from batchsubmit.health import listening
from batchsubmit.ledger.base import Location
from batchsubmit.ledger.codec import require_ledger
from batchsubmit.ledger.read import read_entries
from batchsubmit.report.page import Night, library, make_overview, make_page
from batchsubmit.report.timeline import Timeline

_POLL_SECONDS = 0.2
_TABLE_POLL_SECONDS = 30.0
"""Each read of a table costs money."""
_REST = 3
"""So many times as long as a page took to make, the next one waits: 100,000 jobs take seconds."""
_MOST_NIGHTS = 60
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(slots=True)
class LivePage:
    """A page and its version, which tells how its ledger looked when it was made."""

    location: Location
    settings: Settings
    version: str = ""
    html: str = ""
    _next_at: float = 0.0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def current(self) -> str:
        """Make the page where its ledger has changed; give the version. Raises UsageError, LedgerError."""
        async with self._lock:
            is_due = time.monotonic() >= self._next_at
            version = await asyncio.to_thread(_version, self.location) if is_due else self.version
            if version != self.version or not self.html:
                self.html, seconds = await asyncio.to_thread(self._make, version)
                self.version = version
                self._next_at = time.monotonic() + _REST * seconds
        return self.version

    def _make(self, version: str) -> tuple[str, float]:
        """The page, and the seconds of processor time that it took."""
        began = time.thread_time()
        remarks: list[str] = []
        region = None if isinstance(self.location, Path) else resolve_region(self.settings.aws)
        timeline = Timeline.of(read_entries(self.location, region=region, warn=remarks.append))
        made_at = time.time()
        page = make_page(
            timeline,
            ledger=str(self.location),
            made_at=made_at,
            remarks=tuple(remarks),
            names=self.settings.names,
            prices=self.settings.prices,
            live=version,
        )
        return "".join(page.parts()), time.thread_time() - began


@dataclass(slots=True)
class LiveFolder:
    """The overview of a folder's ledgers; nights that have not changed are not read again."""

    folder: Path
    settings: Settings
    version: str = ""
    html: str = ""
    _nights: dict[str, tuple[str, Night]] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def current(self) -> str:
        """Make the overview where a ledger has changed; give the version."""
        async with self._lock:
            version = await asyncio.to_thread(_folder_version, self.folder)
            if version != self.version or not self.html:
                self.html, self.version = await asyncio.to_thread(self._make, version), version
        return self.version

    def _make(self, version: str) -> str:
        for path in ledgers_in(self.folder):
            seen = _version(path)
            if self._nights.get(path.name, ("",))[0] == seen:
                continue
            with suppress(OSError, BatchsubmitError):  # its own page says what is wrong with it
                timeline = Timeline.of(read_entries(path))
                self._nights[path.name] = seen, Night.of(timeline, path.name, time.time(), self.settings.prices)
        return make_overview(str(self.folder), [night for _, night in self._nights.values()], version)


def ledgers_in(folder: Path) -> list[Path]:
    """The ledgers of a folder that were written last."""
    found = []
    for path in folder.glob("*.jsonl"):
        with suppress(UsageError):
            require_ledger(path)
            found.append(path)
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)[:_MOST_NIGHTS]


def _folder_version(folder: Path) -> str:
    return f"{hash(tuple((path.name, _version(path)) for path in ledgers_in(folder))):x}"


def _version(location: Location) -> str:
    if not isinstance(location, Path):
        return f"{time.time() // _TABLE_POLL_SECONDS:.0f}"
    with suppress(OSError):
        now = location.stat()
        return f"{now.st_ino}-{now.st_size}-{now.st_mtime_ns}"
    return "gone"


@asynccontextmanager
async def serving(location: Location, *, host: str, port: int, settings: Settings) -> AsyncIterator[str]:
    """Serve for as long as the context lasts; give the address. Raises UsageError where the port is taken."""
    await asyncio.to_thread(library)  # takes seconds the first time
    application, (path, routes) = web.Application(), live_pages(location, settings)
    application.router.add_routes(routes)
    async with listening(application, host, port, "give another --port") as address:
        yield f"{address}{path}"


def live_pages(location: Location, settings: Settings) -> tuple[str, list[web.RouteDef]]:
    """The path of a ledger's page, or of a folder's overview, with a random token; and what is served below it."""
    path = f"/{secrets.token_urlsafe(24)}/"
    if not (isinstance(location, Path) and location.is_dir()):
        live = LivePage(location, settings)
        return path, _routes(path, lambda _: live)
    folder, pages = LiveFolder(location, settings), dict[str, LivePage]()

    def page_of(request: web.Request) -> LivePage:
        name = request.match_info["name"]
        if name not in {each.name for each in ledgers_in(location)}:
            raise web.HTTPNotFound
        return pages.setdefault(name, LivePage(location / name, settings))

    return path, [*_routes(path, lambda _: folder), *_routes(f"{path}{{name}}/", page_of)]


def _routes(path: str, chosen: Callable[[web.Request], LivePage | LiveFolder]) -> list[web.RouteDef]:
    """Serve a page, and beside it the events that say that it has changed."""

    async def show(request: web.Request) -> web.Response:
        live = chosen(request)
        try:
            await live.current()
        except (OSError, BatchsubmitError) as exc:
            return web.Response(status=500, text=f"{exc}\n", headers=_HEADERS)
        # A page that is open already has Vega, which is most of a page.
        text = live.html.replace(library(), "") if "update" in request.query else live.html
        return web.Response(text=text, content_type="text/html", headers=_HEADERS)

    async def events(request: web.Request) -> web.StreamResponse:
        live, known = chosen(request), request.query.get("shown", "")
        response = web.StreamResponse(headers={**_HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        with suppress(ConnectionError):  # the tab is gone
            while True:
                await response.write(b": here\n\n")
                with suppress(BatchsubmitError):  # a line that is damaged now may be whole the next time
                    if (version := await live.current()) != known:
                        await response.write(f"data: {version}\n\n".encode())
                        known = version
                await asyncio.sleep(_POLL_SECONDS)
        return response

    return [web.get(path, show), web.get(f"{path}events", events)]
