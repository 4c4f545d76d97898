"""Items and changes in DynamoDB's own words. Pure."""

from collections.abc import Mapping
from typing import Any

from batchsubmit.ledger.table import Address, Change, Item, Value

_ADDRESS = frozenset({"pk", "sk", "write"})


def write_address(address: Address) -> dict[str, Any]:
    """An item's key."""
    return {"pk": {"S": address.pk}, "sk": {"S": address.sk}}


def read_item(attributes: Mapping[str, Any]) -> Item:
    """An item without its key and the token of its last write."""
    return {name: _read(value) for name, value in attributes.items() if name not in _ADDRESS}


def update(table: str, address: Address, follows: int, change: Change, token: str) -> dict[str, Any]:
    """The one UpdateItem that makes a change to the version it follows, and to no other."""
    values: dict[str, Value] = {"version": follows + 1, "write": token, **change.set}
    sets = [f"#{name} = :{name}" for name in values]
    sets += [f"#{name} = list_append(if_not_exists(#{name}, :none), :{name})" for name in change.append]
    removes = [f"#{name}" for name in change.remove]
    values |= change.append
    if change.append:
        values["none"] = []
    expression = f"SET {', '.join(sets)}" + (f" REMOVE {', '.join(removes)}" if removes else "")
    names = {f"#{name}": name for name in (*values, *change.remove) if name != "none"}
    if follows:
        values["follows"] = follows
    else:
        names["#pk"] = "pk"
    return {
        "TableName": table,
        "Key": write_address(address),
        "UpdateExpression": expression,
        "ConditionExpression": "#version = :follows" if follows else "attribute_not_exists(#pk)",
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": {f":{name}": _write(value) for name, value in values.items()},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def _write(value: Value) -> dict[str, Any]:
    match value:
        case bool():
            return {"BOOL": value}
        case int():
            return {"N": str(value)}
        case str():
            return {"S": value}
        case _:
            return {"L": [_write(each) for each in value]}


def _read(attribute: Mapping[str, Any]) -> Any:  # noqa: ANN401 (as it was written)
    ((kind, value),) = attribute.items()
    match kind:
        case "N":
            return int(value)
        case "L":
            return [_read(each) for each in value]
        case _:
            return value
