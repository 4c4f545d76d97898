"""Rows to be sent whose results would overwrite those of a job that was submitted before, or are about to.

Within one manifest that is an error (`sources.inventory`). With jobs of another batch it is a warning: it may be meant.
"""

from collections.abc import Collection, Iterator

from batchsubmit.core.jobs import results_place
from batchsubmit.core.ledger_state import Book
from batchsubmit.core.states import UNDECIDED, Phase
from batchsubmit.manifest.index import Index
from batchsubmit.manifest.progress import Prospect
from batchsubmit.manifest.rows import Reader
from batchsubmit.schema import RowWarning
from batchsubmit.sources.alike import row_warning

Place = tuple[str, str, str]
"""Membership, trained model and name, as of `jobs.results_place`."""

IN_THE_LEDGER = "was submitted before, as another job of this ledger"
_HAS_RESULTS = {*UNDECIDED, Phase.SUBMITTED, Phase.FINISHED}
_RIGHT = (
    "the results of the earlier job are overwritten (they go to <S3 path>/<collaboration id>/<trained model name>/"
    "<caller account>/<job name>); {batch} or {date} in the name's default keeps them apart"
)


def ledger_places(index: Index, book: Book) -> set[Place]:
    """Where the results go of jobs that a ledger has and these rows are not: of other batches, or of changed rows.

    Of a table, a run knows its own rows alone, and finds none.
    """
    if not len(book) or sum(key in book for key in index) == len(book):
        return set()
    own = set(index)
    return {
        (state.membership, state.trained_model, state.name)
        for state in book
        if state.job not in own and state.phase in _HAS_RESULTS and state.status in {"", "ACTIVE"}
    }


def ledger_warnings(reader: Reader, index: Index, book: Book, *, retry_failed: bool) -> Iterator[RowWarning]:
    """Warn of rows to be sent that share a place with another job of the ledger; reads them again where some may."""
    places = ledger_places(index, book)
    if places:
        prospect = Prospect.of(index, book, retry_failed=retry_failed)
        yield from overwriting(reader, index, prospect, places, IN_THE_LEDGER)


def overwriting(
    reader: Reader, index: Index, prospect: Prospect, places: Collection[Place], wrong: str
) -> Iterator[RowWarning]:
    """Warn of the rows to be sent whose results go to one of these places; `wrong` says whose they are."""
    numbers = sorted(number for lane in prospect.lanes.values() for number in lane.rows_to_do) if places else ()
    found = [number for number in numbers if _place_of(reader, index, number) in places]
    if found:
        row = reader.row_at(index.offsets[found[0]], index.lines[found[0]])
        name = row.request.get("name")
        words = f"{name!r} with this trained model {wrong}"
        yield row_warning(reader.problem(row, "name", words, _RIGHT), len(found))


def _place_of(reader: Reader, index: Index, number: int) -> Place | None:
    request = reader.request_at(index.offsets[number], index.lines[number])
    return None if request is None else results_place(request)
