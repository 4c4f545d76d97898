"""When a running job is polled next, by how long jobs like it have run. Pure.

Reading is cheap: Clean Rooms ML allows 50 Gets a second (User Guide, "Quotas for Clean Rooms ML"), while ten slots of
half an hour end 20 jobs an hour. So each running job is asked for by Get at a small part of its expected running time,
and a freed slot idles for half of that part on average.
"""

from dataclasses import dataclass

from batchsubmit.config import SlotSettings
from batchsubmit.core.run_times import RunTimes
from batchsubmit.slots.running import RunningJob

_CLOSE = 1 / 38
"""Of the median running time, or of the job's age where it is older: between polls once a job may end, while a slot is
waited for. It leaves some 1.4 % of a slot's time idle, for some 25 calls a job."""

_COARSE = 1 / 6
"""The same before one of twenty jobs like it has ended, or where nobody waits for a slot."""

_UNLEARNED = 1 / 10
_UNLEARNED_LEAST = 20
"""Where no job has ended yet, a job is polled again at this part of its age, or so many shortest intervals later."""


@dataclass(frozen=True, slots=True)
class Poll:
    """A poll that is due. Without `arns` it is a List of the whole membership, else a Get of each."""

    membership: str
    arns: tuple[str, ...] = ()

    @property
    def lists_all(self) -> bool:
        """Whether it shows the jobs of others too."""
        return not self.arns


def next_get_at(job: RunningJob, times: RunTimes, settings: SlotSettings, *, closely: bool) -> float:
    """Say when a running job is asked for again; `closely` where a slot is waited for."""
    age = max(job.seen_at - job.began_at, 0.0)
    least, most, expected = settings.min_poll_seconds, settings.max_poll_seconds, times.expected(job.kind)
    if expected is None:
        wait = max(age * _UNLEARNED, least * _UNLEARNED_LEAST)
    else:
        early, median = expected
        coarse, close = (max(median, age) * part for part in (_COARSE, _CLOSE))
        wait = close if closely else coarse
        if closely and age < early:
            wait = min(coarse, max(early - age, close))
    return job.seen_at + max(min(wait, most), least)
