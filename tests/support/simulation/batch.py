"""One simulated run: the same engine against the sandbox's state machine in virtual time, and what came of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memory_cleanrooms import MemoryCleanRooms

from batchsubmit.config import Settings
from batchsubmit.observers.base import Observer
from batchsubmit.sandbox import SandboxService, SandboxSettings
from simulation.assembly import Distance, assemble
from simulation.loop import VirtualClock, VirtualLoop, virtual_loop
from simulation.work import SimulatedSource, Workload, number_of, request_of

_START = "StartTrainedModelInferenceJob"
_QUOTA = "ServiceQuotaExceededException"


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What a run came to. `makespan_seconds` is when the last of its jobs ended, `sent_seconds` when it was accepted.

    `slot_use` is the share of the slots' time that was used until the last job was accepted; 0 without quotas.
    """

    makespan_seconds: float
    sent_seconds: float
    calls: Mapping[str, int]
    refused_starts: int
    slot_use: float


def simulate(work: Workload, settings: Settings, *, seed: int = 0, observers: Sequence[Observer] = ()) -> Simulated:
    """Run a batch in virtual time. Blocks; the same values give the same result each time.

    Must be called where no event loop runs, in a thread of its own for instance.
    """
    with virtual_loop() as loop:
        return loop.run_until_complete(_run(work, settings, loop, seed, observers))


async def _run(
    work: Workload, settings: Settings, loop: VirtualLoop, seed: int, observers: Sequence[Observer]
) -> Simulated:
    clock = VirtualClock(loop)
    everything = [*work.jobs, *work.running]
    quotas = SandboxSettings(
        pending_seconds=0.0, per_membership=work.per_membership, per_account=work.per_account, seed=seed
    )
    service = SandboxService(quotas, clock.service_time, lambda name: everything[number_of(name)].seconds)
    _occupy(service, work)
    api = Distance(MemoryCleanRooms(service), work.call_seconds)
    accounts = {job.membership: job.account for job in everything}
    await assemble(settings, api, SimulatedSource(work.jobs), clock, lambda membership: accounts[membership], observers)
    sent = clock.monotonic()
    while (change_at := service.next_change_at()) is not None:
        await clock.sleep(max(change_at - clock.service_time(), 0.0) + 1e-6)
        service.statuses()
    return _account(service, work, clock, sent)


def _occupy(service: SandboxService, work: Workload) -> None:
    """Let the jobs that run already hold their slots, even where the quota was lowered below their number."""
    quotas = service.settings
    service.configure(quotas.changed({"per_membership": 0, "per_account": 0}))
    for number, job in enumerate(work.running, start=len(work.jobs)):
        service.start(request_of(number, job))
    service.configure(quotas)


def _account(service: SandboxService, work: Workload, clock: VirtualClock, sent: float) -> Simulated:
    began = clock.service_time() - clock.monotonic()
    ends = [job.updated_at - began for job in service.jobs() if number_of(job.name) < len(work.jobs)]
    tally = service.tally
    calls = {operation: tally.received(operation) for operation in tally.by_operation()}
    return Simulated(
        makespan_seconds=max(ends, default=0.0),
        sent_seconds=sent,
        calls=dict(sorted(calls.items())),
        refused_starts=tally.refused(_START).get(_QUOTA, 0),
        slot_use=_slot_use(service, work, began, sent),
    )


def _slot_use(service: SandboxService, work: Workload, began: float, sent: float) -> float:
    """Held slot-seconds over usable ones, until the last job was accepted."""
    slots = usable_slots(work)
    if not slots or not sent:
        return 0.0
    until = began + sent
    held = sum(min(job.updated_at, until) - job.created_at for job in service.jobs() if job.created_at < until)
    return held / (slots * sent)


def usable_slots(work: Workload) -> int:
    """How many slots the quotas leave these memberships; 0 for no bound."""
    accounts = {job.membership: job.account for job in work.jobs}
    lanes = Counter(accounts.values())
    if not work.per_membership:
        return work.per_account * len(lanes)
    by_membership = {account: number * work.per_membership for account, number in lanes.items()}
    return sum(min(slots, work.per_account or slots) for slots in by_membership.values())
