"""How the rows of a manifest stand by a ledger: before a run, in its account, and which are new to it. Pure."""
