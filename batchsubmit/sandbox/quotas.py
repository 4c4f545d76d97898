"""Who holds how many slots, and whether one more is allowed. It must not know jobs, requests or time."""

from collections import Counter
from typing import Final

from batchsubmit.sandbox.refusals import over_quota

MEMBERSHIP_QUOTA: Final = "Pending/in-progress custom model inference jobs per membership"  # L-0F77DDDB
ACCOUNT_QUOTA: Final = "Pending/in-progress custom model inference jobs per account"  # L-249F4B83


class Slots:
    """Counts of held slots, kept as jobs come and go, with the most that were ever held at once."""

    def __init__(self) -> None:
        self.by_membership: Counter[str] = Counter()
        self.by_account: Counter[str] = Counter()
        self.most_by_membership: Counter[str] = Counter()
        self.most_by_account: Counter[str] = Counter()

    def take(self, membership: str, account: str, *, per_membership: int, per_account: int) -> None:
        """Take one slot or raise the refusal. A quota of 0 is none."""
        if per_membership and self.by_membership[membership] >= per_membership:
            raise over_quota(MEMBERSHIP_QUOTA, per_membership)
        if per_account and self.by_account[account] >= per_account:
            raise over_quota(ACCOUNT_QUOTA, per_account)
        _count_one(self.by_membership, self.most_by_membership, membership)
        _count_one(self.by_account, self.most_by_account, account)

    def release(self, membership: str, account: str) -> None:
        """Give one slot back."""
        self.by_membership[membership] -= 1
        self.by_account[account] -= 1


def _count_one(held: Counter[str], most: Counter[str], who: str) -> None:
    held[who] += 1
    most[who] = max(most[who], held[who])
