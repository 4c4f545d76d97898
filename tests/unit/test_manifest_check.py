"""The first pass over a manifest: keys, and what is wrong between rows."""

import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from conftest import OTHER_MEMBERSHIP, request_named
from strategies import ACCOUNT, MEMBERSHIP, REGION, arn

from batchsubmit.core.jobs import JobRejected
from batchsubmit.errors import StoppedError
from batchsubmit.manifest.check import MAX_PROBLEMS, CheckedManifest, Terms, open_reader, take_inventory
from batchsubmit.manifest.file import ManifestFile
from batchsubmit.manifest.rows import Reader
from batchsubmit.schema import RequestChecker
from batchsubmit.schema.spreadsheets import odd_values

ACCOUNTLESS = "999988887777"


def reader_of(requests: Iterable[Mapping[str, Any] | str]) -> Reader:
    """A reader over a JSONL manifest in memory."""
    text = "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in requests)
    spooled = ManifestFile(label="jobs.jsonl", format="jsonl", sha256="0", file=io.BytesIO(text.encode()))
    return open_reader(spooled, defaults={}, checker=RequestChecker())


def inventory_of(*requests: Mapping[str, Any] | str, **terms: Any) -> CheckedManifest:  # noqa: ANN401 (those of Terms)
    """What the first pass finds in these rows."""
    return take_inventory(reader_of(requests), Terms(**terms))


def keys(*requests: Mapping[str, Any] | str, **terms: Any) -> list[str]:  # noqa: ANN401 (those of Terms)
    """The keys of these rows."""
    return list(inventory_of(*requests, **terms).index)


A, B, C = (request_named(name) for name in "abc")


def test_good_rows_are_counted_and_indexed_in_order() -> None:
    """With line, membership and region."""
    inventory = inventory_of(A, "", request_named("b", membership=OTHER_MEMBERSHIP))
    assert inventory.row_count == len(inventory.index) == 2
    assert inventory.problem_count == 0
    assert list(inventory.index.lines) == [1, 3]
    assert [inventory.index.membership(number) for number in range(2)] == [MEMBERSHIP, OTHER_MEMBERSHIP]
    assert inventory.region == REGION


def test_a_header_that_is_wrong_is_no_row() -> None:
    """Its problems are counted, and the rows under it."""
    text = io.BytesIO(b"name,membershipIdentifier\nx,1\ny,1\n")
    spooled = ManifestFile(label="jobs.csv", format="csv", sha256="0", file=text)
    inventory = take_inventory(open_reader(spooled, defaults={}, checker=RequestChecker()), Terms())
    assert (inventory.is_readable, inventory.row_count) == (False, 2)
    assert inventory.problem_count == 4 + 2


def test_a_key_is_the_row_s_wherever_it_stands() -> None:
    """Reordered and inserted rows keep theirs; an edited row is another job."""
    a, b = keys(A, B)
    assert keys(C, B, A)[1:] == [b, a]
    assert keys(request_named("a", description="edited"))[0] != a
    assert keys(dict(reversed(A.items()))) == [a]


def test_a_batch_id_makes_other_jobs_of_the_same_rows() -> None:
    """Tonight's round is not last night's."""
    assert set(keys(A, B, batch="monday")).isdisjoint(keys(A, B, batch="tuesday"))
    assert keys(A, B, batch="monday") == keys(A, B, batch="monday")


def test_identical_rows_are_a_problem_that_names_the_first() -> None:
    """It says how to mean it."""
    inventory = inventory_of(A, B, A)
    [problem] = inventory.problems
    assert problem.line == 3
    assert "identical to line 1" in problem.wrong
    assert "--allow-duplicates" in problem.right


def test_identical_rows_may_be_jobs_of_their_own() -> None:
    """As many as there are; the keys of one more or fewer stay the same."""
    three = keys(A, A, B, A, allow_duplicates=True)
    assert len(set(three)) == 4
    assert keys(A, A, allow_duplicates=True) == three[:2]
    assert keys(A) == three[:1]


