"""Those who watch a run: logs, progress, metrics. They are told after the ledger and can hold nothing up."""
