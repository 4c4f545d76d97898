"""What the scheduler itself costs, in microseconds a job, by the number of memberships: it must not grow with them.

    .venv/bin/python tests/bench/lanes.py [--lanes 10 1000 10000] [--jobs 20000]

`slots` alone, without calls, ledger or event loop. `unlimited`: every call is accepted. `full`: five slots a membership
are learned and taken, and one freed slot after the other is seen and filled. `scarce`: the same where the account has
ten slots, so that nearly all memberships wait. `blind`: nothing can be seen, slots come back by single tries.
"""

import argparse
import time
from collections import deque

from harness import machine

from batchsubmit.config import SlotSettings
from batchsubmit.jobs import QuotaExceeded
from batchsubmit.slots import Poll, RunningJob, Sighting, Slots, Ticket
from batchsubmit.slots import Durations, JobClass

KIND = JobClass("model", "ml.m5.large")
MEMBERSHIP_QUOTA = QuotaExceeded("ServiceQuotaExceededException", "", "jobs per membership", 5.0)
ACCOUNT_QUOTA = QuotaExceeded("ServiceQuotaExceededException", "", "jobs per account", 10.0)


class Trial:
    """Slots, and a service that never tires."""

    def __init__(self, lanes: int, refusal: QuotaExceeded | None, *, is_blind: bool = False) -> None:
        self.slots = Slots(SlotSettings(), Durations())
        self.waiting = {f"lane-{number}": None for number in range(lanes)}
        self.refusal = refusal
        self.is_blind = is_blind
        self.now = 0.0
        self.jobs = 0
        self.running: deque[tuple[str, str]] = deque()
        self.held: dict[str, int] = {}

    def fill(self, most: int) -> None:
        """Make calls until nobody may, or so many."""
        for _ in range(most):
            ticket = self.slots.next(self.waiting.keys(), self.now)
            if ticket is None:
                return
            self._call(ticket)

    def _call(self, ticket: Ticket) -> None:
        home = ticket.membership
        value = None if self.refusal is None else self.refusal.quota_value
        held = len(self.running) if self.refusal is ACCOUNT_QUOTA else self.held.get(home, 0)
        if self.refusal is not None and value is not None and held >= value:
            self.slots.refused(ticket, self.refusal, self.now)
            return
        self.jobs += 1
        arn = f"arn-{self.jobs}"
        self.held[home] = self.held.get(home, 0) + 1
        if self.refusal is not None:
            self.running.append((home, arn))
        job = RunningJob(arn=arn, key=arn, kind=KIND, began_at=self.now, seen_at=self.now)
        self.slots.accepted(ticket, job, self.now)

    def free(self) -> None:
        """The oldest job ends, and is seen to have ended."""
        home, arn = self.running.popleft()
        self.held[home] -= 1
        self.now += 1.0
        if self.is_blind:
            return
        ended = Sighting(
            arn=arn, status="ACTIVE", is_running=False, trained_model="model", age_seconds=1800, ran_seconds=1800
        )
        self.slots.saw(Poll(home, (arn,)), [ended], began_at=self.now, now=self.now)

    def turn(self) -> None:
        """What the engine asks in each of its turns."""
        self.fill(32)
        look = self.slots.next_poll(self.now)
        if look is not None:
            if self.is_blind:
                self.slots.could_not_poll(look, self.now, for_ever=True)
            else:
                self.slots.saw(look, [], began_at=self.now, now=self.now)
        self.slots.wake_at(self.now)


def microseconds_a_job(kind: str, lanes: int, jobs: int) -> float:
    """Warm up until the slots are taken, then measure."""
    refusal = {"unlimited": None, "scarce": ACCOUNT_QUOTA}.get(kind, MEMBERSHIP_QUOTA)
    trial = Trial(lanes, refusal, is_blind=kind == "blind")
    for _ in range(lanes if refusal else 1):
        trial.turn()
    before, began = trial.jobs, time.perf_counter()
    while trial.jobs < before + jobs:
        if trial.running:
            trial.free()
        trial.turn()
    return (time.perf_counter() - began) * 1e6 / (trial.jobs - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lanes", type=int, nargs="+", default=[10, 1_000, 10_000], help="numbers of memberships")
    parser.add_argument("--jobs", type=int, default=20_000, help="jobs of each measurement (20,000)")
    options = parser.parse_args()
    print(machine())
    print(f"{'us a job':>10} " + " ".join(f"{lanes:>9,}" for lanes in options.lanes) + " memberships")
    for kind in ("unlimited", "full", "scarce", "blind"):
        costs = [microseconds_a_job(kind, lanes, options.jobs) for lanes in options.lanes]
        print(f"{kind:>10} " + " ".join(f"{cost:>9.0f}" for cost in costs), flush=True)


if __name__ == "__main__":
    main()
