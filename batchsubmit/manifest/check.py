"""The first pass over a manifest: every row checked, and the good ones indexed so that any can be read again.

What concerns two rows at once is checked here: a name used twice for one membership and trained model (the service
would overwrite one job's results with the other's), identical rows, and memberships that seem to be in two accounts.
"""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Container, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

from batchsubmit.config import ForeignArns, Settings, SubmitSettings
from batchsubmit.core.jobs import INVALID_ROW, JobRejected, ResultPlace, job_digest, key_text, results_place
from batchsubmit.errors import StoppedError
from batchsubmit.manifest.csv_reader import CsvReader
from batchsubmit.manifest.defaults import Defaults
from batchsubmit.manifest.file import ManifestFile, open_manifest
from batchsubmit.manifest.index import Index
from batchsubmit.manifest.jsonl_reader import JsonlReader
from batchsubmit.manifest.rows import Reader, Row, priority_of
from batchsubmit.outputs.templates import expand, placeholders_at
from batchsubmit.schema import Fault, Part, Problem, RequestChecker, without_nulls
from batchsubmit.schema.arns import FOREIGN, account_of_membership, foreign_arns, region_in, text_at
from batchsubmit.schema.spreadsheets import odd_values
from batchsubmit.text import quoted

MAX_PROBLEMS = 100
SHOWN_OF_A_KIND = 3
MOST_KINDS = 20
_DIFFERS_BY_ROW = re.compile(r"'[^']*'|\d+")
_REMEMBERED_PARTS = 1024
_ROWS_BETWEEN_STOPS = 1000  # some ten milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a manifest is checked for: the batch its keys belong to, and what is let pass.

    With `keep_invalid` the bad rows themselves are kept, for the ledger. `moment` has the values of the placeholders
    `{date}` and `{time}` in defaults. The check ends early once `is_stopped`, and each problem goes to `found` as it
    is met; both are called in another thread.
    """

    batch: str = ""
    allow_duplicates: bool = False
    keep_invalid: bool = False
    foreign_arns: ForeignArns = "warn"
    moment: Mapping[str, str] = field(default_factory=dict)
    is_stopped: Callable[[], bool] = lambda: False
    found: Callable[[Problem], object] = lambda _: None

    @classmethod
    def now(cls, settings: SubmitSettings, *, allow_duplicates: bool) -> "Terms":
        """The terms of this moment: the batch id of the settings, filled in. Raises UsageError."""
        moment = placeholders_at(datetime.now(UTC), settings)
        batch = expand(settings.batch_id, moment, what="--batch-id")
        return cls(batch=batch, allow_duplicates=allow_duplicates, moment=moment)

    @property
    def run(self) -> dict[str, str]:
        """The placeholders of defaults that are the same in all rows."""
        return {**self.moment, "batch": self.batch}


@dataclass(slots=True)
class Kind:
    """Problems that are alike: the first few of them, and how many there are."""

    first: list[Problem] = field(default_factory=list)
    count: int = 0


@dataclass(slots=True)
class ProblemGroups:
    """The kinds of problem of a manifest, as they are met; past `MOST_KINDS`, they are only counted."""

    kinds: dict[tuple[str, str, str], Kind] = field(default_factory=dict)
    others: int = 0

    def add(self, problem: Problem) -> None:
        """Take a problem to those that it is like."""
        words = (problem.path, _DIFFERS_BY_ROW.sub("", problem.wrong), _DIFFERS_BY_ROW.sub("", problem.right))
        if words not in self.kinds and len(self.kinds) == MOST_KINDS:
            self.others += 1
            return
        kind = self.kinds.setdefault(words, Kind())
        kind.count += 1
        if len(kind.first) <= SHOWN_OF_A_KIND:
            kind.first.append(problem)

    def drop(self, beginning: str) -> None:
        """Forget the kinds whose words begin so."""
        self.kinds = {words: kind for words, kind in self.kinds.items() if not words[1].startswith(beginning)}

    def warnings(self) -> tuple[Problem, ...]:
        """Give each kind once: its first row and how many there are."""
        return tuple(replace(kind.first[0], count=kind.count) for kind in self.kinds.values())

    def lines(self) -> list[str]:
        """Tell the first few of each kind, and how many more are like them."""
        lines: list[str] = []
        for kind in self.kinds.values():
            shown = list(map(str, kind.first))
            if kind.count > len(shown):  # a line that says "1 more" would take the place of that one
                shown[SHOWN_OF_A_KIND:] = [f"  ... and {kind.count - SHOWN_OF_A_KIND:,} more like it"]
            lines += shown
        return [*lines, f"... and {self.others:,} more of other kinds"] if self.others else lines


@dataclass(slots=True)
class CheckedManifest:
    """What the first pass found. `problems` holds the first hundred; `alike` and `problem_count` count all.

    `invalid` has by line what the ledger may record of a row that cannot be sent, as yet without a time; `warned` has
    what is odd about rows that may be sent. A manifest with a wrong header is not readable: none may be sent.
    """

    index: Index
    region: str = ""
    accounts: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    problem_count: int = 0
    alike: ProblemGroups = field(default_factory=ProblemGroups)
    warned: ProblemGroups = field(default_factory=ProblemGroups)
    invalid_count: int = 0
    invalid: dict[int, JobRejected] = field(default_factory=dict)
    is_readable: bool = True

    @property
    def row_count(self) -> int:
        """Rows of the manifest, good or not; a header that is wrong is none."""
        return len(self.index) + self.invalid_count - (not self.is_readable)

    def only(self, known: Container[str]) -> Self:
        """Leave out the rows that are not known."""
        return replace(self, index=self.index.only(known), invalid={}, invalid_count=0)

    def account_of(self, membership: str) -> str:
        """The account of a membership; where its rows do not name it, that of another: all are the caller's."""
        return self.accounts.get(membership) or next(iter(self.accounts.values()), "")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What may not be meant, each kind once."""
        return self.warned.warnings()

    def refuse(self, row: Row, problems: tuple[Problem, ...], terms: Terms) -> None:
        """Note what is wrong with a row."""
        self.invalid_count += 1
        self.is_readable &= not row.is_header
        self.problem_count += len(problems)
        self.problems.extend(problems[: MAX_PROBLEMS - len(self.problems)])
        for problem in problems:
            self.alike.add(problem)
            terms.found(problem)
        if terms.keep_invalid:
            self.invalid[row.line] = _rejection(row, problems, terms.batch)


def take_inventory(reader: Reader, terms: Terms) -> CheckedManifest:
    """Read and check a whole manifest. Raises StoppedError."""
    checked = CheckedManifest(Index(reader))
    across = _AcrossRows(checked, terms)
    for count, row in enumerate(reader.rows()):
        if count % _ROWS_BETWEEN_STOPS == 0 and terms.is_stopped():
            raise StoppedError("stopped while the manifest was being checked; nothing was sent")
        if problems := across.add(row):
            checked.refuse(row, problems, terms)
    across.blame_by_majority()
    return checked


class _AcrossRows:
    """The checks that concern more than one row. Rows with problems of their own are compared as far as they go."""

    def __init__(self, checked: CheckedManifest, terms: Terms) -> None:
        self._reader = checked.index.reader
        self._checked = checked
        self._index = checked.index
        self._terms = terms
        # By hash, since a million names as texts would take 200 MB: the number in the index, or below 0 in _bad_rows.
        self._names: dict[int, int] = {}  # without regard to white space and case
        self._spellings: dict[int, int] = {}  # as they are, of names that so are like an earlier one
        self._bad_rows: list[tuple[int, int]] = []
        self._repeats: dict[int, int] = {}
        self._homes: dict[Part, tuple[str, str]] = {}  # membership and account, where nothing is odd
        self._votes = Counter[tuple[str, str]]()

    def add(self, row: Row) -> tuple[Problem, ...]:
        """Compare a row with those before it, and index it where nothing is wrong; gives what is."""
        request, terms = row.request, self._terms
        home = self._homes.get(row.part) if row.part else None
        foreign = [] if home else self._foreign(request)
        faults = [] if home else [*(foreign if terms.foreign_arns == "error" else ()), *self._other_region(row)]
        priority = priority_of(row.variables, faults) if row.variables else 0
        is_bad = bool(row.problems or faults)
        # Where invalid rows are left out, the name of one is free for another row.
        ordinal = 0 if is_bad and terms.keep_invalid else self._ordinal(row, faults, is_bad=is_bad)
        if row.problems or faults:
            return (*row.problems, *(self._reader.problem(row.line, fault, row.offset) for fault in faults))
        home = home or self._learn(row, foreign)
        self._votes[home] += 1
        for fault in odd_values(request, row.variables):
            self._warn(row, fault)
        digest = job_digest(row.spelled, batch=terms.batch, ordinal=ordinal)
        self._index.add(row.offset, row.line, home[0], digest, ordinal, priority)
        return ()

    def _warn(self, row: Row, fault: Fault) -> None:
        self._checked.warned.add(self._reader.problem(row.line, fault))

    def _foreign(self, request: Mapping[str, Any]) -> list[Fault]:
        """Find what is of another membership or account, unless that is allowed."""
        if self._terms.foreign_arns == "allow":
            return []
        account = self._checked.accounts.get(text_at(request, "membershipIdentifier"), "")
        return list(foreign_arns(request, account))

    def _other_region(self, row: Row) -> Iterator[Fault]:
        first = self._checked.region
        if not row.problems and first and (region := region_in(row.request["trainedModelArn"])) != first:
            wrong = f"region {region}, but the rows above are in {first}"
            yield Fault(path="trainedModelArn", wrong=wrong, right="a run serves one region: split the manifest")

    def _ordinal(self, row: Row, faults: list[Fault], *, is_bad: bool) -> int:
        """Count the identical rows before this one; adds what is wrong with a name used for another job."""
        place = results_place(row.request)
        if place is None:
            return 0
        own = -1 - len(self._bad_rows) if is_bad else len(self._index)
        number = self._names.setdefault(hash(folded := _folded(place)), own)
        if number != own and (first := results_place(self._reader.request_at(self._place(number)[0]))) != place:
            number = self._spellings.setdefault(hash(place), own)
            if number == own and first and _folded(first) == folded:
                self._warn(row, _similar(place[2]))
        if number == own:
            if is_bad:
                self._bad_rows.append((row.offset, row.line))
            return 0
        offset, line = self._place(number)
        earlier = self._reader.request_at(offset)
        if results_place(earlier) != place:
            return 0  # two places with one hash
        if earlier != without_nulls(row.request):
            faults.append(_reused(place[2], line))
            return 0
        if not self._terms.allow_duplicates:
            faults.append(Fault(path="name", wrong=f"the row is identical to line {line}", right=_NO_DUPLICATES))
        self._repeats[number] = self._repeats.get(number, 0) + 1
        return self._repeats[number]

    def _place(self, number: int) -> tuple[int, int]:
        return self._bad_rows[-number - 1] if number < 0 else (self._index.offsets[number], self._index.lines[number])

    def _learn(self, row: Row, foreign: list[Fault]) -> tuple[str, str]:
        """Keep what a good row's ARNs say, and give its membership and account."""
        for fault in foreign:
            self._warn(row, fault)
        self._checked.region = region_in(row.request["trainedModelArn"])
        home = row.request["membershipIdentifier"], account_of_membership(row.request)
        if home[1]:
            self._checked.accounts.setdefault(*home)
        if row.part and not foreign:
            if len(self._homes) >= _REMEMBERED_PARTS:
                self._homes.clear()
            self._homes[row.part] = home
        return home

    def blame_by_majority(self) -> None:
        """Where most rows of a membership name another account than the first one does, it is the first that is odd."""
        accounts: dict[str, str] = {}
        for (membership, account), _ in self._votes.most_common():
            if account:
                accounts.setdefault(membership, account)
        was, self._checked.accounts = self._checked.accounts, accounts
        if accounts == was or self._terms.foreign_arns != "warn":
            return
        self._checked.warned.drop(FOREIGN)
        for number in range(len(self._index)):
            for fault in self._foreign(self._index.request(number)):
                self._checked.warned.add(self._reader.problem(self._index.lines[number], fault))


