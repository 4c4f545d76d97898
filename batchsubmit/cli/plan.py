"""`batchsubmit plan`."""

import asyncio
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchsubmit.cli.manual import manual
from batchsubmit.cli.options import (
    allow_duplicates_option,
    config_option,
    json_option,
    read_settings,
    sandbox_job_seconds_option,
    tell_warnings,
    telling_problems,
)
from batchsubmit.exits import EXIT_FAILED

if TYPE_CHECKING:
    from batchsubmit.app.plan import Estimate, Plan
    from batchsubmit.app.readiness import Readiness
    from batchsubmit.app.run import SubmitOptions
    from batchsubmit.config import Settings


@click.command(
    epilog=manual(
        ("what a first run would take, jobs being of half an hour", "batchsubmit plan jobs.csv --job-minutes 30"),
        ("with what last night's run taught", "batchsubmit plan jobs.csv --history yesterday.ledger.jsonl"),
        ("look at the service as well", "batchsubmit plan jobs.csv --online"),
        exits={1: "--online: a trained model or channel is not ready"},
    )
)
@click.argument("manifest", type=click.Path(allow_dash=True))
@click.option(
    "--ledger",
    type=click.Path(),
    metavar="LEDGER",
    help="The ledger's file, or dynamodb://TABLE; only read. [default: <manifest stem>.ledger.jsonl in this folder]",
)
@click.option("--batch-id", metavar="TEXT", help="The word that submit will be given.")
@config_option
@click.option(
    "--history",
    multiple=True,
    type=click.Path(),
    metavar="LEDGER",
    help="An earlier ledger to learn from how long jobs take; may be repeated.",
)
@click.option(
    "--job-minutes",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="What a job takes on average, where no ledger tells or instead of it.",
)
@click.option(
    "--online", is_flag=True, help="Look at the service: running jobs, trained models, channels, credentials."
)
@click.option("--sandbox", is_flag=True, help="Plan a rehearsal (submit --sandbox).")
@sandbox_job_seconds_option
@click.option("--skip-invalid", is_flag=True, help="Plan without the rows that are wrong.")
@allow_duplicates_option
@click.option("--retry-failed", is_flag=True, help="Count what earlier runs recorded as failed as to do.")
@json_option
def plan(
    config: Path | None,
    *,
    as_json: bool,
    job_minutes: float | None,
    history: tuple[str, ...],
    online: bool,
    **given: Any,  # noqa: ANN401 (click's)
) -> int:
    """Say what submit would do with MANIFEST: rows to do by membership, and when all of it will be done.

    Starts no job and writes nothing, also while a run has the ledger. Exit status 2 where the manifest is wrong, and
    with --online 1 where a trained model or channel is not ready.
    """
    from batchsubmit.app.plan import PlanOptions  # noqa: PLC0415
    from batchsubmit.app.plan import plan as make_plan  # noqa: PLC0415
    from batchsubmit.cli.plan_words import whole_plan  # noqa: PLC0415 (help is fast without)
    from batchsubmit.ledger.location import parse_location  # noqa: PLC0415

    asked, settings = _as_submit(config, given)
    ledgers = tuple(map(parse_location, history))
    options = PlanOptions.of(asked, job_minutes=job_minutes, history=ledgers, online=online)
    with telling_problems():
        made = asyncio.run(make_plan(options, settings))
    tell_warnings(made.warnings)
    status = EXIT_FAILED if made.readiness is not None and made.readiness.problems else 0
    if as_json:
        click.echo(json.dumps(_as_dict(made) | {"exit_status": status}))
    else:
        for line in whole_plan(made):
            click.echo(line)
    return status


def _as_submit(config: Path | None, given: dict[str, Any]) -> "tuple[SubmitOptions, Settings]":
    """Read what `submit` would be asked for by these options and settings; what follows a run is no business here."""
    from batchsubmit.cli.request import read_request  # noqa: PLC0415 (help is fast without)
    from batchsubmit.config import NightSettings  # noqa: PLC0415

    settings = read_settings(config, submit={name: given[name] for name in ("ledger", "batch_id")})
    by_day = settings.model_copy(update={"night": NightSettings()})
    asked, _ = read_request({"canary": 0, "resubmit_unknown": False, **given}, by_day, datetime.now(UTC), {})
    return asked, settings


def _as_dict(made: "Plan") -> dict[str, Any]:
    lanes = [
        {
            "membership": lane.membership,
            "rows": lane.rows,
            "submitted": lane.submitted,
            "failed": lane.failed,
            "unknown": lane.unknown,
            "to_do": lane.to_do,
            "slots": made.estimate.quotas.per_membership,
            "running": None if made.running is None else made.running.get(lane.membership, 0),
        }
        for lane in made.prospect.lanes.values()
    ]
    return {
        "manifest": made.manifest,
        "ledger": str(made.ledger),
        "batch": made.batch,
        "rows": sum(lane.rows for lane in made.prospect.lanes.values()) + made.invalid,
        "invalid": made.invalid,
        "to_do": made.prospect.to_do,
        "unknown": made.prospect.unknown,
        "unknown_elsewhere": made.prospect.unknown_elsewhere,
        "memberships": lanes,
        "quotas": asdict(made.estimate.quotas) | {"assumed": made.estimate.are_quotas_assumed},
        "slots": made.estimate.slots,
        "finish": made.estimate.finish and made.estimate.finish.as_dict(made.made_at),
        "basis": made.estimate.basis,
        "what_if": _what_ifs(made.estimate),
        "warnings": list(map(asdict, made.warnings)),
        "online": None if made.readiness is None else _online(made.readiness),
    }


def _online(readiness: "Readiness") -> dict[str, Any]:
    return {name: getattr(readiness, name) for name in ("checked", "problems", "untold", "warnings")}


def _what_ifs(estimate: "Estimate") -> list[dict[str, Any]]:
    return [
        {**asdict(each.quotas), "slots": each.slots, "seconds": round(each.finish.seconds, 3)}
        for each in estimate.what_ifs
    ]
