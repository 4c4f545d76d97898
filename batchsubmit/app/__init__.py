"""Assembly: a module for each thing that a command does; it opens what is needed and puts it together.

`run` and `worker_run` keep the account of a run and a worker; `progress` and `worker_status` show how they go.
`shutdown` bounds how long a worker may take to end, and `after_run` writes and sends what follows a run.
"""
