"""The commands: the one place that prints to people, catches what was raised, and chooses an exit status."""
