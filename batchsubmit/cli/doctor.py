"""`batchsubmit doctor`: what has to be in place before a run, found by calls that start nothing and cost nothing."""

import asyncio
import errno
import os
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from batchsubmit.app.after_run import AfterRun
from batchsubmit.app.run import SubmitOptions, require_region, submit_options
from batchsubmit.app.worker import advice_on_queue
from batchsubmit.aws import CLOCK, Timeouts, open_client, resolve_region
from batchsubmit.cleanrooms.api import Input, JobDetails, JobPage, inputs_of
from batchsubmit.cleanrooms.client import CleanRooms, open_cleanrooms, outcome_of
from batchsubmit.cleanrooms.quotas import ask_quotas
from batchsubmit.cleanrooms.reads import ReadError
from batchsubmit.cli.help import EXITS
from batchsubmit.cli.options import batch_id_option, command, conclude, ledger_option, settings_and_json
from batchsubmit.cli.output import say
from batchsubmit.cli.submit import after_run_of
from batchsubmit.clock import SystemClock
from batchsubmit.config import Settings
from batchsubmit.core.jobs import Denied, Forbidden, InvalidRequest, NotSent, Result, Throttled, Uncertain
from batchsubmit.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED, BatchsubmitError
from batchsubmit.ledger.dynamodb import open_table
from batchsubmit.ledger.file import LedgerFile, holding_run, lock, shared_file_system
from batchsubmit.ledger.items import TABLE_ADDRESS, check_format
from batchsubmit.ledger.location import Location, TableLocation
from batchsubmit.ledger.open import refuse_rehearsal_mix
from batchsubmit.ledger.read import fold_ledger
from batchsubmit.manifest.check import open_checked_manifest
from batchsubmit.schema.arns import partition_of, region_in
from batchsubmit.submit.engine import open_reads
from batchsubmit.submit.inputs import check_inputs
from batchsubmit.submit.stopping import Stop
from batchsubmit.text import agreeing, counted

_TIMEOUTS = Timeouts(5.0, 10.0, 20.0)
_TOLERATED_SKEW_SECONDS = 240
_MOST_MEMBERSHIPS = 20
_BYTES_A_JOB = 1200
_NOWHERE = "00000000-0000-0000-0000-000000000000"
_NEED_A_JOB = "StartTrainedModelInferenceJob, TagResource and CancelTrainedModelInferenceJob need a job to be tried"
_NETWORK = "look at the network, HTTPS_PROXY and AWS_ENDPOINT_URL*"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

GOOD, WRONG, UNASKED, UNTRIED = "good", "wrong", "unasked", "untried"
"""How a check came out; `untried` could not be tried at all, `unasked` got no answer."""

_MARKS = {GOOD: "✓", WRONG: "✗", UNASKED: "–", UNTRIED: "–"}  # noqa: RUF001 (a dash)

_Answer = TypeVar("_Answer")


@command(
    ("is all in place for this manifest?", "batchsubmit doctor jobs.csv"),
    ("with the queue, table, bucket and topic of some settings", "batchsubmit doctor --config nightly.toml"),
    exits={0: "all that could be tried works", 1: "some of it does not (✗)", 2: EXITS[2], 3: "some could not be asked"},
)
@click.argument("manifest", type=click.Path(allow_dash=True), required=False)
@ledger_option(help="The ledger of submit.")
@batch_id_option
@settings_and_json
def doctor(manifest: str | None, settings: Settings, *, as_json: bool) -> int:
    """Check what a run needs: identity, clock, permissions, quotas, disk, queue, table, bucket and topic.

    With MANIFEST, its rows, trained models and channels too. It starts no job, sends no message and writes nothing that
    stays.
    """
    options = submit_options(settings, datetime.now(UTC), manifest=manifest or "jobs.csv")
    examination = _Examination(options, settings, after_run_of(settings, options), prints=not as_json)
    asyncio.run(examination.run(has_manifest=manifest is not None))
    states = Counter(each["state"] for each in examination.found)
    status = EXIT_FAILED if states[WRONG] else EXIT_STOPPED if states[UNASKED] else EXIT_DONE
    if wrong := states[WRONG]:
        checked = f"{counted(wrong, 'check')} of {states.total()} {agreeing(wrong, 'does', 'do')} not work"
        words = f"{checked}: fix the lines with ✗"
    elif states[UNASKED]:
        words = f"{counted(states[UNASKED], 'check')} could not be asked: run this again"
    else:
        following = f"plan {manifest}" if manifest else "doctor MANIFEST"
        words = f"All that could be tried works. Next: batchsubmit {following}"
    return conclude([words], {"checks": examination.found, "exit_status": status}, as_json=as_json)


