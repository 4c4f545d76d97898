"""All jobs of one ledger by key, those that are settled packed small. Pure."""

from batchsubmit.book.fold import Book

__all__ = ["Book"]
