"""Those who do the work of an engine, and how far they go. Values only."""

from dataclasses import dataclass

from batchsubmit.engine.inputs import Inputs
from batchsubmit.ledger.claiming import Claims
from batchsubmit.lookup import Lookup
from batchsubmit.submitter import Submitter
from batchsubmit.watch import Watcher


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far an engine goes: jobs in hand at once, tries of a job whose calls bring no answer, a user's word."""

    in_hand: int
    max_attempts: int
    resubmit_unknown: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """Those who do the work of an engine, each one part of it."""

    submitter: Submitter
    lookup: Lookup
    watcher: Watcher
    claims: Claims
    inputs: Inputs | None = None
