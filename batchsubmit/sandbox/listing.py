"""The `nextToken` of List: opaque to the caller, and good only for the query it came from.

It must not know the jobs, only the id of the last one shown.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any

from batchsubmit.sandbox.refusals import Refusal


def query_of(request: Mapping[str, Any]) -> list[Any]:
    """Return what a token is bound to: the membership and the filters."""
    return [
        request["membershipIdentifier"],
        request.get("trainedModelArn"),
        request.get("trainedModelVersionIdentifier"),
    ]


def write(serial: int, last: str, query: list[Any]) -> str:
    """Return the token of the page behind the job `last`.

    `serial` makes every token another one: botocore's paginators take a token seen twice for an endless loop.
    """
    return base64.urlsafe_b64encode(json.dumps([serial, last, *query]).encode()).decode()


def read(token: str | None, query: list[Any]) -> str:
    """Return the id that the page begins behind; no token begins at the beginning."""
    if token is None:
        return ""
    try:
        _, last, *bound_to = json.loads(base64.b64decode(token.encode(), altchars=b"-_", validate=True))
        if bound_to == query and isinstance(last, str):
            return last
    except (ValueError, TypeError, RecursionError):
        pass
    raise Refusal("ValidationException", "nextToken is not valid for this request.")
