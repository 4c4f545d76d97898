"""A ledger against itself (`soundness`) and against the service (`service`)."""
