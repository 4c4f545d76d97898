"""The Python API: jobs in, outcomes out. What is exported at the top of the package is documented in the README."""
