"""Puts an engine together from a service, a ledger and one source: the same for a manifest, a queue and a test.

Nothing is decided here; the settings and the callers say what is to be done.
"""

from collections.abc import Callable
from dataclasses import dataclass

from batchsubmit.cleanrooms.api import JobsApi
from batchsubmit.cleanrooms.quotas import AppliedQuotas
from batchsubmit.cleanrooms.reads import Reads
from batchsubmit.clock import Clock
from batchsubmit.config import Settings
from batchsubmit.core.source import Source
from batchsubmit.core.states import Retry
from batchsubmit.ledger.base import Claims
from batchsubmit.pacing import Pace, RateGate, RetryPolicies
from batchsubmit.slots import Durations, Slots
from batchsubmit.submit.engine import Engine
from batchsubmit.submit.inputs import Inputs
from batchsubmit.submit.job_run import Holds, JobRunner
from batchsubmit.submit.lookup import Lookup
from batchsubmit.submit.poller import Poller
from batchsubmit.submit.recorder import Recorder
from batchsubmit.submit.stopping import InProgress, Stop
from batchsubmit.submit.submitter import Submitter

_LEAST_READS_PER_SECOND = 2.0
"""However often reads are throttled: polls and lookups are few, and slots idle while they wait."""

_JOBS_A_CALL = 2
"""For each call that may be in progress, two jobs are taken: while one is on the wire, the other is on its way to the
disk, before its call or after. On a slow disk that is a sixth more calls a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltEngine:
    """An engine (`engine.run` starts it) and the parts that others read; `gate` is that of the Start calls."""

    engine: Engine
    slots: Slots
    poller: Poller
    gate: RateGate


def build_engine(  # noqa: PLR0913 (each a collaborator, or an option of a command)
    source: Source,
    *,
    settings: Settings,
    api: JobsApi,
    recorder: Recorder,
    stop: Stop,
    account_of: Callable[[str], str] = lambda _: "",
    quotas: AppliedQuotas | None = None,
    gate: RateGate | None = None,
    retry: Retry | None = None,
    resubmit_unknown: bool = False,
    follows: bool = False,
    is_endless: bool = False,
) -> BuiltEngine:
    """Build an engine for a source; `account_of` gives a membership's account ("" where it is not known).

    `quotas` are those that Service Quotas gave, if it was asked, and `gate` is that of the engine before it in the same
    run. With `follows`, the engine goes on until the last job of ours has ended; one that `is_endless` does not stop
    for jobs that the service denies.
    """
    clock = recorder.clock
    gate = gate or open_gate(Pace(settings.rate.max_per_second), stop, clock)
    reads = open_reads(api, settings, stop, clock)
    slots = _slots(settings, account_of, quotas or AppliedQuotas(), follows=follows, now=clock.monotonic())
    poller = Poller(reads=reads, recorder=recorder, slots=slots, stop=stop, follows=follows)
    inputs = Inputs(reads, settings=settings.slots, clock=clock, stop=stop)
    runner = JobRunner(
        source=source,
        slots=slots,
        stop=stop,
        clock=clock,
        submitter=Submitter(
            api=api,
            recorder=recorder,
            gate=gate,
            policies=RetryPolicies(settings.retry, sleep=stop.pause),
            stop=stop,
            concurrency=settings.submit.concurrency,
        ),
        lookup=Lookup(reads=reads, recorder=recorder, settings=settings.lookup, stop=stop),
        poller=poller,
        claims=Claims(recorder.ledger, retry=retry),
        inputs=inputs if settings.submit.wait_for_inputs else None,
        in_progress=InProgress(stop),
        holds=Holds(first_seconds=settings.retry.cap_seconds, most_seconds=settings.slots.max_poll_seconds),
        max_attempts=settings.retry.max_attempts,
        resubmit_unknown=resubmit_unknown,
        is_endless=is_endless,
    )
    engine = Engine(runner, most_in_progress=_JOBS_A_CALL * settings.submit.concurrency)
    return BuiltEngine(engine=engine, slots=slots, poller=poller, gate=gate)


def open_gate(pace: Pace, stop: Stop, clock: Clock) -> RateGate:
    """Open a rate gate; nobody waits at it once the run is asked to stop."""
    gate = RateGate(pace, monotonic=clock.monotonic)
    stop.on_request(gate.close)
    return gate


def open_reads(api: JobsApi, settings: Settings, stop: Stop, clock: Clock) -> Reads:
    """Read the service at its own rate until asked to stop: that is asked between the pages of a list, too."""
    pace = Pace(settings.rate.reads_per_second, least_per_second=_LEAST_READS_PER_SECOND)
    return Reads(api, settings.retry, gate=open_gate(pace, stop, clock), sleep=stop.pause)


def _slots(
    settings: Settings, account_of: Callable[[str], str], quotas: AppliedQuotas, *, follows: bool, now: float
) -> Slots:
    slots = Slots(settings.slots, Durations(), account_of=account_of, follows=follows)
    slots.set_known(per_membership=quotas.per_membership, per_account=quotas.per_account, now=now)
    return slots
