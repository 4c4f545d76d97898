"""What is said of a run or a ledger: summary, report page, export."""
