"""Asks a worker's probe from another process, quickly: what a container's health check runs.

Plain `http.client`: it starts fast, and a proxy in the environment is not asked for what is on this machine.
"""

from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

_PATIENCE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe said."""

    is_well: bool
    words: str


def ask(url: str, patience_seconds: float = _PATIENCE_SECONDS) -> Answer:
    """Ask a probe; a worker that does not answer in time is not well. Raises nothing."""
    place = urlsplit(url)
    connection = HTTPConnection(place.hostname or "", place.port, timeout=patience_seconds)
    try:
        connection.request("GET", place.path or "/", headers={"Connection": "close"})
        response = connection.getresponse()
        return Answer(response.status == 200, response.read().decode(errors="replace").strip())
    except (OSError, HTTPException) as exc:
        return Answer(is_well=False, words=f"{url} does not answer: {str(exc) or type(exc).__name__}")
    finally:
        connection.close()


def check(url: str) -> bool:
    """Whether the worker behind a probe is well."""
    return ask(url).is_well


def probe_url(host: str, port: int, probe: str) -> str:
    """Where a worker of this machine that listens on `host` and `port` answers `probe`."""
    local = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 (asked, not bound)
    return f"http://{f'[{local}]' if ':' in local else local}:{port}/{probe}"
