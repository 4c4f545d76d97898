"""Denials that may be the caller's."""

from types import SimpleNamespace
from typing import Any

import pytest
from conftest import OTHER_MEMBERSHIP, job_named
from strategies import MEMBERSHIP

from batchsubmit.core.jobs import Denied
from batchsubmit.submit.stopping import Denials


@pytest.mark.parametrize(
    ("kinds", "count", "stops", "is_everything"),
    [
        ([(MEMBERSHIP, "one")], 1, False, False),
        ([(MEMBERSHIP, "one")], 4, False, False),
        ([(MEMBERSHIP, "one")], 5, False, True),
        ([(MEMBERSHIP, "one")], 20, True, True),
        ([(MEMBERSHIP, "one"), (MEMBERSHIP, "two")], 2, False, True),
        ([(MEMBERSHIP, "one"), (OTHER_MEMBERSHIP, "one")], 4, False, True),
        ([(MEMBERSHIP, "one"), (MEMBERSHIP, "two")], 5, True, True),
    ],
)
def test_denials_of_several_lanes_or_models_are_sooner_about_the_caller(
    kinds: list[tuple[str, str]], count: int, stops: bool, is_everything: bool
) -> None:
    """Behind many rows of one model, others may stand."""
    denials, refusal = Denials(), Denied("AccessDeniedException", "no")
    jobs = [
        job_named(str(number), membership=kinds[number % len(kinds)][0], model=kinds[number % len(kinds)][1])
        for number in range(count)
    ]
    deliveries: list[Any] = [SimpleNamespace(job=job) for job in jobs]
    for delivery in deliveries:
        denials.kept.append((delivery, refusal))
    assert (denials.stops_run, denials.is_everything) == (stops, is_everything)
    assert denials.take() == [(delivery, refusal) for delivery in deliveries]
    assert (denials.stops_run, denials.is_everything, denials.take()) == (False, False, [])