def _folded(place: ResultPlace) -> ResultPlace:
    membership, model, name = place
    return membership, model, " ".join(name.split()).casefold()


_NO_DUPLICATES = "remove it, or give --allow-duplicates to run the job again (under one name: results are overwritten)"


def _reused(name: str, line: int) -> Fault:
    wrong = f"the name {quoted(name)} is used on line {line} too, for the same membership and trained model"
    right = "give each job a name of its own: the service would overwrite one's results with the other's"
    return Fault(path="name", wrong=wrong, right=right)


def _similar(name: str) -> Fault:
    wrong = f"the name {quoted(name)} differs from an earlier one only in white space or upper and lower case"
    return Fault(path="name", wrong=wrong, right="they are two jobs, and two are paid: correct one where one is meant")


def _rejection(row: Row, problems: tuple[Problem, ...], batch: str) -> JobRejected:
    """Name a bad row by its place and content, so that the corrected row is another job."""
    identity = f"invalid row {row.line}: {row.request!r}".encode(errors="backslashreplace")
    return JobRejected(
        at="",
        job=key_text(job_digest(identity, batch=batch)),
        membership=text_at(row.request, "membershipIdentifier"),
        name=text_at(row.request, "name"),
        code=INVALID_ROW,
        message="; ".join(map(str, problems)),
        attempt=0,
    )


