"""What happened between a worker and its queue, in numbers; metrics and the worker's summary read them."""

from dataclasses import dataclass


@dataclass(slots=True)
class QueueCounters:
    """Running counts since the worker began; each is of messages unless its comment says otherwise."""

    polls: int = 0  # ReceiveMessage calls that were answered
    received: int = 0
    redelivered: int = 0  # received more than once, by whomever
    copies: int = 0  # another message for a job that is in hand already
    recognised: int = 0  # acknowledged without a call: the ledger knew the job
    poisoned: int = 0
    moved: int = 0  # poison sent to the dead-letter queue by us
    extended: int = 0
    extension_failures: int = 0
    lost: int = 0  # hidden no longer, or deleted by another
    handed_back: int = 0
    renewed: int = 0  # sent anew in place of one with too few receives or too little time left
    undecided: int = 0  # handed back for long, since nobody could tell what became of the job
    over_quota: int = 0  # handed back for long, since a quota that is not one of slots refused the job
    deleted: int = 0
    delete_failures: int = 0  # given up after several tries; each is delivered again and then recognised
    throttled: int = 0  # calls that SQS refused for their number
    backlog: int = 0  # in the queue when last looked at, every five minutes while there is work
    unanswered: int = 0  # calls without an answer, or with a 5xx
