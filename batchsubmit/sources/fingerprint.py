"""All that decides which jobs a manifest has and which of its rows are good, as one digest.

What `check_manifest` takes or relies on must be in it: two checks of one fingerprint have one inventory.
"""

import hashlib
import sys
from dataclasses import replace

import msgspec

from batchsubmit import __version__
from batchsubmit.config import Settings
from batchsubmit.schema.model import request_shape
from batchsubmit.sources.inventory import Terms
from batchsubmit.sources.spool import Spooled


def fingerprint(spooled: Spooled, settings: Settings, *, region: str | None, terms: Terms) -> str:
    """Digest a manifest's bytes and the terms of its check: arguments as of `check_manifest`."""
    parts = {
        "manifest": spooled.sha256,
        "format": spooled.format,
        "defaults": settings.defaults,
        "tag_jobs": settings.submit.tag_jobs,
        "region": region,
        "foreign_arns": settings.checks.foreign_arns,
        "terms": replace(terms, moment=_used(terms, settings)),
        # The code that checks, and what it checks by: a newer botocore may know more instance types.
        "model": request_shape(),
        "batchsubmit": __version__,
        "python": sys.version,
    }
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


def _used(terms: Terms, settings: Settings) -> dict[str, str]:
    """The place-holders of the moment that a default may hold: without them, any other moment has the same jobs."""
    defaults = str(settings.defaults)
    return {name: value for name, value in terms.moment.items() if f"{{{name}}}" in defaults}
