"""When a batch will be done: what ledgers tell of jobs' times, the doubt about it, and futures drawn from both."""
