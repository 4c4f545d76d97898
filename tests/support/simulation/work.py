"""What a simulation is given: jobs with the time that each will take, as a source of deliveries. Values, no I/O."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from batchsubmit.core.jobs import Job
from batchsubmit.core.source import Ending

_PREFIX: Final = "simulated-"
_DATA: Final = {"mlInputChannelArn": "simulated"}
_OUTPUT: Final = {"members": [{"accountId": "000000000000"}]}


@dataclass(frozen=True, slots=True)
class SimulatedJob:
    """A job by what matters for its time: where it runs, what it runs, for how long."""

    membership: str
    trained_model: str
    seconds: float
    instance_type: str = "ml.m5.xlarge"

    @property
    def account(self) -> str:
        """The account in its model's ARN."""
        return self.trained_model.split(":", 5)[4]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Jobs to submit, jobs that hold slots at the start (`seconds` is what they still need), and the quotas.

    A quota of 0 is none. `call_seconds` is what one call of the API takes.
    """

    jobs: Sequence[SimulatedJob]
    running: Sequence[SimulatedJob] = ()
    per_membership: int = 5
    per_account: int = 10
    call_seconds: float = 0.05


def name_of(number: int) -> str:
    """The name of a simulated job; its number counts the jobs to submit, then those that run at the start."""
    return f"{_PREFIX}{number}"


def number_of(name: str) -> int:
    """The number in a simulated job's name."""
    return int(name.removeprefix(_PREFIX))


def request_of(number: int, job: SimulatedJob) -> dict[str, Any]:
    """A request that says no more than the sandbox needs."""
    return {
        "membershipIdentifier": job.membership,
        "name": name_of(number),
        "trainedModelArn": job.trained_model,
        "resourceConfig": {"instanceType": job.instance_type},
        "outputConfiguration": _OUTPUT,
        "dataSource": _DATA,
    }


class SimulatedSource:
    """`Source` over jobs in memory; a job's request is made when its turn comes."""

    def __init__(self, jobs: Iterable[SimulatedJob]) -> None:
        self._lanes: dict[str, deque[tuple[int, SimulatedJob]]] = {}
        self._count = 0
        for number, job in enumerate(jobs):
            self._lanes.setdefault(job.membership, deque()).append((number, job))
            self._count += 1

    def waiting(self) -> Collection[str]:
        """The memberships that have a job to take."""
        return self._lanes.keys()

    def waiting_jobs(self) -> int:
        """Jobs not taken, or released."""
        return self._count

    def take(self, membership: str) -> "SimulatedDelivery":
        """Take the next job of a membership."""
        lane = self._lanes[membership]
        number, job = lane.popleft()
        if not lane:
            del self._lanes[membership]
        self._count -= 1
        return SimulatedDelivery(self, number, job)

    def request_of(self, key: str) -> Mapping[str, Any] | None:
        """No job is held back: a simulation begins without a ledger."""
        del key
        return None

    def requeue(self, key: str) -> None:
        """No job is held back."""
        del key

    @property
    def is_open(self) -> bool:
        """All jobs are there from the start."""
        return False

    def listen(self, callback: Callable[[], None]) -> None:
        """No jobs will come."""
        del callback

    def put_back(self, number: int, job: SimulatedJob) -> None:
        """Take a job back, to be handed out before the others of its lane."""
        self._lanes.setdefault(job.membership, deque()).appendleft((number, job))
        self._count += 1


class SimulatedDelivery:
    """One simulated job on loan."""

    def __init__(self, source: SimulatedSource, number: int, job: SimulatedJob) -> None:
        self._source = source
        self._number = number
        self._job = job
        name = name_of(number)
        self.job = Job(key=name, membership=job.membership, name=name, request=request_of(number, job))

    def ended(self, how: Ending) -> None:
        """Back to the head of the lane, if nothing was decided."""
        if how in {Ending.RELEASED, Ending.HELD}:
            self._source.put_back(self._number, self._job)

    def denied(self, code: str, message: str) -> bool:
        """Nor does it deny anything."""
        del code, message
        return False

    def put_aside(self) -> Callable[[], None]:
        """All inputs are there in a simulation."""
        return partial(self.ended, Ending.RELEASED)
