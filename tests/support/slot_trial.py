"""The scheduler on trial: a world in virtual time that is asked afterwards how well its slots were used."""

import asyncio
import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from conftest import job_named
from memory_ledger import SlowLedger
from virtual_time import VirtualClock, VirtualLoop, virtual_loop
from world import GET, LIST, START, World

from batchsubmit.config import SlotSettings
from batchsubmit.core.jobs import Job, JobFinished
from batchsubmit.sandbox.refusals import Refusal

__all__ = ["GET", "HALF_AN_HOUR", "LIST", "MINUTE", "START", "A", "B", "C", "SlotTrial", "membership", "trial"]
HALF_AN_HOUR = 1800.0
MINUTE = 60.0


def membership(number: int) -> str:
    """One of many memberships."""
    return f"{number:08d}-1111-4111-8111-111111111111"


A, B, C = (membership(number) for number in range(1, 4))


class SlowClock(VirtualClock):
    """Time passes while the program computes, too: a bit with each time that it looks at the clock."""

    def monotonic(self) -> float:
        """Later each time."""
        self._loop._seconds += 0.001
        return self._loop.time()


class SlotTrial(World):
    """A service with quotas, what is done to it at which time, and one run of the program."""

    def __init__(
        self,
        loop: VirtualLoop,
        slots: SlotSettings | None = None,
        *,
        follows: bool = False,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        **more: Any,  # noqa: ANN401 (of World)
    ) -> None:
        random.seed(0)  # the jitter of retries
        given = settings or {
            "slots": (slots or SlotSettings()).model_dump(),
            "retry": {},
            "submit": {"concurrency": 16},
        }
        likes = {"job_seconds": HALF_AN_HOUR, "job_sigma": 0.5}
        clock = SlowClock(loop)
        super().__init__(clock, ledger=SlowLedger(), settings=given, way_seconds=0.05, **likes | more)
        self.loop = loop
        self.refused_at: list[float] = []
        self.sent = 0.0
        self._follows = follows
        self._foreign = 0

    def at(self, seconds: float, action: Callable[[], object]) -> None:
        """Do something to the service so many seconds from now."""
        self.loop.call_later(seconds, action)

    def quotas(self, *, per_membership: int, per_account: int) -> None:
        """Change the quotas."""
        changes = {"per_membership": per_membership, "per_account": per_account}
        self.service.configure(self.service.settings.changed(changes))

    def others_start(self, count: int, membership: str) -> list[str]:
        """Someone else starts jobs that run until they are cancelled; gives the ARNs. Raises Refusal."""
        arns, settings = [], self.service.settings
        self.service.configure(settings.changed({"job_seconds": 1e9, "job_sigma": 0.0}))
        try:
            for _ in range(count):
                self._foreign += 1
                job = job_named(f"foreign-{self._foreign}", membership=membership)
                arns.append(str(self.service.start(job.request)["trainedModelInferenceJobArn"]))
        finally:
            self.service.configure(settings)
        return arns

    def others_take(self, count: int, home: str, *, since: float, until: float) -> list[str]:
        """Someone else takes slots as soon as they are free, and holds them for a time; fills in the ARNs."""
        taken: list[str] = []

        def take() -> None:
            with suppress(Refusal):
                taken.extend(self.others_start(1, home))
            if len(taken) < count and self.loop.time() < until:
                self.at(1, take)

        self.at(since, take)
        self.at(until, lambda: self.others_cancel(taken))
        return taken

    def count_refusals_from(self, seconds: float) -> Callable[[], int]:
        """Give what counts the Start calls that the quota refused after so many seconds."""
        before: list[int] = []
        self.at(seconds, lambda: before.append(self.refused))
        return lambda: self.refused - before[0]

    def others_cancel(self, arns: Iterable[str]) -> None:
        """Someone else ends jobs."""
        for arn in arns:
            home = arn.split("membership/")[1].split("/")[0]
            self.service.cancel({"membershipIdentifier": home, "trainedModelInferenceJobArn": arn})

    def submit(self, homes: Sequence[str]) -> "SlotTrial":
        """Submit a job for each of these memberships, in this order, and let all of them end."""
        jobs = [job_named(f"job-{number:05d}", membership=home) for number, home in enumerate(homes)]
        self.loop.run_until_complete(self._run(jobs))
        return self

    async def _run(self, jobs: Sequence[Job]) -> None:
        engine = self.engine(jobs, follows=self._follows)
        self.slots = engine.slots
        await engine.run()
        self.sent = self.loop.time()
        while (change_at := self.service.next_change_at()) is not None:
            await asyncio.sleep(max(change_at - self.clock.service_time(), 0) + 1e-6)
            self.service.statuses()

    @property
    def began(self) -> float:
        """The service's time at which the world began."""
        return self.clock.service_time() - self.loop.time()

    @property
    def ours(self) -> list[tuple[str, float, float]]:
        """Membership, begin and end of each of our jobs, in the order of the manifest; in seconds of the world."""
        mine = sorted((job for job in self.service.jobs() if job.name.startswith("job-")), key=lambda job: job.name)
        return [(job.membership, job.created_at - self.began, job.updated_at - self.began) for job in mine]

    @property
    def makespan(self) -> float:
        """When the last of our jobs ended."""
        return max(end for _, _, end in self.ours)

    @property
    def refused(self) -> int:
        """Start calls that the quota refused."""
        return self.service.calls[START]["ServiceQuotaExceededException"]

    @property
    def calls_a_job(self) -> float:
        """Calls of all kinds."""
        return sum(outcomes.total() for outcomes in self.service.calls.values()) / len(self.ours)

    @property
    def ends(self) -> int:
        """Ends that the ledger knows."""
        return len(self.events(JobFinished))

    def held(self, moment: float, home: str | None = None) -> int:
        """Slots that our jobs hold at a moment, in one membership or in all."""
        return sum(begin <= moment < end and home in {None, lane} for lane, begin, end in self.ours)

    def used(self, slots: int, since: float, until: float) -> float:
        """The share of so many slots' time that our jobs held."""
        held = sum(max(min(end, until) - max(begin, since), 0.0) for _, begin, end in self.ours)
        return held / (slots * (until - since))

    def oracle(self, *, per_membership: int, per_account: int) -> float:
        """The makespan of greedy list scheduling of the very times that our jobs took, without any latency."""
        times = [(home, end - begin) for home, begin, end in self.ours]
        return best_makespan(times, per_membership=per_membership, per_account=per_account)


def best_makespan(jobs: Sequence[tuple[str, float]], *, per_membership: int, per_account: int) -> float:
    """Each job, in order, as soon as its membership and the account have a slot."""
    running: list[tuple[float, str]] = []
    used: Counter[str] = Counter()
    waiting = list(jobs)
    now = latest = 0.0
    while waiting:
        for index, (home, seconds) in enumerate(waiting):
            if len(running) < per_account and used[home] < per_membership:
                heapq.heappush(running, (now + seconds, home))
                latest = max(latest, now + seconds)
                used[home] += 1
                del waiting[index]
                break
        else:
            now, home = heapq.heappop(running)
            used[home] -= 1
    return latest


def trial(homes: Sequence[str], slots: SlotSettings | None = None, **how: Any) -> SlotTrial:  # noqa: ANN401 (of SlotTrial)
    """Run an undisturbed one."""
    with virtual_loop() as loop:
        return SlotTrial(loop, slots, **how).submit(homes)
