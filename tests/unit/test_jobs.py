"""Keys tell jobs apart, and nothing else does."""

import re
from itertools import combinations

import pytest
from conftest import OTHER_MEMBERSHIP, job_named, request_named
from strategies import arn

from batchsubmit.core.jobs import job_digest, key_text, results_place


def test_a_key_is_26_lower_case_characters_that_a_tag_can_carry() -> None:
    """The ledger, the tag and the logs have room for it."""
    assert re.fullmatch(r"[a-z2-7]{26}", key_text(job_digest(b"{}")))


def test_a_key_never_changes() -> None:
    """A ledger of an earlier version must still know its jobs: this value is for ever."""
    key = key_text(job_digest(b'{"name":"a"}', batch="nightly", ordinal=1))
    assert key == "rf5xqge6pp3ahnuwweibb3azjq"


@pytest.mark.parametrize(
    ("one", "other"),
    list(
        combinations(
            [(b"{}", "", 0), (b"{}", "", 1), (b"{}", "1", 0), (b"1\n{}", "", 0), (b"{}", "\n", 0), (b"\n{}", "", 0)], 2
        )
    ),
)
def test_request_batch_and_ordinal_are_never_mistaken_for_one_another(
    one: tuple[bytes, str, int], other: tuple[bytes, str, int]
) -> None:
    """Each part is framed, so no two different jobs share a key."""
    first, second = (job_digest(canonical, batch=batch, ordinal=ordinal) for canonical, batch, ordinal in (one, other))
    assert first != second


def test_a_job_names_the_model_that_its_request_runs() -> None:
    """The lookup lists by it."""
    assert job_named("a").trained_model == arn("trained-model")


def test_results_go_to_one_place_by_membership_model_and_name() -> None:
    """Nothing else keeps two jobs apart, not even the version of the model."""
    place = results_place(request_named("a"))
    assert results_place(request_named("a", description="other", trainedModelVersionIdentifier="x")) == place
    others = [request_named("b"), request_named("a", model="two"), request_named("a", membership=OTHER_MEMBERSHIP)]
    assert place not in map(results_place, others)
    assert results_place({"name": "a", "trainedModelArn": 7}) is None
