"""Submit many AWS Clean Rooms ML trained-model inference jobs, each exactly once, at the pace the quota allows."""

__version__ = "0.1.0"
