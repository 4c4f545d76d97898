"""`batchsubmit sandbox`."""

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import click

from batchsubmit.cli.options import command, run_command
from batchsubmit.cli.output import say
from batchsubmit.errors import StoppedError
from batchsubmit.sandbox import FaultPlan, Faults, SandboxServer, SandboxService, SandboxSettings
from batchsubmit.submit.stopping import Stop, stop_on_signals

_amount = partial(click.option, type=click.FloatRange(min=0), show_default=True)
_count = partial(click.option, type=click.IntRange(min=0), metavar="N", show_default=True)
_share = partial(click.option, type=click.FloatRange(0, 1), metavar="P", show_default=True)


@command(
    ("serve on a port of your choice", "batchsubmit sandbox --port 8123"),
    (
        "jobs of ten minutes, one in fifty of which fails",
        "batchsubmit sandbox --job-seconds 600 --failure-probability 0.02",
    ),
    exits={0: "interrupted", 2: "usage wrong", 3: "it could not be served: the port is taken, say"},
    more="Any AWS client calls it with AWS_ENDPOINT_URL_CLEANROOMSML set to its URL, AWS_REGION to the region of "
    "the manifest's ARNs, and AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to anything.",
)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="HOST", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="PORT", help="Port.  [default: a free one]")
@_amount("--job-seconds", default=2.0, metavar="SECONDS", help="Mean time a job runs.")
@_amount("--job-sigma", default=0.0, metavar="SIGMA", help="Spread of that time, log-normal.")
@_count("--per-membership", default=5, help="Slots of a membership, 0 for no quota.")
@_count("--per-account", default=10, help="Slots of an account, 0 for no quota.")
@_amount("--starts-per-second", default=1.0, metavar="N", help="Start calls a second, 0 for no limit.")
@_count("--start-burst", default=3, help="Start calls at once after a pause.")
@_amount("--reads-per-second", default=50.0, metavar="N", help="Get and List calls a second, each.")
@_share("--failure-probability", default=0.0, help="Share of jobs that end CREATE_FAILED.")
@_amount("--list-lag-seconds", default=0.0, metavar="SECONDS", help="Delay until List shows a job.")
@click.option("--seed", type=int, metavar="N", help="Seed of everything random.")
@click.option(
    "--faults", type=click.Path(path_type=Path), metavar="FILE", help="A JSON file of faults, by probability or script."
)
def sandbox(host: str, port: int, faults: Path | None, **settings: Any) -> int:  # noqa: ANN401 (click's)
    """Serve a local Clean Rooms ML to rehearse, demonstrate and test against, until interrupted.

    The URL is printed on standard output once it answers, and what to export for it on standard error. Jobs live in
    memory and are gone when it ends.
    /_sandbox/jobs and /_sandbox/stats show what it has; PUT /_sandbox/quotas and /_sandbox/faults change it.
    """
    try:
        plan = FaultPlan.read(faults) if faults else None
    except ValueError as exc:
        raise StoppedError(str(exc)) from exc
    service = SandboxService(SandboxSettings(**settings), time.time)
    try:
        run_command(_serve(SandboxServer(service, Faults(plan), host=host, port=port)))
    except OSError as exc:
        why = os.strerror(exc.errno) if exc.errno else str(exc)
        raise StoppedError(f"nothing can be served on {host}, port {port}: {why}; choose another --port") from exc
    return 0


async def _serve(server: SandboxServer) -> None:
    stop = Stop()
    with stop_on_signals(stop):
        async with server:
            click.echo(server.url)
            say("To use it, in another terminal (the region is that of the manifest's ARNs):")
            say(f"export AWS_ENDPOINT_URL_CLEANROOMSML={server.url} AWS_REGION=eu-central-1")
            say("export AWS_ACCESS_KEY_ID=sandbox AWS_SECRET_ACCESS_KEY=sandbox")
            await stop.pause(None)