class _Examination:
    """Checks one thing after another, in the order in which a run needs them, and prints each finding at once."""

    def __init__(self, options: SubmitOptions, settings: Settings, after: AfterRun | None, *, prints: bool) -> None:
        self._options = options
        self._settings = settings
        self._after = after
        self._prints = prints
        self._accounts: dict[str, str] = {}  # of the memberships of the manifest
        self._inputs: set[Input] = set()
        self._rows = 0
        self.found: list[dict[str, str]] = []

    def _note(self, check: str, state: str, detail: str) -> None:
        self.found.append({"check": check, "state": state, "detail": detail})
        if self._prints:
            say(f"{_MARKS[state]} {check}: {detail}", to_stdout=True)

    async def run(self, *, has_manifest: bool) -> None:
        """Check all. Raises nothing for what is found wrong."""
        ledger = self._options.place
        region = self._find_region()
        if has_manifest:
            await self._read_manifest(region)
        if region is None:
            self._note("AWS", UNTRIED, "nothing else of AWS can be asked without a region")
        elif not await self._identify(region):
            self._note("AWS", UNTRIED, "nothing else of AWS can be asked without credentials")
        else:
            await self._try("endpoint", "ListTrainedModelInferenceJobs", self._ask_service(region))
            await self._ask_quotas(region)
            await self._ask_others(region, ledger)
        if isinstance(ledger, Path):
            self._note("disk", *await asyncio.to_thread(_try_folder, ledger, self._rows))
            self._note("ledger", *await asyncio.to_thread(_read_ledger, ledger))

    def _find_region(self) -> str | None:
        try:
            region = require_region(resolve_region(self._settings.aws))
        except BatchsubmitError as exc:
            self._note("region", WRONG, str(exc))
            return None
        self._note("region", GOOD, region)
        return region

    async def _read_manifest(self, region: str | None) -> None:
        name, settings, terms = self._options.manifest, self._settings, self._options.terms
        try:
            async with open_checked_manifest(name, settings, region=region, terms=terms) as (_, inventory):
                requests = map(inventory.index.request, range(len(inventory.index)))
                self._inputs = await asyncio.to_thread(lambda: {each for row in requests for each in inputs_of(row)})
        except BatchsubmitError as exc:
            self._note("manifest", WRONG, str(exc))
            return
        self._accounts = {each: inventory.account_of(each) for each in inventory.index.memberships}
        self._rows = inventory.row_count
        if inventory.problems:
            words = f"{counted(inventory.problem_count, 'problem')}, the first: {inventory.problems[0]}"
            self._note("manifest", WRONG, f"{words}; batchsubmit validate {name} lists all")
        elif not self._rows:
            self._note("manifest", WRONG, f"{name} has no rows: add some")
        else:
            self._note("manifest", GOOD, f"{counted(self._rows, 'row')}, all valid")

    async def _try(
        self, check: str, operation: str, work: Awaitable[_Answer], *, is_needed: bool = False
    ) -> _Answer | None:
        """Give what a call brought, or note why it brought nothing."""
        try:
            return await work
        except BatchsubmitError as exc:
            self._note(check, WRONG, str(exc))
        except Exception as exc:  # noqa: BLE001 (whatever it is, it is what was found)
            self._judge(check, operation, outcome_of(exc, has_left=True), is_needed=is_needed)
        return None

    def _judge(self, check: str, operation: str, outcome: Result, *, where: str = "", is_needed: bool = True) -> None:
        """Note what came instead of an answer; a denied call is no fault where no command makes it."""
        match outcome:
            case Denied(message=said) if not is_needed:
                self._note(check, UNTRIED, f"the role may not call {operation}: {said}")
            case NotSent() | Uncertain() | Throttled():
                self._note(check, UNASKED, f"{where}{ReadError(operation, outcome)}; {_NETWORK}")
            case InvalidRequest(code=code, message=said):
                self._note(check, WRONG, f"{where}{operation}: {code}: {said}; correct its name")
            case _:
                self._note(check, WRONG, f"{where}{ReadError(operation, outcome)}")

    async def _identify(self, region: str) -> bool:
        """Say who calls, and how far this machine's clock is from the service's; False where nobody may call."""
        answer = await self._try("identity", "GetCallerIdentity", _call("sts", region, "get_caller_identity"))
        if answer is None:
            return self.found[-1]["state"] != WRONG
        self._note("identity", GOOD, answer["Arn"])
        if date := answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date"):
            ahead = (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()
            if abs(ahead) < _TOLERATED_SKEW_SECONDS:
                self._note("clock", GOOD, f"within {max(abs(ahead), 1):.0f} s of the service's")
            else:
                side = "ahead" if ahead > 0 else "behind"
                self._note("clock", WRONG, f"{CLOCK} {abs(ahead):,.0f} seconds {side}; set it")
        return True

    async def _ask_service(self, region: str) -> None:
        """Ask Clean Rooms ML in each membership what a run asks; the first answer says whether it is there at all."""
        memberships = list(self._accounts)[:_MOST_MEMBERSHIPS]
        async with open_cleanrooms(self._settings, region=region) as api:
            first = await api.list_page(memberships[0] if memberships else _NOWHERE)
            if isinstance(first, NotSent | Uncertain | Throttled | Forbidden):
                self._judge("endpoint", "ListTrainedModelInferenceJobs", first)
                return
            self._note("endpoint", GOOD, f"{api.endpoint_url} answers")
            if memberships:
                await self._ask_in_memberships(api, region, memberships)
            else:
                self._note("permissions", UNTRIED, "only asked in the memberships of a MANIFEST")

    async def _ask_in_memberships(self, api: CleanRooms, region: str, memberships: list[str]) -> None:
        async def get(membership: str) -> object:
            service = f"arn:{partition_of(region) or 'aws'}:cleanrooms-ml:{region}"
            scope = f"{service}:{self._accounts[membership] or '0' * 12}:membership/{membership}"
            answer = await api.get(membership, f"{scope}/trained-model-inference-job/{_NOWHERE}")
            # That the service does not know this job is an answer, too.
            return None if isinstance(answer, InvalidRequest | JobDetails) else answer

        await self._try_permission("ListTrainedModelInferenceJobs", api.list_page, memberships)
        await self._try_permission("GetTrainedModelInferenceJob", get, memberships)
        first = f"batchsubmit submit {self._options.manifest} --canary 1 begins with one"
        words = f"{_NEED_A_JOB}: {first}; batchsubmit policy submit prints what it needs"
        self._note("permission to start", UNTRIED, words)
        await self._look_at_inputs(api)

    async def _try_permission(
        self, operation: str, call: Callable[[str], Awaitable[Any]], memberships: list[str]
    ) -> None:
        check = f"permission {operation}"
        for membership in memberships:
            answer = await call(membership)
            if not (answer is None or isinstance(answer, JobPage)):
                self._judge(check, operation, answer, where=f"membership {membership}: ")
                return
        self._note(check, GOOD, f"in {counted(len(memberships), 'membership')}")

    async def _look_at_inputs(self, api: CleanRooms) -> None:
        reads = open_reads(api, self._settings, Stop(), SystemClock())
        found = await check_inputs(reads, self._inputs, waits=self._settings.submit.wait_for_inputs)
        if found.problems:
            self._note("models, channels", WRONG, "; ".join(found.problems[:3]))
        elif found.untold:
            words = "allow GetTrainedModel and GetMLInputChannel, lines of what batchsubmit policy submit prints"
            self._note("models, channels", UNTRIED, f"{found.untold[0]}; {words}")
        else:
            looked_at = counted(found.checked, "trained model or channel", "trained models and channels")
            self._note("models, channels", GOOD, "; ".join((f"{looked_at} looked at", *found.warnings[:3])))

    async def _ask_quotas(self, region: str) -> None:
        """No run needs them reported: what cannot be read is learned from refusals."""
        try:
            quotas = await ask_quotas(self._settings.aws, region=region)
        except Exception as exc:  # noqa: BLE001 (whatever it is, it is what was found)
            why = str(exc).partition("\n")[0]
            words = f"not reported ({why}): AWS's defaults are assumed, 5 jobs at once a membership and 10 an account"
            self._note("quotas", UNTRIED, words)
        else:
            reported = {"a membership": quotas.per_membership, "an account": quotas.per_account}
            words = ", ".join(f"{value or 'not reported'} {scope}" for scope, value in reported.items())
            self._note("quotas", GOOD, f"jobs at once: {words}")

    async def _ask_others(self, region: str, ledger: Location) -> None:
        """Look at the table, the queue, the bucket and the topic of the settings; a webhook is not called."""
        if isinstance(ledger, TableLocation) and (
            words := await self._try("table", "BatchGetItem", _read_table(ledger, region), is_needed=True)
        ):
            self._note("table", GOOD, words)
        if url := self._settings.worker.queue_url:
            advice = await self._try("queue", "GetQueueAttributes", advice_on_queue(self._settings))
            for problem in advice or ():
                self._note("queue", WRONG, problem)
            if advice is not None and not advice:
                self._note("queue", GOOD, f"{url} is there, and its settings fit")
        if self._after and (place := self._after.destination):
            listing = _call("s3", region, "list_objects_v2", Bucket=place.bucket, Prefix=place.prefix, MaxKeys=1)
            if await self._try("bucket", "ListBucket", listing):
                words = f"s3://{place.bucket}/{place.prefix} can be listed; writing is tried by the first copy"
                self._note("bucket", GOOD, words)
        for target in self._after.targets if self._after else ():
            if target.shape != "sns":
                self._note("webhook", UNTRIED, f"{target} is not called: a call would be a notice")
                continue
            asking = _call("sns", region_in(target.address), "get_topic_attributes", TopicArn=target.address)
            if await self._try("topic", "GetTopicAttributes", asking):
                self._note("topic", GOOD, f"{target} is there; publishing is tried by the first notice")


async def _call(service: str, region: str, method: str, **request: object) -> dict[str, Any]:
    async with open_client(service, region=region, timeouts=_TIMEOUTS, attempts=2) as client:
        answer: dict[str, Any] = await getattr(client, method)(**request)
        return answer


async def _read_table(location: TableLocation, region: str) -> str:
    async with open_table(location.table, region=region, concurrency=1, give_up_seconds=_TIMEOUTS[0]) as table:
        if await table.get(TABLE_ADDRESS) is None:
            return f"{location} is there, and empty"
        await check_format(table, str(location))
        return f"{location} is a ledger"


def _try_folder(path: Path, rows: int) -> tuple[str, str]:
    """Write, lock and reserve in the ledger's folder as a run does, by a file that is removed again."""
    probe = path.with_name(f".{path.name}.doctor-{os.getpid()}")
    file = LedgerFile(probe, headroom_bytes=rows * _BYTES_A_JOB + 1)
    needed = f"{max(rows * _BYTES_A_JOB / 1e6, 1):,.0f} MB"
    try:
        file.open()
        file.reserve(0)
        file.append(b"\n")
        with probe.open("rb") as other:
            is_kept_out = not lock(other.fileno())
    except (BatchsubmitError, OSError) as exc:
        cause = exc if isinstance(exc, OSError) else exc.__cause__
        if not isinstance(cause, OSError):
            return WRONG, str(exc)
        fix = f"free {needed}" if cause.errno in _FULL else "make it writable"
        return WRONG, f"{path.parent.resolve()}: {cause.strerror}: {fix}, or give --ledger a path on another disk"
    finally:
        file.close()
        with suppress(OSError):
            probe.unlink()
    folder = path.parent.resolve()
    if not is_kept_out:
        return WRONG, f"{folder}: its locks keep nobody out; give --ledger another disk"
    if kind := shared_file_system(folder):
        words = f"{folder} is {kind}: its locks may not hold between machines; for several, use a table (dynamodb://)"
        return UNTRIED, words
    need = f"; the batch needs about {needed}" if rows else ""
    return GOOD, f"{folder}: writable, locks work, {shutil.disk_usage(folder).free / 1e6:,.0f} MB free{need}"


def _read_ledger(path: Path) -> tuple[str, str]:
    """Say what a run would meet in the ledger's place."""
    if not path.exists():
        return GOOD, f"{path} is new"
    try:
        state = fold_ledger(path)
        refuse_rehearsal_mix(state, path, sandbox=False)
        holder = holding_run(path, state)
    except (BatchsubmitError, OSError) as exc:
        return WRONG, str(exc)
    if holder:
        return WRONG, f"{path} is in use by {holder}; wait for it to end"
    return GOOD, f"{path} has {counted(len(state), 'job')}"
