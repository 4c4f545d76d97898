"""The seam under the shared ledger: a table of versioned items, each changed by compare-and-swap and by nothing else.

`dynamodb.DynamoTable` is the real side, `MemoryTable`, here, the one for tests and simulations; both pass the same
contract tests. That every write names the version it follows is what makes late and repeated writes harmless.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

from batchsubmit.errors import StoppedError

Value: TypeAlias = str | int | bool | list[str] | list[int]
Item: TypeAlias = dict[str, Value]
"""The attributes of one item, without its address. `version` counts its writes and is the table's own."""


def version_of(item: Item | None) -> int:
    """The version that a write to this item follows; 0 where there is none."""
    return int(str(item["version"])) if item else 0


class Address(NamedTuple):
    """An item's partition key and sort key."""

    pk: str
    sk: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one write does to an item, all of it or nothing."""

    set: Mapping[str, Value] = field(default_factory=dict)
    append: Mapping[str, list[str]] = field(default_factory=dict)
    remove: tuple[str, ...] = ()


class ConflictError(Exception):
    """The item does not have the version that a write was to follow; nothing was written. `item` is what there is."""

    def __init__(self, address: Address, item: Item | None) -> None:
        super().__init__(f"{address.pk} was changed by another")
        self.item = item


class MissingTableError(StoppedError):
    """There is no such table, or not any more."""


class Table(Protocol):
    """Versioned items. All raise StoppedError where the table can no longer be relied on."""

    async def get(self, address: Address) -> Item | None:
        """Read an item as it is now."""
        ...

    async def get_many(self, addresses: Collection[Address]) -> dict[Address, Item]:
        """Read those of the items that exist, each as it is now."""
        ...

    async def write(self, address: Address, follows: int, change: Change) -> None:
        """Change an item that has this version, 0 for one that does not exist. Durable on return.

        Raises ConflictError.
        """
        ...


class MemoryTable:
    """Items in a dict."""

    def __init__(self) -> None:
        self.items: dict[Address, Item] = {}

    async def get(self, address: Address) -> Item | None:
        """Read an item."""
        item = self.items.get(address)
        return None if item is None else dict(item)

    async def get_many(self, addresses: Collection[Address]) -> dict[Address, Item]:
        """Read those that exist."""
        return {address: dict(self.items[address]) for address in addresses if address in self.items}

    async def write(self, address: Address, follows: int, change: Change) -> None:
        """Change an item that has this version."""
        item = self.items.get(address)
        if follows != version_of(item):
            raise ConflictError(address, None if item is None else dict(item))
        after: Item = dict(item or {}) | dict(change.set)
        for name, values in change.append.items():
            before = (item or {}).get(name, [])
            assert isinstance(before, list)  # noqa: S101 (a list is appended to)
            after[name] = [*map(str, before), *values]
        for name in change.remove:
            after.pop(name, None)
        after["version"] = follows + 1
        self.items[address] = after
