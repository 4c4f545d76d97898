"""The manifest's columns, as `batchsubmit schema` lists them."""

import pytest

from batchsubmit.schema import columns
from batchsubmit.schema.columns import find_place, nearest_name


def test_each_leaf_of_the_request_is_a_column() -> None:
    """With place-holders for keys, and the ones that every row needs marked."""
    by_name = {column.name: column for column in columns()}
    assert {name for name, column in by_name.items() if column.required} == {
        "membershipIdentifier",
        "name",
        "trainedModelArn",
        "resourceConfig.instanceType",
        "outputConfiguration.members.0.accountId",
        "dataSource.mlInputChannelArn",
    }
    assert {"environment.KEY", "tags.KEY", "containerExecutionParameters.maxPayloadInMB"} <= set(by_name)
    assert by_name["resourceConfig.instanceCount"].type == "integer"
    assert by_name["resourceConfig.instanceCount"].bounds == "1 to 10"
    assert by_name["tags.KEY"].bounds.endswith("at most 50 keys")
    assert "ml.m5.large" in by_name["resourceConfig.instanceType"].bounds
    assert by_name["name"].meaning == "The name of the trained model inference job."
    assert all(column.meaning and "<" not in column.meaning for column in columns())


@pytest.mark.parametrize(
    "name",
    [
        "",
        "nam",
        "name.x",
        "tags.",
        "resourceConfig.",
        "outputConfiguration.members.1.accountId",
        "outputConfiguration.members.00",
    ],
)
def test_what_is_no_member_has_no_place(name: str) -> None:
    """Indexes beyond the list's maximum included."""
    assert find_place(name) is None


def test_a_key_may_hold_dots() -> None:
    """All that follows a map's name is the key."""
    place = find_place("tags.cost.centre")
    assert place is not None
    assert place.steps == ("tags", "cost.centre")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("trainedModelARN", "trainedModelArn"),
        ("instanceType", "resourceConfig.instanceType"),
        ("accountid", "outputConfiguration.members.0.accountId"),
        ("resourceConfig.instanceTyp", "resourceConfig.instanceType"),
        ("colour", None),
    ],
)
def test_the_nearest_name_is_offered(wrong: str, right: str | None) -> None:
    """By spelling, by case, or by the last part alone."""
    assert nearest_name(wrong) == right
