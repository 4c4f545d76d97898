"""Members that the settings give to rows that lack them."""

from typing import Any

import pytest
from strategies import minimal_request

from batchsubmit.errors import UsageError
from batchsubmit.manifest.defaults import Defaults, complete, parse_template
from batchsubmit.schema import Fault, RequestChecker, canonical

CHECKER = RequestChecker()


def filled(
    defaults: dict[str, Any], request: dict[str, Any], variables: dict[str, str] | None = None
) -> tuple[dict[str, Any], list[Fault]]:
    """The request after filling, and the faults."""
    faults = Defaults(defaults, CHECKER).fill(request, variables or {})
    return request, faults


def test_structures_are_filled_member_by_member() -> None:
    """A row that gives the count still gets the type; null counts as absent."""
    request, _ = filled(
        {"resourceConfig": {"instanceType": "ml.m5.large", "instanceCount": 1}},
        {"resourceConfig": {"instanceCount": 2, "instanceType": None}},
    )
    assert request == {"resourceConfig": {"instanceCount": 2, "instanceType": "ml.m5.large"}}


def test_maps_are_merged_by_key_and_the_row_wins() -> None:
    """Also an empty value of the row's, and its faulty null."""
    request, _ = filled({"tags": {"a": "1", "b": "2", "c": "3"}}, {"tags": {"b": "", "c": None}})
    assert request == {"tags": {"a": "1", "b": "", "c": None}}


def test_lists_are_filled_as_a_whole_and_never_shared() -> None:
    """What one row does to its list must not reach the next."""
    defaults = Defaults({"outputConfiguration": {"members": [{"accountId": "1" * 12}]}}, CHECKER)
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    defaults.fill(first, {})
    first["outputConfiguration"]["members"].clear()
    defaults.fill(second, {})
    assert second == {"outputConfiguration": {"members": [{"accountId": "1" * 12}]}}


def test_a_member_of_the_wrong_type_is_left_to_the_check() -> None:
    """Defaults mend nothing."""
    assert filled({"tags": {"a": "1"}}, {"tags": "x"}) == ({"tags": "x"}, [])


def test_place_holders_take_variables_and_the_rows_own_members() -> None:
    """By short or full name; doubled braces are braces."""
    request, faults = filled(
        {"description": "{{{partition}}} of {name}, {var.day}, {resourceConfig.instanceCount}"},
        {"name": "n", "resourceConfig": {"instanceCount": 3}},
        {"partition": "7", "day": "monday"},
    )
    assert request["description"] == "{7} of n, monday, 3"
    assert not faults


def test_place_holders_see_the_row_and_not_other_defaults() -> None:
    """Otherwise the order of the settings would matter."""
    _, faults = filled({"name": "fixed", "description": "{name}"}, {})
    assert [(fault.path, "{name}" in fault.wrong) for fault in faults] == [("description", True)]


def test_an_integer_may_come_from_a_variable() -> None:
    """It is typed as a cell is."""
    request, _ = filled({"resourceConfig": {"instanceCount": "{count}"}}, {}, {"count": "3"})
    assert request == {"resourceConfig": {"instanceCount": 3}}


def test_an_empty_variable_is_a_fault_only_where_it_is_needed() -> None:
    """It names the place-holder, and the member is not reported as missing on top."""
    defaults = Defaults({"name": "job-{partition}"}, CHECKER)
    request = minimal_request()
    assert complete(request, {}, defaults, CHECKER)[:2] == ([], canonical(request))
    del request["name"]
    (fault,), *_ = complete(request, {"partition": ""}, defaults, CHECKER)
    assert fault.path == "name"
    assert "{partition}" in fault.wrong
    assert "var.partition" in fault.right


def test_a_row_without_a_name_and_with_nested_members_only_is_no_header() -> None:
    """Its name comes from a default."""
    request = minimal_request()
    row = {"dataSource": request["dataSource"], "resourceConfig": request["resourceConfig"]}
    assert complete(row, {}, Defaults(request, CHECKER), CHECKER)[0] == []


def test_nothing_is_evaluated() -> None:
    """A place-holder is a name, not an expression."""
    _, faults = filled({"description": "{name.__class__}"}, {"name": "n"})
    assert len(faults) == 1
    with pytest.raises(UsageError, match="stands alone"):
        Defaults({"description": "{name!r}"}, CHECKER)


@pytest.mark.parametrize("text", ["{", "}", "a{}b", "{a b}", '{"a": 1}', "{a{b}}"])
def test_lone_braces_are_errors_of_the_settings(text: str) -> None:
    """Found once, before any row is read."""
    with pytest.raises(UsageError, match=r"^defaults\.description: a '[{}]' stands alone at character \d"):
        Defaults({"description": text}, CHECKER)


def test_a_text_without_place_holders_has_no_names() -> None:
    """Only its doubled braces change."""
    assert parse_template("a {{b}}") == ["a {b}"]


@pytest.mark.parametrize(
    ("defaults", "message"),
    [
        (
            {"resourceConfig": {"instanceTyp": "x"}},
            "defaults.resourceConfig.instanceTyp: .*did you mean 'instanceType'",
        ),
        ({"nam": "{x}"}, "defaults.nam: .*did you mean 'name'"),
        ({"resourceConfig": {"instanceType": "ml.m5.huge"}}, "did you mean 'ml.m5.large'"),
        ({"tags": {"aws:x": "{y}", "a": 1}}, "defaults.tags.a: is a number"),
    ],
)
def test_wrong_defaults_are_errors_of_the_settings(defaults: dict[str, Any], message: str) -> None:
    """One error at the start instead of one a row."""
    with pytest.raises(UsageError, match=message):
        Defaults(defaults, CHECKER)


RUN = {"batch": "nightly", "date": "2026-11-23", "time": "220000"}


def test_place_holders_of_the_run_are_filled_in() -> None:
    """`{batch}`, `{date}` and `{time}`, beside the row's own."""
    defaults = Defaults({"name": "{job}-{date}", "description": "{batch} {time}"}, CHECKER, RUN)
    request: dict[str, Any] = {}
    assert defaults.fill(request, {"job": "churn-001"}) == []
    assert request == {"name": "churn-001-2026-11-23", "description": "nightly 220000"}


def test_a_variable_of_the_row_goes_before_the_run_s_place_holder() -> None:
    """Manifests that have a column var.date keep their names and keys."""
    request: dict[str, Any] = {}
    Defaults({"name": "{date}", "description": "{var.date}"}, CHECKER, RUN).fill(request, {"date": "monday"})
    assert request == {"name": "monday", "description": "monday"}


def test_a_batch_that_is_not_named_cannot_be_filled_in() -> None:
    """It says how to name it."""
    [fault] = Defaults({"name": "{batch}"}, CHECKER, {"batch": ""}).fill({}, {})
    assert str(fault) == "name: its default needs {batch}, and there is none; name it with --batch-id"


@pytest.mark.parametrize(("text", "is_refused"), [("{date}", True), ("{time}", True), ("{batch} {var.date}", False)])
def test_a_moment_is_refused_where_messages_come_again(text: str, *, is_refused: bool) -> None:
    """On another day they would be other jobs."""
    defaults = Defaults({"name": text}, CHECKER)
    if is_refused:
        with pytest.raises(UsageError, match="worker cannot fill in"):
            defaults.refuse_moment()
    else:
        defaults.refuse_moment()
