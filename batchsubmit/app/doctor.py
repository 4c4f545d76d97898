"""What has to be in place before a run, found out by calls that start nothing and cost nothing."""

import asyncio
import errno
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path

from batchsubmit.app.after_run import AfterRun
from batchsubmit.app.run import SubmitOptions, refuse_rehearsal_mix
from batchsubmit.app.submit import default_ledger
from batchsubmit.app.worker import advice_on_queue
from batchsubmit.aws import CLOCK, Timeouts, open_client, resolve_region
from batchsubmit.cleanrooms.api import Input, JobPage, inputs_of
from batchsubmit.cleanrooms.client import CleanRooms, open_cleanrooms, outcome_of
from batchsubmit.cleanrooms.quotas import ask_quotas
from batchsubmit.cleanrooms.reads import ReadError
from batchsubmit.clock import SystemClock
from batchsubmit.config import Settings
from batchsubmit.core.jobs import Denied, Forbidden, InvalidRequest, NotSent, Outcome, Throttled, Uncertain
from batchsubmit.errors import BatchsubmitError
from batchsubmit.ledger.base import Location, TableLocation
from batchsubmit.ledger.dynamodb import open_table
from batchsubmit.ledger.file import LedgerFile, holding_run, lock
from batchsubmit.ledger.read import fold_ledger
from batchsubmit.ledger.table import TABLE_ADDRESS, check_format
from batchsubmit.manifest.check import open_checked_manifest
from batchsubmit.manifest.index import Index
from batchsubmit.outputs.notify import Topic
from batchsubmit.schema.arns import partition_of
from batchsubmit.submit.engine import open_reads
from batchsubmit.submit.inputs import check_inputs
from batchsubmit.submit.stopping import Stop
from batchsubmit.text import counted

_TIMEOUTS = Timeouts(5.0, 10.0, 20.0)
_TOLERATED_SKEW_SECONDS = 240
_MOST_MEMBERSHIPS = 20
_BYTES_A_JOB = 1200
_NOWHERE = "00000000-0000-0000-0000-000000000000"
_NETWORK = "look at the network, HTTPS_PROXY and AWS_ENDPOINT_URL*"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SHARED = ("nfs", "cifs", "smb", "fuse", "9p", "ceph", "lustre", "gluster")


class Verdict(StrEnum):
    """How a check came out; `untried` could not be tried at all, `unasked` got no answer."""

    GOOD = "good"
    WRONG = "wrong"
    UNASKED = "unasked"
    UNTRIED = "untried"


GOOD, WRONG, UNASKED, UNTRIED = Verdict


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was found, and how to fix what is wrong."""

    check: str
    state: Verdict
    detail: str


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a manifest needs: its memberships with their accounts, and its trained models and channels."""

    accounts: Mapping[str, str]
    inputs: frozenset[Input]
    rows: int


_NOTHING = _Wanted({}, frozenset(), 0)


async def examine(
    options: SubmitOptions, after: AfterRun | None, settings: Settings, *, has_manifest: bool
) -> AsyncIterator[Finding]:
    """Check one thing after another, in the order in which a run needs them. Raises nothing for what is found wrong."""
    location = options.ledger or default_ledger(options)
    region, finding = _find_region(settings)
    yield finding
    wanted = _NOTHING
    if has_manifest:
        wanted, finding = await _read_manifest(options, settings, region)
        yield finding
    if region is None:
        yield Finding("AWS", UNTRIED, "nothing else of AWS can be asked without a region")
    else:
        async for finding in _examine_aws(options, after, settings, region, wanted):
            yield finding
    if isinstance(location, Path):
        yield await asyncio.to_thread(_examine_folder, location, wanted.rows)
        yield await asyncio.to_thread(_examine_ledger, location)


def _find_region(settings: Settings) -> tuple[str | None, Finding]:
    try:
        region = resolve_region(settings.aws)
    except BatchsubmitError as exc:
        return None, Finding("region", WRONG, str(exc))
    if region:
        return region, Finding("region", GOOD, region)
    fix = "export AWS_REGION=us-east-1 (yours), or region under [aws] in the settings"
    return None, Finding("region", WRONG, f"there is no AWS region: {fix}")


