"""The checks against their own model: valid requests pass, and jsonschema agrees about the others."""

import json
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import JSON_VALUES, any_requests, valid_requests

from batchsubmit.schema import RequestChecker, canonical, json_schema, read_json, without_nulls


@given(valid_requests())
def test_valid_requests_have_no_fault(request: dict[str, Any]) -> None:
    """Whatever the model's bounds allow passes."""
    assert RequestChecker().explain(request) == []


@given(any_requests())
def test_near_misses_are_judged_without_a_crash(request: dict[str, Any]) -> None:
    """Every fault says what is wrong and what would be right, in text that any terminal takes."""
    for fault in RequestChecker(region="eu-central-1").explain(request):
        assert fault.wrong
        assert fault.right
        str(fault).encode()


@given(st.one_of(valid_requests(), any_requests()))
def test_json_schema_and_checks_agree(request: dict[str, Any]) -> None:
    """A request breaks the published JSON Schema exactly when it breaks the checks (the ARNs' agreement aside)."""
    checker = RequestChecker(own_tag=False)
    if any(value is None or isinstance(value, float) for value in _leaves(request)) or "var" in request:
        return  # null members and 1.0 as an integer are JSON Schema's own business
    is_valid = jsonschema.Draft202012Validator(_anchored(json_schema())).is_valid(request)
    assert is_valid == (not checker._faults(request))


@given(valid_requests(), st.randoms())
def test_canonical_ignores_the_order_of_members(request: dict[str, Any], random: Random) -> None:
    """Equal requests have one spelling, and it reads back equal."""
    names = list(request)
    random.shuffle(names)
    assert canonical({name: request[name] for name in names}) == canonical(request)
    assert read_json(canonical(request).decode()) == request


@given(valid_requests())
def test_null_members_count_as_absent(request: dict[str, Any]) -> None:
    """A null for an optional member is no fault, and is dropped."""
    nulls = {
        "description": None,
        "environment": None,
        "resourceConfig": request["resourceConfig"] | {"instanceCount": None},
    }
    given_nulls = request | nulls
    assert RequestChecker().explain(given_nulls) == []
    assert without_nulls(given_nulls) == {
        name: {k: v for k, v in value.items() if v is not None} if name == "resourceConfig" else value
        for name, value in given_nulls.items()
        if value is not None
    }


@given(JSON_VALUES)
def test_read_json_reads_what_json_writes(value: Any) -> None:  # noqa: ANN401 - JSON
    """The strict reader takes all honest JSON."""
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        return
    assert read_json(text) == value


def _leaves(value: object) -> Iterator[object]:
    children = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else None
    if children is None:
        yield value
    for child in children or ():
        yield from _leaves(child)


def _anchored(schema: Any) -> Any:  # noqa: ANN401 - JSON
    r"""ECMA-262's `$` is Python's `\Z`, and jsonschema searches with Python's."""
    if isinstance(schema, dict):
        return {
            key: f"{value.removesuffix('$')}\\Z" if key == "pattern" and value.endswith("$") else _anchored(value)
            for key, value in schema.items()
        }
    return [_anchored(item) for item in schema] if isinstance(schema, list) else schema


@pytest.mark.parametrize("text", ["[1", '{"a":1,"a":1}', "NaN", '"\\ud800"', "", "[" * 100_000, "1" * 5000])
def test_read_json_refuses_the_rest_with_its_own_error(text: str) -> None:
    """Nothing but JsonError leaves it."""
    with pytest.raises(ValueError, match="character"):
        read_json(text)
