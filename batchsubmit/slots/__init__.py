"""Who may make the next call, and when the service is looked at. Pure: it is told what happened and when, and answers.

A membership's jobs form a lane, with a budget of slots inside the account's. `Slots` keeps both, learns their limits
from refusals, and counts what runs by what looks have seen. It waits for nothing, calls nothing and knows no clock.
"""

from batchsubmit.slots.lane import Ticket
from batchsubmit.slots.looks import Look
from batchsubmit.slots.others import Held
from batchsubmit.slots.roster import Ended, RunningJob, Sighting
from batchsubmit.slots.scheduler import Slots

__all__ = ["Ended", "Held", "Look", "RunningJob", "Sighting", "Slots", "Ticket"]
