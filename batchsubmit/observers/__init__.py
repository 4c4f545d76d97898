"""Observers of a run: logs, counts, progress, metrics. They get each event after the ledger has it."""
