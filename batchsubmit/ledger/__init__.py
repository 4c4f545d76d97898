"""The ledger: what was about to happen and what happened, written down before anyone relies on it."""