async def _read_manifest(options: SubmitOptions, settings: Settings, region: str | None) -> tuple[_Wanted, Finding]:
    name, terms = options.manifest, options.terms
    try:
        async with open_checked_manifest(name, settings, region=region, terms=terms) as (_, inventory):
            inputs = await asyncio.to_thread(_inputs, inventory.index)
    except BatchsubmitError as exc:
        return _NOTHING, Finding("manifest", WRONG, str(exc))
    index = inventory.index
    accounts = {each: inventory.account_of(each) for each in map(index.membership, range(len(index)))}
    wanted = _Wanted(accounts, inputs, inventory.row_count)
    if inventory.problems:
        words = f"{counted(inventory.problem_count, 'problem')}, the first: {inventory.problems[0]}"
        return wanted, Finding("manifest", WRONG, f"{words}; batchsubmit validate {name} lists all")
    if not wanted.rows:
        return wanted, Finding("manifest", WRONG, f"{name} has no rows: add some")
    return wanted, Finding("manifest", GOOD, f"{counted(wanted.rows, 'row')}, all valid")


def _inputs(index: Index) -> frozenset[Input]:
    requests = map(index.request, range(len(index)))
    return frozenset(each for request in requests for each in inputs_of(request))


async def _examine_aws(
    options: SubmitOptions, after: AfterRun | None, settings: Settings, region: str, wanted: _Wanted
) -> AsyncIterator[Finding]:
    identity, clock = await _identify(region)
    yield identity
    if clock:
        yield clock
    if identity.state is WRONG:
        yield Finding("AWS", UNTRIED, "nothing else of AWS can be asked without credentials")
        return
    async for finding in _examine_service(options, settings, region, wanted):
        yield finding
    yield await _read_quotas(settings, region)
    if isinstance(options.ledger, TableLocation):
        yield await _tried("table", "BatchGetItem", _read_table(options.ledger, region))
    if settings.worker.queue_url:
        async for finding in _examine_queue(settings):
            yield finding
    if after and after.destination:
        bucket, prefix = after.destination.bucket, after.destination.prefix
        yield await _tried("bucket", "ListBucket", _read_bucket(bucket, prefix, region), is_needed=False)
    for target in after.targets if after else ():
        if isinstance(target, Topic):
            yield await _tried("topic", "GetTopicAttributes", _read_topic(target), is_needed=False)
        else:
            yield Finding("webhook", UNTRIED, f"{target} is not called: a call would be a notice")


async def _tried(check: str, operation: str, work: Awaitable[str], *, is_needed: bool = True) -> Finding:
    """Say how a call came out; a denied one is no fault where no command makes it."""
    try:
        return Finding(check, GOOD, await work)
    except BatchsubmitError as exc:
        return Finding(check, WRONG, str(exc))
    except Exception as exc:  # noqa: BLE001 (whatever it is, it is what was found)
        return _judge(check, operation, outcome_of(exc, has_left=True), is_needed=is_needed)


def _judge(check: str, operation: str, outcome: Outcome, *, is_needed: bool = True) -> Finding:
    match outcome:
        case Denied(message=said) if not is_needed:
            return Finding(check, UNTRIED, f"the role may not call {operation}: {said}")
        case NotSent() | Uncertain() | Throttled():
            return Finding(check, UNASKED, f"{ReadError(operation, outcome)}; {_NETWORK}")
        case InvalidRequest(code=code, message=said):
            return Finding(check, WRONG, f"{operation}: {code}: {said}; correct its name")
    return Finding(check, WRONG, str(ReadError(operation, outcome)))


async def _identify(region: str) -> tuple[Finding, Finding | None]:
    """Say who calls, and how far this machine's clock is from the service's."""
    found: dict[str, str] = {}

    async def work() -> str:
        async with open_client("sts", region=region, timeouts=_TIMEOUTS, attempts=2) as client:
            answer = await client.get_caller_identity()
        found.update(answer["ResponseMetadata"].get("HTTPHeaders", {}))
        return str(answer["Arn"])

    identity = await _tried("identity", "GetCallerIdentity", work(), is_needed=False)
    if "date" not in found:
        return identity, None
    ahead = (datetime.now(UTC) - parsedate_to_datetime(found["date"])).total_seconds()
    if abs(ahead) < _TOLERATED_SKEW_SECONDS:
        return identity, Finding("clock", GOOD, f"within {max(abs(ahead), 1):.0f} s of the service's")
    words = f"{CLOCK} {abs(ahead):,.0f} seconds {'ahead' if ahead > 0 else 'behind'}; set it"
    return identity, Finding("clock", WRONG, words)


