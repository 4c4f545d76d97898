"""The health of a worker over HTTP, and the check of it."""
