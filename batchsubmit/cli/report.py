"""`batchsubmit report`."""

from pathlib import Path

import click

_LEDGER_SUFFIXES = (".jsonl", ".ledger")


@click.command(epilog="Example: batchsubmit report jobs.ledger.jsonl --output out/jobs.html")
@click.argument("ledger")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The page.  [default: <ledger stem>.html in the current folder]",
)
def report(ledger: str, output: Path | None) -> int:
    """Write LEDGER as one HTML page that opens from the disk: what ran, what failed and why, what is left.

    The page is one file, asks nothing of the network, and appears whole or not at all. It may be written while a run
    is under way. Its path is printed on standard output.
    """
    from batchsubmit.clock import SystemClock  # noqa: PLC0415 (help is fast without)
    from batchsubmit.ledger.reading import read_ledger  # noqa: PLC0415
    from batchsubmit.report.chronicle import Chronicle  # noqa: PLC0415
    from batchsubmit.report.page import Setting, page_parts  # noqa: PLC0415
    from batchsubmit.saving import saving  # noqa: PLC0415

    remarks: list[str] = []
    chronicle = Chronicle.of(read_ledger(ledger, warn=remarks.append))
    for remark in remarks:
        click.echo(f"{ledger}: {remark}", err=True)
    setting = Setting(ledger=ledger, made_at=SystemClock().now().timestamp(), remarks=tuple(remarks))
    output = output or _default_output(ledger)
    with saving(output, inputs=[Path(ledger)]) as file:
        for part in page_parts(chronicle, setting):
            file.write(part.encode(errors="replace"))
    click.echo(output)
    return 0


def _default_output(ledger: str) -> Path:
    """`night.html` for `s/night.ledger.jsonl` and for `dynamodb://night`."""
    name = ledger.rstrip("/").rpartition("/")[2]
    for suffix in _LEDGER_SUFFIXES:
        name = name.removesuffix(suffix)
    return Path(f"{name or 'report'}.html")
