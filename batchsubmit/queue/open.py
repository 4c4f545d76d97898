"""What the parts of one queue source share, put together."""

from dataclasses import dataclass

from batchsubmit.clock import Clock
from batchsubmit.config import Settings
from batchsubmit.queue.acks import HandBack
from batchsubmit.queue.client import Queue
from batchsubmit.queue.dead_letters import PoisonDesk
from batchsubmit.queue.held import Stock
from batchsubmit.queue.ledger import Books
from batchsubmit.queue.settings import Terms
from batchsubmit.sources.sqs.counters import QueueCounters
from batchsubmit.sources.sqs.custody import Custody
from batchsubmit.sources.sqs.removal import Removal


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A queue that was found to exist: its settings, and its dead-letter queue where that can be reached."""

    queue: Queue
    terms: Terms
    dead_letters: Queue | None
    counters: QueueCounters


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The collaborators of intake, keeper and source."""

    queue: Queue
    terms: Terms
    settings: Settings
    region: str
    books: Books
    clock: Clock
    counters: QueueCounters
    stock: Stock
    removal: Removal
    hand_back: HandBack
    poison: PoisonDesk


def make_site(served: Served, settings: Settings, *, region: str, books: Books, clock: Clock) -> Site:
    """Put the parts together."""
    visibility = settings.worker.visibility_timeout_seconds
    removal = Removal(served.queue, served.counters)
    hand_back = HandBack(served.queue, removal, served.counters, visibility)
    poison = PoisonDesk(
        dead_letters=served.dead_letters,
        books=books,
        hand_back=hand_back,
        removal=removal,
        counters=served.counters,
        visibility_seconds=visibility,
    )
    return Site(
        queue=served.queue,
        terms=served.terms,
        settings=settings,
        region=region,
        books=books,
        clock=clock,
        counters=served.counters,
        stock=Stock(Custody(visibility)),
        removal=removal,
        hand_back=hand_back,
        poison=poison,
    )
