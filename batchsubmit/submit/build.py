"""Engine, slots, lookup and watcher, put together around a service, a ledger and one source at a time.

The same for a manifest, a queue and a simulation. Nothing is decided here; its callers say what is to be worked off.
"""

from collections.abc import Callable
from dataclasses import dataclass

from batchsubmit.cleanrooms.api import JobsApi, ResourcesApi
from batchsubmit.cleanrooms.quotas import Quotas
from batchsubmit.cleanrooms.reads import JobReads, Resources
from batchsubmit.config import RateSettings, Settings
from batchsubmit.core.source import Source
from batchsubmit.ledger.base import Claims
from batchsubmit.pacing import Pace, RateGate, RetryPolicies
from batchsubmit.slots import Durations, Slots
from batchsubmit.submit.engine import Engine
from batchsubmit.submit.inputs import Inputs
from batchsubmit.submit.job_run import EngineParts, Limits
from batchsubmit.submit.lookup import Lookup
from batchsubmit.submit.poller import Poller
from batchsubmit.submit.recorder import Recorder
from batchsubmit.submit.stopping import Stop
from batchsubmit.submit.submitter import Submitter

_LEAST_READS_PER_SECOND = 2.0
"""However often reads are throttled: looks and lookups are few, and slots idle while they wait."""

_JOBS_A_CALL = 2
"""For each call that may be under way, two jobs are in hand: while one is on the wire, the other is on its way to the
disk, before its call or after. On a disk that takes its time that is a sixth more calls a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateGates:
    """The pace of the calls that start jobs, and that of reads, each with its own throttling."""

    starts: RateGate
    reads: RateGate

    @classmethod
    def of(cls, rate: RateSettings, stop: Stop) -> "RateGates":
        """Make the gates of a run; nobody waits at them once it is asked to stop."""
        starts = RateGate(Pace(rate.max_per_second))
        reads = RateGate(Pace(rate.reads_per_second, least_per_second=_LEAST_READS_PER_SECOND))
        for gate in (starts, reads):
            stop.on_request(gate.close)
        return cls(starts=starts, reads=reads)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineContext:
    """What machinery is built into: nothing of it ends with one source.

    Without `resources`, no job waits for its inputs.
    """

    settings: Settings
    api: JobsApi
    recorder: Recorder
    stop: Stop
    gates: RateGates
    resources: ResourcesApi | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltEngine:
    """The machinery around one source; `engine.run` sets it going."""

    slots: Slots
    watcher: Poller
    engine: Engine


class EngineBuilder:
    """Builds works. What is learned of the service's pace and of jobs' running times is kept between them.

    `quotas` are what Service Quotas told, if it was asked.
    """

    def __init__(
        self,
        surroundings: EngineContext,
        *,
        retry_failed: bool = False,
        resubmit_unknown: bool = False,
        is_endless: bool = False,
    ) -> None:
        self.quotas = Quotas()
        self._around = surroundings
        self._retry_failed = retry_failed
        self._durations = Durations()
        settings, stop = surroundings.settings, surroundings.stop
        self._catalog = JobReads(surroundings.api, settings.retry, gate=surroundings.gates.reads, sleep=stop.pause)
        self._limits = Limits(
            in_hand=_JOBS_A_CALL * settings.submit.concurrency,
            max_attempts=settings.retry.max_attempts,
            resubmit_unknown=resubmit_unknown,
            is_endless=is_endless,
            first_hold_seconds=settings.retry.cap_seconds,
            most_hold_seconds=settings.slots.max_poll_seconds,
        )

    def around(self, source: Source, *, account_of: Callable[[str], str], follows: bool = False) -> BuiltEngine:
        """Build the works for a source; `account_of` tells a membership's account ("" where it is not known).

        Those that follow go on until the last job of ours has ended.
        """
        slots = self._slots(account_of, follows=follows)
        engine_parts = self._engine_parts(slots, follows=follows)
        engine = Engine(
            source=source,
            engine_parts=engine_parts,
            slots=slots,
            stop=self._around.stop,
            clock=self._around.recorder.clock,
            limits=self._limits,
        )
        return BuiltEngine(slots=slots, watcher=engine_parts.watcher, engine=engine)

    def _slots(self, account_of: Callable[[str], str], *, follows: bool) -> Slots:
        slots = Slots(self._around.settings.slots, self._durations, account_of=account_of, follows=follows)
        now, told = self._around.recorder.clock.monotonic(), self.quotas
        slots.told(per_membership=told.per_membership, per_account=told.per_account, now=now)
        return slots

    def _engine_parts(self, slots: Slots, *, follows: bool) -> EngineParts:
        settings, recorder, stop = self._around.settings, self._around.recorder, self._around.stop
        return EngineParts(
            submitter=Submitter(
                api=self._around.api,
                recorder=recorder,
                gate=self._around.gates.starts,
                policies=RetryPolicies(settings.retry, sleep=stop.pause),
                stop=stop,
                concurrency=settings.submit.concurrency,
            ),
            lookup=Lookup(catalog=self._catalog, recorder=recorder, settings=settings.lookup, stop=stop),
            watcher=Poller(
                catalog=self._catalog,
                recorder=recorder,
                slots=slots,
                stop=stop,
                follows=follows,
            ),
            claims=Claims(recorder.ledger, retry_failed=self._retry_failed),
            inputs=self._inputs(),
        )

    def _inputs(self) -> Inputs | None:
        around = self._around
        settings, stop = around.settings, around.stop
        if around.resources is None or not settings.submit.wait_for_inputs:
            return None
        resources = Resources(around.resources, settings.retry, gate=around.gates.reads, sleep=stop.pause)
        return Inputs(resources, settings=settings.slots, clock=around.recorder.clock, stop=stop)
