"""Submit many AWS Clean Rooms ML trained-model inference jobs, each exactly once, at the pace the quota allows.

The names below are loaded when they are asked for: `batchsubmit --help` imports this module too, and needs none.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchsubmit.api.batch import Batch, Report, open_batch, submit_jobs
    from batchsubmit.api.outcomes import Finished, Outcome, Rejected, Submitted, Unknown
    from batchsubmit.config import Settings, load_settings
    from batchsubmit.errors import BatchsubmitError, LedgerError, ManifestError, StoppedError, UsageError

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "BatchsubmitError",
    "Finished",
    "LedgerError",
    "ManifestError",
    "Outcome",
    "Rejected",
    "Report",
    "Settings",
    "StoppedError",
    "Submitted",
    "Unknown",
    "UsageError",
    "load_settings",
    "open_batch",
    "submit_jobs",
]


if not TYPE_CHECKING:  # else a misspelt name would pass for an object

    def __getattr__(name: str) -> object:
        for home in ("errors", "config", "api.outcomes", "api.batch") if name in __all__ else ():
            if found := getattr(import_module(f"batchsubmit.{home}"), name, None):
                return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
