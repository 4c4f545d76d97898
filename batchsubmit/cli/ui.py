"""`batchsubmit ui`."""

import asyncio
import webbrowser
from pathlib import Path

import click

from batchsubmit.app.ui import serving
from batchsubmit.cli.options import command, run_command, settings_option
from batchsubmit.cli.output import say
from batchsubmit.config import Settings
from batchsubmit.errors import UsageError
from batchsubmit.ledger.lines import require_ledger
from batchsubmit.ledger.location import Location, parse_location
from batchsubmit.submit.stopping import Stop, stop_on_signals


@command(
    ("the report of a run as it goes on", "batchsubmit ui jobs.ledger.jsonl"),
    ("all nights of a folder, beside one another", "batchsubmit ui ledgers/"),
    ("on a server, with its port forwarded", "batchsubmit ui jobs.ledger.jsonl --port 8765 --no-browser"),
    exits={0: "stopped by Ctrl-C", 2: "there is no such ledger, or the port is taken"},
)
@click.argument("ledger", type=parse_location, metavar="LEDGER|FOLDER")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port.  [default: any that is free]")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen on. Any other one opens the page to the network, to those who have its address.",
)
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@settings_option
def ui(ledger: Location, port: int, host: str, settings: Settings, *, no_browser: bool) -> int:
    """Serve the report page of LEDGER, or an overview of the ledgers in FOLDER, to the browser, until Ctrl-C.

    The page follows the ledger while a run writes to it; nothing can be changed through it. Its address, with a
    random token that nobody can guess, is the first line on standard output.
    """
    if isinstance(ledger, Path):
        if not ledger.exists():
            raise UsageError(f"there is no ledger or folder {ledger}")
        require_ledger(ledger)
    run_command(_serve(ledger, host, port, settings, opens=not no_browser))
    return 0


async def _serve(ledger: Location, host: str, port: int, settings: Settings, *, opens: bool) -> None:
    stop = Stop()
    with stop_on_signals(stop):
        async with serving(ledger, host=host, port=port, settings=settings) as address:
            say(address, to_stdout=True)
            say("Ctrl-C stops it.")
            if opens:
                await asyncio.to_thread(webbrowser.open, address)
            await stop.pause(None)
