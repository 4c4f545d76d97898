"""What a person can do about a refusal of the service: the IAM action to allow, the quota to raise. Pure words.

Which refusal is which is decided in `cleanrooms.responses`; nothing is decided here.
"""

import re
from collections.abc import Mapping

from batchsubmit.aws import CLOCK
from batchsubmit.core.jobs import Denied, Forbidden, RefusalCause
from batchsubmit.text import printable

POLICY = "batchsubmit policy submit"
"""The command that prints the policy for all that `submit` calls, one action a line."""
QUOTA_SERVICE = "cleanrooms-ml"
"""The service's code in Service Quotas."""

_LISTED_BY_INIT = frozenset(
    {"ListMemberships", "ListTrainedModels", "ListMLInputChannels", "ListConfiguredModelAlgorithmAssociations"}
)
_ACTION = re.compile(r"not authorized to perform:? ([\w-]+:\w+)")
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})


def forbidden_words(operation: str, refusal: Denied | Forbidden) -> str:
    """Say what was refused and how to fix it; the service's own words come first."""
    said = f"{operation}: {refusal.code}: {refusal.message}".rstrip(".: ")
    if refusal.cause is RefusalCause.DENIED:
        named = _ACTION.search(refusal.message)  # a Start may lack TagResource, say
        service = "cleanrooms" if operation == "ListMemberships" else QUOTA_SERVICE
        action = named[1] if named else f"{service}:{operation}"
        policy = "batchsubmit policy cancel" if operation.startswith("Cancel") else POLICY
        policy = "batchsubmit policy init" if operation in _LISTED_BY_INIT else policy
        return f"{said}. Allow {action}, a line of what {policy} prints"
    if refusal.cause is RefusalCause.WRONG_ENDPOINT:
        return said  # and it asks for the endpoint itself
    if refusal.message.startswith(CLOCK):
        return f"{refusal.message} ({operation}: {refusal.code})"
    if refusal.code in _EXPIRED:
        return f"{said}. The credentials have expired: renew them (aws sso login, or a new session of the role)"
    return f"{said}. The credentials are not accepted: aws sts get-caller-identity shows whose they are"


def denied_words(message: str) -> str:
    """The service's words about a job that it denied; which permission may be missing, where they do not name it."""
    to_start = (
        f"allow {QUOTA_SERVICE}:StartTrainedModelInferenceJob on the trained model, the ML input channel and the "
        "association, and cleanrooms:PassMembership on the membership"
    )
    return message if _ACTION.search(message) else f"{message.rstrip('. ')}; {to_start}".lstrip("; ")


QUOTA_REQUEST = (
    f"aws service-quotas request-service-quota-increase --service-code {QUOTA_SERVICE} --quota-code CODE "
    "--desired-value N, with L-0F77DDDB for a membership and L-249F4B83 for an account"
)
"""How to ask for more slots; the codes are in AWS's "Quotas for Clean Rooms ML"."""


def codes_words(codes: Mapping[str, int]) -> str:
    """Say how many jobs ended badly for which code, the most frequent first."""
    return printable(", ".join(f"{code} {count:,}" for code, count in sorted(codes.items(), key=lambda pair: -pair[1])))


def quota_words(name: str, limit: float | None) -> str:
    """Say which quota it is, by the service's own name where it gave one, and how high."""
    quota = f"the quota {name!r}" if name else "the quota of jobs pending or running at once"
    return quota if limit is None else f"{quota} of {limit:g}"