def test_each_new_spelling_of_a_name_is_warned_of_and_its_repetition_is_a_problem() -> None:
    """White space and case tell jobs apart."""
    rows = [request_named(name) for name in ("Eu West", "eu  west", "eu  west", "EU WEST", "Eu West", "other")]
    inventory = inventory_of(*rows)
    assert [(warning.line, warning.count) for warning in inventory.warnings] == [(2, 2)]
    assert [(problem.line, problem.wrong) for problem in inventory.problems] == [
        (3, "the row is identical to line 2"),
        (5, "the row is identical to line 1"),
    ]
    assert len(inventory.index) == 4


def test_a_name_used_twice_for_a_membership_and_model_is_a_problem() -> None:
    """The service would overwrite one's results with the other's. Not even --allow-duplicates lets it pass."""
    for allow_duplicates in (False, True):
        inventory = inventory_of(A, request_named("a", description="other"), allow_duplicates=allow_duplicates)
        [problem] = inventory.problems
        assert (problem.line, problem.path) == (2, "name")
        assert "used on line 1" in problem.wrong


def test_a_name_may_be_used_in_two_memberships_and_for_two_models() -> None:
    """Their outputs are apart."""
    others = (request_named("a", membership=OTHER_MEMBERSHIP), request_named("a", model="two"))
    assert inventory_of(A, *others).problem_count == 0


def test_a_name_used_for_two_versions_of_a_model_is_a_problem() -> None:
    """Results go by the model's name."""
    versions = [
        request_named("a", trainedModelVersionIdentifier=f"{digit * 8}-{'-'.join([digit * 4] * 3)}-{digit * 12}")
        for digit in "12"
    ]
    [problem] = inventory_of(*versions).problems
    assert "same membership and trained model" in problem.wrong


def test_a_manifest_serves_one_region() -> None:
    """One run has one client."""
    far = request_named("b")
    far = json.loads(json.dumps(far).replace(f":{REGION}:", ":us-east-1:"))
    [problem] = inventory_of(A, far).problems
    assert (problem.line, problem.path) == (2, "trainedModelArn")
    assert "us-east-1" in problem.wrong
    assert "split the manifest" in problem.right


def test_another_account_than_in_the_rows_above_is_foreign() -> None:
    """A membership belongs to one account: the first that its own ARNs name."""
    elsewhere = request_named("b")
    for member, value in (("trainedModelArn", "trained-model"), ("mlInputChannelArn", "ml-input-channel")):
        holder = elsewhere if member in elsewhere else elsewhere["dataSource"]
        holder[member] = arn(value, account=ACCOUNTLESS)
    warned = inventory_of(A, elsewhere)
    assert (warned.problem_count, warned.accounts) == (0, {MEMBERSHIP: ACCOUNT})
    assert [each.path for each in warned.warnings] == ["trainedModelArn", "dataSource.mlInputChannelArn"]
    problem, _ = inventory_of(A, elsewhere, foreign_arns="error").problems
    assert problem.path == "trainedModelArn"
    assert ACCOUNTLESS in problem.wrong
    assert inventory_of(A, elsewhere, foreign_arns="allow").warnings == ()


def test_the_odd_one_is_blamed_by_majority_wherever_it_stands() -> None:
    """Also where it is the first row: the account that most rows of the membership name is the membership's."""
    odd = request_named("odd")
    odd["trainedModelArn"] = odd["trainedModelArn"].replace(ACCOUNT, ACCOUNTLESS)
    for rows in ((odd, A, B), (A, odd, B)):
        inventory = inventory_of(*rows)
        [warning] = inventory.warnings
        assert f"of another account, '{ACCOUNTLESS}', than its membership is elsewhere, '{ACCOUNT}'" in str(warning)
        assert f":{rows.index(odd) + 1}:" in str(warning)
        assert (warning.count, inventory.account_of(MEMBERSHIP)) == (1, ACCOUNT)


@pytest.mark.parametrize(
    ("name", "is_odd"),
    [
        ("2026-11-26", True),
        ("26.11.2026", True),
        ("11/26/2026 14:05", True),
        ("03-May-26", True),
        ("May-26", True),
        ("1.23457E+11", True),
        ("########", True),
        ("churn-2026-11-26", False),
        ("2026-11", False),
        ("mayor-26", False),
        ("10.0.0.1", False),
        ("1.5", False),
    ],
)
def test_a_name_that_a_spreadsheet_made_is_warned_of(name: str, is_odd: bool) -> None:
    """It may be meant; but whoever had 1-2 or may 3 there did not mean it."""
    words = [fault.wrong for fault in odd_values({"name": name}, {})]
    assert [name in wrong for wrong in words] == [True] * is_odd


