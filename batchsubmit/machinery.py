"""Engine, slots, lookup and watcher of one run, put together around one service, one ledger and one source at a time.

Nothing is decided here; `app` says what is to be worked off.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager

from batchsubmit.catalog import Catalog
from batchsubmit.claiming import Claims
from batchsubmit.cleanrooms import JobsApi
from batchsubmit.cleanrooms.quotas import Quotas
from batchsubmit.clock import SystemClock
from batchsubmit.config import Settings
from batchsubmit.durations import Durations
from batchsubmit.engine import Crew, Engine, Limits
from batchsubmit.lookup import Lookup
from batchsubmit.observers import Observer
from batchsubmit.pacing import Pace, RateGate, RetryPolicies
from batchsubmit.recorder import Recorder
from batchsubmit.run import Run
from batchsubmit.slots import Slots
from batchsubmit.sources.delivery import Source
from batchsubmit.states import JobState
from batchsubmit.submitter import Submitter
from batchsubmit.view import View
from batchsubmit.watch import Watcher

_LEAST_READS_PER_SECOND = 2.0
"""However often reads are throttled: looks and lookups are few, and slots idle while they wait."""

Display = Callable[[View], AbstractContextManager[object]]


class Machinery:
    """Works off sources. What is learned of the service's pace and of jobs' running times is kept between them."""

    def __init__(
        self, run: Run, settings: Settings, api: JobsApi, observers: Sequence[Observer], display: Display
    ) -> None:
        self._run = run
        self._settings = settings
        self._api = api
        self._display = display
        self._recorder = Recorder(run.ledger, SystemClock(), (run.tally, *observers))
        self._durations = Durations()
        self.quotas = Quotas()
        self._gate = RateGate(Pace(settings.rate.max_per_second))
        reads = RateGate(Pace(settings.rate.reads_per_second, least_per_second=_LEAST_READS_PER_SECOND))
        self._catalog = Catalog(api, settings.retry, gate=reads, sleep=run.stop.pause)
        for gate in (self._gate, reads):
            run.stop.on_request(gate.close)

    async def work(self, source: Source, left_unknown: Iterable[JobState], followed: Iterable[str] | None) -> None:
        """Look up what is unknown, send what the source has, and see the jobs of these keys, if any, to their end."""
        run, stop = self._run, self._run.stop
        slots = Slots(
            self._settings.slots,
            self._durations,
            account_of=lambda membership: run.inventory.accounts.get(membership, ""),
            follows=followed is not None,
        )
        told = self.quotas
        now = self._recorder.clock.monotonic()
        slots.told(per_membership=told.per_membership, per_account=told.per_account, now=now)
        watcher = Watcher(
            catalog=self._catalog,
            recorder=self._recorder,
            slots=slots,
            stop=stop,
            settle_seconds=self._settings.lookup.settle_seconds,
            follows=followed is not None,
        )
        engine = self._engine(source, slots, watcher)
        view = View(to_do=source.waiting_jobs(), tally=run.tally, stop=stop, source=source, slots=slots, engine=engine)
        for key in followed or ():
            watcher.follow(key)
        with self._display(view):
            await engine.run(left_unknown)
        run.undecided |= engine.undecided
        run.quotas = slots.quotas()
        run.held_by_others = {held.membership or "account": str(held) for held in slots.held_by_others()}

    def _engine(self, source: Source, slots: Slots, watcher: Watcher) -> Engine:
        settings, stop, recorder = self._settings, self._run.stop, self._recorder
        return Engine(
            source=source,
            crew=Crew(
                submitter=Submitter(
                    api=self._api,
                    recorder=recorder,
                    gate=self._gate,
                    policies=RetryPolicies(settings.retry, sleep=stop.pause),
                    stop=stop,
                ),
                lookup=Lookup(catalog=self._catalog, recorder=recorder, settings=settings.lookup, stop=stop),
                watcher=watcher,
                claims=Claims(self._run.ledger, retry_failed=self._run.options.retry_failed),
            ),
            slots=slots,
            stop=stop,
            clock=recorder.clock,
            limits=Limits(
                concurrency=settings.submit.concurrency,
                max_attempts=settings.retry.max_attempts,
                resubmit_unknown=self._run.options.resubmit_unknown,
            ),
        )
