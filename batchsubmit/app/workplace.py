"""Where a run's sources are worked off, one after another, under the eyes of a display.

It decides nothing; what the machinery learned is handed to the run, which accounts for it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from batchsubmit.app.progress import Display, View, expecting
from batchsubmit.app.run import Run
from batchsubmit.cleanrooms.client import CleanRooms
from batchsubmit.clock import SystemClock
from batchsubmit.config import Settings
from batchsubmit.core.source import Source
from batchsubmit.core.states import JobState
from batchsubmit.ledger.location import Location
from batchsubmit.observers.base import Observer
from batchsubmit.pacing import RateGate
from batchsubmit.submit.build import Gates, Machinery, Surroundings
from batchsubmit.submit.recorder import Recorder


@dataclass(frozen=True, slots=True)
class Workplace:
    """One run's machinery."""

    run: Run
    machinery: Machinery
    gate: RateGate
    display: Display
    path: Location

    @classmethod
    def of(
        cls,
        run: Run,
        settings: Settings,
        api: CleanRooms,
        observers: Sequence[Observer],
        display: Display,
        path: Location,
    ) -> "Workplace":
        """Set up the machinery as the run was asked to work."""
        around = Surroundings(
            settings=settings,
            api=api,
            recorder=Recorder(run.ledger, SystemClock(), (run.tally, *observers)),
            stop=run.stop,
            gates=Gates.of(settings.rate, run.stop),
            resources=api,
        )
        options = run.options
        machinery = Machinery(around, retry_failed=options.retry_failed, resubmit_unknown=options.resubmit_unknown)
        return cls(run, machinery, around.gates.starts, display, path)

    async def work_off(self, source: Source, left_unknown: Iterable[JobState], followed: Iterable[str] | None) -> None:
        """Look up what is unknown, send what the source has, and see the jobs of these keys, if any, to their end."""
        run = self.run
        works = self.machinery.around(
            source,
            account_of=run.inventory.account_of,
            follows=followed is not None,
        )
        slots, engine = works.slots, works.engine
        to_do = source.waiting_jobs()
        view = View(
            to_do=to_do,
            tally=run.tally,
            stop=run.stop,
            source=source,
            slots=slots,
            engine=engine,
            gate=self.gate,
            expected=expecting(self.path),
        )
        for key in followed or ():
            works.watcher.follow(key)
        with self.display(view):
            await engine.run(left_unknown)
        run.undecided |= engine.undecided
        run.waits_for |= engine.waits_for
        run.quotas = slots.quotas()
        run.refused_by |= slots.refused_by
        run.held |= engine.held_lanes()
        run.held_by_others = {held.membership or "account": str(held) for held in slots.held_by_others()}
