"""The in-memory side of the seam `ledger.items.Table`."""

from collections.abc import AsyncIterator, Collection

from batchsubmit.ledger.items import Address, ConflictError, Item


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

    async def scan(self) -> AsyncIterator[dict[Address, Item]]:
        """Read all."""
        yield {address: dict(self.items[address]) for address in sorted(self.items)}

    async def write(self, address: Address, follows: int, values: Item) -> Item:
        """Set attributes of an item that has this version."""
        item = self.items.get(address, {})
        if follows != item.get("version", 0):
            raise ConflictError(address, dict(item) or None)
        self.items[address] = item | values | {"version": follows + 1}
        return dict(self.items[address])