async def _examine_service(
    options: SubmitOptions, settings: Settings, region: str, wanted: _Wanted
) -> AsyncIterator[Finding]:
    """Ask Clean Rooms ML in each membership what a run asks; the first answer says whether it is there at all."""
    try:
        async with open_cleanrooms(settings, region=region) as api:
            memberships = list(wanted.accounts)[:_MOST_MEMBERSHIPS]
            first = await api.list_page(memberships[0] if memberships else _NOWHERE)
            if isinstance(first, NotSent | Uncertain | Throttled | Forbidden):
                yield _judge("endpoint", "ListTrainedModelInferenceJobs", first)
                return
            yield Finding("endpoint", GOOD, f"{api.endpoint_url} answers")
            if not memberships:
                yield Finding("permissions", UNTRIED, "only asked in the memberships of a MANIFEST")
                return
            async for finding in _examine_permissions(api, region, wanted, memberships):
                yield finding
            yield _untried_permissions(options.manifest)
            yield await _examine_inputs(api, settings, wanted)
    except BatchsubmitError as exc:
        yield Finding("endpoint", WRONG, str(exc))


async def _examine_permissions(
    api: CleanRooms, region: str, wanted: _Wanted, memberships: list[str]
) -> AsyncIterator[Finding]:
    async def get(membership: str) -> object:
        service = f"arn:{partition_of(region) or 'aws'}:cleanrooms-ml:{region}"
        scope = f"{service}:{wanted.accounts[membership] or '0' * 12}:membership/{membership}"
        return await api.get(membership, f"{scope}/trained-model-inference-job/{_NOWHERE}")

    calls: dict[str, Callable[[str], Awaitable[object]]] = {
        "ListTrainedModelInferenceJobs": api.list_page,
        "GetTrainedModelInferenceJob": get,
    }
    for operation, call in calls.items():
        answers = {membership: await call(membership) for membership in memberships}
        yield _judge_permission(operation, answers)


def _judge_permission(operation: str, answers: Mapping[str, object]) -> Finding:
    """A job that does not exist may be asked for where the answer is that it does not exist."""
    check = f"permission {operation}"
    for membership, answer in answers.items():
        is_missing_job = operation.startswith("Get") and isinstance(answer, InvalidRequest)
        if not (is_missing_job or isinstance(answer, JobPage)):
            finding = _judge(check, operation, answer)  # type: ignore[arg-type] # what is left is an Outcome
            return Finding(check, finding.state, f"membership {membership}: {finding.detail}")
    return Finding(check, GOOD, f"in {counted(len(answers), 'membership')}")


def _untried_permissions(manifest: str) -> Finding:
    words = (
        "StartTrainedModelInferenceJob, TagResource and CancelTrainedModelInferenceJob cannot be tried without a job: "
        f"batchsubmit submit {manifest} --canary 1 begins with one; batchsubmit policy submit prints what it needs"
    )
    return Finding("permission to start", UNTRIED, words)


async def _examine_inputs(api: CleanRooms, settings: Settings, wanted: _Wanted) -> Finding:
    reads = open_reads(api, settings, Stop(), SystemClock())
    found = await check_inputs(reads, wanted.inputs, waits=settings.submit.wait_for_inputs)
    if found.problems:
        return Finding("models, channels", WRONG, "; ".join(found.problems[:3]))
    if found.untold:
        words = "allow GetTrainedModel and GetMLInputChannel, lines of what batchsubmit policy submit prints"
        return Finding("models, channels", UNTRIED, f"{found.untold[0]}; {words}")
    looked_at = counted(found.checked, "trained model or channel", "trained models and channels")
    return Finding("models, channels", GOOD, "; ".join((f"{looked_at} looked at", *found.warnings[:3])))


async def _read_quotas(settings: Settings, region: str) -> Finding:
    """No run needs them told: what cannot be read is learned from refusals."""
    try:
        quotas = await ask_quotas(settings.aws, region=region)
    except Exception as exc:  # noqa: BLE001 (whatever it is, it is what was found)
        why = str(exc).partition("\n")[0]
        words = f"not reported ({why}): AWS's defaults are assumed, 5 jobs at once a membership and 10 an account"
        return Finding("quotas", UNTRIED, words)
    told = {"a membership": quotas.per_membership, "an account": quotas.per_account}
    words = ", ".join(f"{value or 'not reported'} {scope}" for scope, value in told.items())
    return Finding("quotas", GOOD, f"jobs at once: {words}")


