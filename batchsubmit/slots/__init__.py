"""Who may make the next call, and which poll of the service is due. Pure: values in, answers out.

A membership's jobs form a lane, with a limit of slots inside the account's. `Slots` keeps both, learns the limits from
refusals, and counts what runs by what polls have seen. It waits for nothing, calls nothing and knows no clock.
"""

from batchsubmit.core.jobs import JobClass
from batchsubmit.slots.polls import Poll, RunningJob, SeenJob
from batchsubmit.slots.scheduler import Slots, Ticket, other_quota_words

__all__ = ["JobClass", "Poll", "RunningJob", "SeenJob", "Slots", "Ticket", "other_quota_words"]
