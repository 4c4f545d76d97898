"""Assembly: one module for each thing that a command does; it opens what is needed and hands it to those who work.

`submitting`, `worker`, `enqueuing`, `planning`, `inspection` (verify), `recall` (cancel) and `mending` (the failed
rows) are such. `run` and `shift` are what a run and a worker account for, `workplace` is where sources are worked off,
`view`, `vigil` and `health` show how it goes, `grace` is how long a worker may take to end, and `afterwards` is what
follows.
"""