async def _read_table(location: TableLocation, region: str) -> str:
    async with open_table(location.table, region=region, concurrency=1, give_up_seconds=_TIMEOUTS[0]) as table:
        if await table.get(TABLE_ADDRESS) is None:
            return f"{location} is there, and empty"
        await check_format(table, str(location))
        return f"{location} is a ledger"


async def _examine_queue(settings: Settings) -> AsyncIterator[Finding]:
    url = settings.worker.queue_url
    try:
        words = await advice_on_queue(settings)
    except BatchsubmitError as exc:
        words = [str(exc)]
    for word in words:
        yield Finding("queue", WRONG, word)
    if not words:
        yield Finding("queue", GOOD, f"{url} is there, and its settings fit")


async def _read_bucket(bucket: str, prefix: str, region: str) -> str:
    async with open_client("s3", region=region, timeouts=_TIMEOUTS, attempts=2) as client:
        await client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
    return f"s3://{bucket}/{prefix} can be listed; writing is tried by the first copy"


async def _read_topic(topic: Topic) -> str:
    async with open_client("sns", region=topic.region, timeouts=_TIMEOUTS, attempts=2) as client:
        await client.get_topic_attributes(TopicArn=topic.arn)
    return f"{topic.arn} is there; publishing is tried by the first notice"


def _examine_folder(path: Path, rows: int) -> Finding:
    """Write, lock and reserve in the ledger's folder as a run does, by a file that is removed again."""
    probe = path.with_name(f".{path.name}.doctor-{os.getpid()}")
    file = LedgerFile(probe, headroom_bytes=rows * _BYTES_A_JOB + 1)
    try:
        file.open()
        file.reserve(0)
        file.append(b"\n")
        with probe.open("rb") as other:
            is_kept_out = not lock(other.fileno())
    except (BatchsubmitError, OSError) as exc:
        return Finding("disk", WRONG, _disk_words(exc, path, rows))
    finally:
        file.close()
        with suppress(OSError):
            probe.unlink()
    kind, folder = _file_system(path.parent), path.parent.resolve()
    if not is_kept_out:
        return Finding("disk", WRONG, f"{folder}: its locks keep nobody out; give --ledger another disk")
    if kind.startswith(_SHARED):
        words = f"{folder} is {kind}: its locks may not hold between machines; for several, use a table (dynamodb://)"
        return Finding("disk", UNTRIED, words)
    free, needed = shutil.disk_usage(folder).free / 1e6, rows * _BYTES_A_JOB / 1e6
    need = f"; the batch needs about {max(needed, 1):,.0f} MB" if rows else ""
    return Finding("disk", GOOD, f"{folder}: writable, locks work, {free:,.0f} MB free{need}")


def _disk_words(exc: Exception, path: Path, rows: int) -> str:
    cause = exc if isinstance(exc, OSError) else exc.__cause__
    if not isinstance(cause, OSError):
        return str(exc)
    fix = f"free {max(rows * _BYTES_A_JOB / 1e6, 1):,.0f} MB" if cause.errno in _FULL else "make it writable"
    return f"{path.parent.resolve()}: {cause.strerror}: {fix}, or give --ledger a path on another disk"


def _file_system(folder: Path) -> str:
    """The kind of file system that a folder is on, as Linux tells it; else empty."""
    device = folder.stat().st_dev
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    number = f"{os.major(device)}:{os.minor(device)}"
    return next((line.split(" - ")[1].split()[0] for line in mounts if line.split()[2] == number), "")


def _examine_ledger(location: Location) -> Finding:
    """Say what a run would meet in the ledger's place."""
    if not isinstance(location, Path) or not location.exists():
        return Finding("ledger", GOOD, f"{location} is new")
    try:
        state = fold_ledger(location, region=None)
        refuse_rehearsal_mix(state, location, sandbox=False)
        holder = holding_run(location, state)
    except (BatchsubmitError, OSError) as exc:
        return Finding("ledger", WRONG, str(exc))
    if holder:
        return Finding("ledger", WRONG, f"{location} is in use by {holder}; wait for it to end")
    return Finding("ledger", GOOD, f"{location} has {counted(len(state), 'job')}")
