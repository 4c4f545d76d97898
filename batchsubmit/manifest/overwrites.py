"""Rows whose results would overwrite those of an earlier job of the same name and trained model. Pure."""

from collections.abc import Collection, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import partial

from batchsubmit.core.job_states import UNDECIDED, Phase, is_good_end
from batchsubmit.core.jobs import ResultPlace, results_place
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.manifest.check import CheckedManifest
from batchsubmit.manifest.index import Index
from batchsubmit.manifest.rows_done import ManifestProgress
from batchsubmit.schema import Fault, Problem
from batchsubmit.text import quoted

IN_THE_LEDGER = "was submitted before, as another job of this ledger"
_HAS_RESULTS = {*UNDECIDED, Phase.SUBMITTED, Phase.FINISHED}
_RIGHT = (
    "the results of the earlier job are overwritten (they go to <S3 path>/<collaboration id>/<trained model name>/"
    "<caller account>/<job name>); {batch} or {date} in the name's default keeps them apart"
)


def ledger_places(index: Index, book: LedgerState) -> set[ResultPlace]:
    """Where the results go of jobs that a ledger has and these rows are not: of other batches, or of changed rows.

    Of a table, a run knows its own rows alone, and finds none.
    """
    if not len(book) or sum(key in book for key in index) == len(book):
        return set()
    own = set(index)
    return {
        (state.membership, state.trained_model, state.name)
        for state in book
        if state.job not in own and state.phase in _HAS_RESULTS and (not state.status or is_good_end(state.status))
    }


def overwriting(
    index: Index, progress: ManifestProgress, places: Collection[ResultPlace], wrong: str
) -> Iterator[Problem]:
    """Warn of the rows to be sent whose results go to one of these places; `wrong` says whose they are."""
    numbers = sorted(number for lane in progress.lanes.values() for number in lane.rows_to_do) if places else ()
    found = [number for number in numbers if results_place(index.request(number)) in places]
    if found:
        name = index.request(found[0]).get("name")
        words = f"{quoted(str(name))} with this trained model {wrong}"
        fault = Fault(path="name", wrong=words, right=_RIGHT)
        yield replace(index.reader.problem(index.lines[found[0]], fault), count=len(found))


def warnings_of_rows(
    inventory: CheckedManifest,
    rows: ManifestProgress,
    known: LedgerState,
    listed: AbstractSet[ResultPlace] = frozenset(),
) -> tuple[Problem, ...]:
    """Warn of rows, also of those whose results would overwrite a job's, of the ledger or `listed` by the service."""
    places = ledger_places(inventory.index, known)
    find = partial(overwriting, inventory.index, rows)
    elsewhere = find(listed - places, "is already listed by the service")
    return (*inventory.warnings, *find(places, IN_THE_LEDGER), *elsewhere)
