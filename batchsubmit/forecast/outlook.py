"""From what is known (a manifest's rows to do, ledgers, a user's word) to a forecast, and what it rests on.

It opens nothing: rows are read through the reader, ledgers come as a `History`. Blocking: run it in a thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from statistics import median

from batchsubmit.config import Settings
from batchsubmit.forecast.futures import QUICK, THOROUGH, Finish, LaneAhead, Oracle, RunningAhead
from batchsubmit.forecast.history import History
from batchsubmit.forecast.prior import Expectations, Fixed, Guessed
from batchsubmit.forecast.schedule import Quotas
from batchsubmit.simulation import simulate
from batchsubmit.sources import Reader
from batchsubmit.sources.index import Index
from batchsubmit.standing.prospect import Prospect

_DEFAULT_QUOTAS = Quotas(per_membership=5, per_account=10)
"""What AWS gives to everybody."""

_RAISED = (2, 5)
_ROWS_SAMPLED = 600
_CALL_SECONDS = 0.1
"""What a Start call takes where no ledger tells."""

_NOTHING_KNOWN = "no job of the ledgers has ended yet; give --job-minutes, or --history with an earlier ledger"

_STALE = 1.5
"""A job that would have run for this many times the longest that was seen has ended, only nobody looked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What the user said of the jobs' length; a sandbox's jobs all take the same time."""

    job_minutes: float | None = None
    sandbox_job_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """When the batch would be done with other quotas."""

    quotas: Quotas
    slots: int
    finish: Finish


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """A forecast and what it rests on; without `finish`, `basis` says what is missing."""

    quotas: Quotas
    are_quotas_assumed: bool
    finish: Finish | None
    basis: str
    slots: int = 0
    what_ifs: tuple[WhatIf, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Observatory:
    """All that an outlook is made from."""

    settings: Settings
    index: Index
    reader: Reader
    prospect: Prospect
    history: History
    word: Word = Word()

    def expectations(self) -> Expectations | None:
        """What is known of the jobs' times: the user's word goes before what was learned."""
        if self.word.sandbox_job_seconds is not None:
            return Expectations(Fixed(max(self.word.sandbox_job_seconds, 1e-3)))
        if self.word.job_minutes is not None:
            return Expectations(Guessed(self.word.job_minutes * 60))
        return Expectations.learned(self.history.observations)

    def running(self, history: History, now: datetime) -> dict[str, list[RunningAhead]] | None:
        """The jobs that a ledger knows to be submitted and that probably still run; None where nothing tells."""
        longest = self._longest_seconds()
        if longest is None:
            return {} if not history.running else None
        found: dict[str, list[RunningAhead]] = {}
        for job in history.running:
            age = max((now - job.since).total_seconds(), 0.0)
            if age < longest * _STALE:
                found.setdefault(job.membership, []).append(RunningAhead(job.trained_model, age))
        return found

    def look_ahead(
        self, running: Mapping[str, Sequence[RunningAhead]], *, seen: Mapping[str, int] | None = None, quick: bool
    ) -> Outlook:
        """Forecast. `seen` is how many jobs the service shows to run in a membership, which a quota must allow."""
        quotas, assumed = self.quotas(seen or {})
        lanes = self._lanes(running)
        slots = slots_of(lanes, quotas)
        expectations = self.expectations()
        if expectations is None:
            return Outlook(quotas=quotas, are_quotas_assumed=assumed, finish=None, basis=_NOTHING_KNOWN, slots=slots)
        oracle = Oracle(
            expectations=expectations,
            simulate=lambda work, seed: simulate(work, self.settings, seed=seed),
            call_seconds=median(self.history.call_seconds) if self.history.call_seconds else _CALL_SECONDS,
        )
        effort = QUICK if quick else THOROUGH
        return Outlook(
            quotas=quotas,
            are_quotas_assumed=assumed,
            finish=oracle.finish(lanes, quotas, effort=effort),
            basis=self._basis(),
            slots=slots,
            what_ifs=() if quick else tuple(_what_ifs(oracle, lanes, quotas)),
        )

    def quotas(self, seen: Mapping[str, int]) -> tuple[Quotas, bool]:
        """The settings' quotas, else those that runs learned, else AWS's defaults; whether any is of the last kind.

        What is seen to run must be allowed.
        """
        slots, learned = self.settings.slots, self.history.quotas
        lane = max((learned.get(each, 0) for each in self.prospect.lanes), default=0)
        account = max((value for name, value in learned.items() if name.split()[0] == "account"), default=0)
        quotas = Quotas(
            per_membership=slots.per_membership
            or max(lane or _DEFAULT_QUOTAS.per_membership, max(seen.values(), default=0)),
            per_account=slots.per_account or max(account or _DEFAULT_QUOTAS.per_account, sum(seen.values())),
        )
        return quotas, not ((slots.per_membership or lane) and (slots.per_account or account))

    def _longest_seconds(self) -> float | None:
        if self.word.sandbox_job_seconds is not None:
            return self.word.sandbox_job_seconds
        if self.word.job_minutes is not None:
            return self.word.job_minutes * 60 * 2
        ended = [each.seconds for times in self.history.observations.values() for each in times if each.ended]
        return max(ended, default=None)

    def _lanes(self, running: Mapping[str, Sequence[RunningAhead]]) -> dict[str, LaneAhead]:
        models: dict[str, list[str]] = {}
        for membership, number in self.prospect.sample(_ROWS_SAMPLED):
            request = self.reader.request_at(self.index.offsets[number], self.index.lines[number]) or {}
            models.setdefault(membership, []).append(str(request.get("trainedModelArn", "")))
        lanes = {}
        for membership, lane in self.prospect.lanes.items():
            here = running.get(membership, ())
            kinds = models.get(membership) or [each.trained_model for each in here]
            if lane.to_do or here:
                account = _account(kinds)
                lanes[membership] = LaneAhead(account=account, count=lane.to_do, trained_models=kinds, running=here)
        return lanes

    def _basis(self) -> str:
        if self.word.sandbox_job_seconds is not None:
            return f"the sandbox's jobs take {self.word.sandbox_job_seconds:g} s each"
        if self.word.job_minutes is not None:
            return f"your word that a job takes about {self.word.job_minutes:g} minutes, within a sixth or so"
        ended = [each.seconds for times in self.history.observations.values() for each in times if each.ended]
        jobs = "1 job that has" if len(ended) == 1 else f"{len(ended):,} jobs that have"
        return f"{jobs} ended, after {_spoken(sum(ended) / len(ended))} on average"


def slots_of(lanes: Mapping[str, LaneAhead], quotas: Quotas) -> int:
    """How many slots the quotas leave these memberships."""
    by_account: dict[str, float] = {}
    for lane in lanes.values():
        by_account[lane.account] = by_account.get(lane.account, 0.0) + quotas.of_lane
    return int(sum(min(slots, quotas.of_account) for slots in by_account.values()))


def _what_ifs(oracle: Oracle, lanes: Mapping[str, LaneAhead], quotas: Quotas) -> list[WhatIf]:
    """Raise both quotas alike, while there is more to do than there would be slots; only the medians are told."""
    effort = replace(THOROUGH, futures=40, simulations=1)
    found = []
    for factor in _RAISED:
        raised = Quotas(per_membership=quotas.per_membership * factor, per_account=quotas.per_account * factor)
        slots = slots_of(lanes, raised)
        if sum(lane.count for lane in lanes.values()) > slots:
            found.append(WhatIf(quotas=raised, slots=slots, finish=oracle.finish(lanes, raised, effort=effort)))
    return found


def _account(trained_models: Sequence[str]) -> str:
    parts = trained_models[0].split(":") if trained_models else []
    return parts[4] if len(parts) > 4 else ""


def _spoken(seconds: float) -> str:
    """A time as people say it."""
    for unit, length in (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} seconds"