def test_the_account_of_a_membership_is_never_that_of_another_s_arn() -> None:
    """Where its rows name none of its own, it is the caller's, as are all memberships."""
    theirs = {
        "trainedModelArn": arn("trained-model", membership=OTHER_MEMBERSHIP, account=ACCOUNTLESS),
        "dataSource": {"mlInputChannelArn": arn("ml-input-channel", membership=OTHER_MEMBERSHIP, account=ACCOUNTLESS)},
    }
    foreign = {**A, **theirs}
    assert inventory_of(foreign).account_of(MEMBERSHIP) == ""
    assert inventory_of(B, foreign).account_of(MEMBERSHIP) == ACCOUNT
    other = {**foreign, "membershipIdentifier": "1" * 8 + MEMBERSHIP[8:]}
    assert inventory_of(B, other).account_of(other["membershipIdentifier"]) == ACCOUNT


def test_problems_of_two_rows_are_told_with_the_manifest_s_name() -> None:
    """As file, line and column, like any other problem."""
    [problem] = inventory_of(A, A).problems
    assert str(problem).startswith("jobs.jsonl:2:1: name: ")


def test_a_row_is_compared_with_bad_ones_too() -> None:
    """Everything that is wrong is told at once, not at the second try."""
    inventory = inventory_of({**A, "resourceConfig": {}}, A)
    assert {problem.line for problem in inventory.problems} == {1, 2}
    assert inventory.problems[-1].path == "name"


def test_a_hundred_problems_are_kept_and_all_are_counted() -> None:
    """A million bad rows do not fill the memory."""
    inventory = inventory_of(*["{}"] * 300)
    assert len(inventory.problems) == MAX_PROBLEMS
    assert inventory.problem_count >= 300
    assert inventory.invalid_count == inventory.row_count == 300
    assert inventory.invalid == {}


def test_bad_rows_are_kept_for_the_ledger_when_they_are_skipped() -> None:
    """Under a key of their own, with what is wrong in words."""
    bad = request_named("bad", resourceConfig={"instanceType": "nonsense"})
    inventory = inventory_of(A, bad, "not json", keep_invalid=True)
    assert len(inventory.index) == 1
    first, second = inventory.invalid.values()
    assert isinstance(first, JobRejected)
    assert (first.name, first.membership, first.code, first.attempt) == ("bad", MEMBERSHIP, "InvalidRow", 0)
    assert "resourceConfig.instanceType" in first.message
    assert (second.name, second.membership) == ("", "")
    assert first.job != second.job != next(iter(inventory.index))


def test_a_mended_row_is_another_job() -> None:
    """So the next run sends it."""
    bad = request_named("a", resourceConfig={"instanceType": "nonsense"})
    [invalid] = inventory_of(bad, keep_invalid=True).invalid.values()
    assert invalid.job not in keys(A)


def test_checking_stops_when_the_run_is_asked_to() -> None:
    """A Ctrl-C does not wait for a million rows."""
    with pytest.raises(StoppedError, match="nothing was sent"):
        inventory_of(A, B, is_stopped=lambda: True)


def test_a_row_is_read_again_as_the_job_it_was() -> None:
    """Key, membership, name and request; duplicates keep their ordinals."""
    index = inventory_of(A, B, A, batch="b", allow_duplicates=True).index
    jobs = [index.job(number, batch="b") for number in range(3)]
    assert all(jobs)
    assert [job.key for job in jobs if job] == list(index)
    assert [job.request for job in jobs if job] == [A, B, A]
    assert [job.name for job in jobs if job] == ["a", "b", "a"]


def test_a_row_that_has_changed_meanwhile_is_not_sent() -> None:
    """What is sent is what was checked."""
    index = inventory_of(A, B).index
    for number, rows in (0, [C, B]), (0, ["{}", B]), (1, [B]):
        index.reader = reader_of(rows)
        assert index.job(number, batch="") is None
