"""Assembly: a module for each command that opens much; it puts together what the command needs.

`run` keeps the account of a run, and `after_run` writes and sends what follows a run.
"""