def open_reader(
    spooled: ManifestFile, *, defaults: Mapping[str, Any], checker: RequestChecker, run: Mapping[str, str] | None = None
) -> Reader:
    """Make the reader for a manifest's format; `run` has its placeholders. Raises UsageError for wrong defaults."""
    reader = CsvReader if spooled.format == "csv" else JsonlReader
    return reader(spooled, defaults=Defaults(defaults, checker, run), checker=checker)


@asynccontextmanager
async def open_checked_manifest(
    manifest: str, settings: Settings, *, region: str | None, terms: Terms
) -> AsyncIterator[tuple[ManifestFile, CheckedManifest]]:
    """Open a manifest and check all of it. Raises UsageError, StoppedError; problems of rows are in the inventory."""
    async with open_manifest(manifest, region=region) as spooled:
        yield spooled, await check_manifest(spooled, settings, region=region, terms=terms)


async def check_manifest(
    spooled: ManifestFile, settings: Settings, *, region: str | None, terms: Terms
) -> CheckedManifest:
    """Check all of a manifest that is open. Raises UsageError, StoppedError; problems of rows are in the inventory."""
    checker = RequestChecker(region=region, own_tag=settings.submit.tag_jobs)
    terms = replace(terms, foreign_arns=settings.checks.foreign_arns)
    reader = open_reader(spooled, defaults=settings.defaults, checker=checker, run=terms.run)
    return await asyncio.to_thread(take_inventory, reader, terms)
