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
from batchsubmit.ledger.lines import require_ledger
from batchsubmit.ledger.location import Location
from batchsubmit.ledger.read import read_ledger
from batchsubmit.report.overview import Night, make_overview
from batchsubmit.report.page import library, make_page
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
    """The page of a ledger or the overview of a folder, and a version, which tells how that looked when it was made."""

    location: Location
    settings: Settings
    version: str = ""
    html: str = ""
    _nights: dict[str, tuple[str, Night]] = field(default_factory=dict)
    _next_at: float = 0.0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def current(self) -> str:
        """Make the page where a ledger has changed; give the version. Raises UsageError, LedgerError."""
        async with self._lock:
            if time.monotonic() >= self._next_at:
                await asyncio.to_thread(self._follow)
        return self.version

    def _follow(self) -> None:
        version, began = _version(self.location), time.thread_time()
        if version == self.version and self.html:
            return
        if isinstance(self.location, Path) and self.location.is_dir():
            self.html = self._overview(self.location, version)
        else:
            self.html = self._page(version)
        self.version = version
        self._next_at = time.monotonic() + _REST * (time.thread_time() - began)

    def _page(self, version: str) -> str:
        remarks: list[str] = []
        location, settings = self.location, self.settings
        region = None if isinstance(location, Path) else resolve_region(settings.aws)
        timeline = Timeline.of(read_ledger(location, region=region, warn=remarks.append))
        page = make_page(
            timeline,
            ledger=str(location),
            made_at=time.time(),
            remarks=tuple(remarks),
            names=settings.names,
            prices=settings.prices,
            live=version,
        )
        return "".join(page.parts())

    def _overview(self, folder: Path, version: str) -> str:
        """Nights that have not changed are not read again."""
        for path in ledgers_in(folder):
            seen = _version(path)
            if self._nights.get(path.name, ("",))[0] != seen:
                with suppress(OSError, BatchsubmitError):  # its own page says what is wrong with it
                    timeline = Timeline.of(read_ledger(path))
                    self._nights[path.name] = seen, Night.of(timeline, path.name, time.time(), self.settings.prices)
        return make_overview(str(folder), [night for _, night in self._nights.values()], version)


def ledgers_in(folder: Path) -> list[Path]:
    """The ledgers of a folder that were written last."""
    found = []
    for path in folder.glob("*.jsonl"):
        with suppress(UsageError):
            require_ledger(path)
            found.append(path)
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)[:_MOST_NIGHTS]


def _version(location: Location) -> str:
    if not isinstance(location, Path):
        return f"{time.time() // _TABLE_POLL_SECONDS:.0f}"
    if location.is_dir():
        return f"{hash(tuple((path.name, _version(path)) for path in ledgers_in(location))):x}"
    with suppress(OSError):
        now = location.stat()
        return f"{now.st_ino}-{now.st_size}-{now.st_mtime_ns}"
    return "gone"


@asynccontextmanager
async def serving(location: Location, *, host: str, port: int, settings: Settings) -> AsyncIterator[str]:
    """Serve for as long as the context lasts; give the address. Raises UsageError where the port is taken."""
    await asyncio.to_thread(library)
    application, (path, routes) = web.Application(), live_pages(location, settings)
    application.router.add_routes(routes)
    async with listening(application, host, port, "give another --port") as address:
        yield f"{address}{path}"


def live_pages(location: Location, settings: Settings) -> tuple[str, list[web.RouteDef]]:
    """The path of a ledger's page, or of a folder's overview, with a random token; and what is served below it."""
    path, whole = f"/{secrets.token_urlsafe(24)}/", LivePage(location, settings)
    routes = _routes(path, lambda _: whole)
    if not (isinstance(location, Path) and location.is_dir()):
        return path, routes
    pages: dict[str, LivePage] = {}

    def page_of(request: web.Request) -> LivePage:
        name = request.match_info["name"]
        if name not in {each.name for each in ledgers_in(location)}:
            raise web.HTTPNotFound
        return pages.setdefault(name, LivePage(location / name, settings))

    return path, [*routes, *_routes(f"{path}{{name}}/", page_of)]


def _routes(path: str, chosen: Callable[[web.Request], LivePage]) -> list[web.RouteDef]:
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
