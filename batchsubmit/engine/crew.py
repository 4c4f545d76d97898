"""Those who do the work of an engine, and how far they go. Values only."""

from dataclasses import dataclass

from batchsubmit.ledger.claims import Claims
from batchsubmit.submit.inputs import Inputs
from batchsubmit.submit.lookup import Lookup
from batchsubmit.submit.poller import Watcher
from batchsubmit.submit.submitter import Submitter


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far an engine goes: jobs in hand at once, tries of a job whose calls bring no answer, a user's word.

    A lane that a quota holds is tried again after `first_hold_seconds`, then ever more rarely. A source that
    `is_endless` does not stop for jobs that the service denies.
    """

    in_hand: int
    max_attempts: int
    resubmit_unknown: bool = False
    is_endless: bool = False
    first_hold_seconds: float = 30.0
    most_hold_seconds: float = 1500.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """Those who do the work of an engine, each one part of it."""

    submitter: Submitter
    lookup: Lookup
    watcher: Watcher
    claims: Claims
    inputs: Inputs | None = None
