"""The engine: takes jobs, waits for slots and the rate, makes each call once, and records what it brought."""
