"""What a person can do: about a refusal of the service, about jobs that failed, and after a run. Pure words.

Which refusal is which is decided in `cleanrooms.responses`; nothing is decided here.
"""

import re
from collections.abc import Mapping

from batchsubmit.aws import CLOCK
from batchsubmit.core.job_states import CANCELLED_STATUS, LOG_GROUP
from batchsubmit.core.jobs import INVALID_ROW, Denied, Forbidden, RefusalCause
from batchsubmit.core.ledger_state import Counts
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
_BOUND_BY_QUOTA = frozenset({"", "deadline"})
"""Ways to end in which more slots would have helped."""


def more_slots(counts: Counts, stop_reason: str, quotas: str) -> str:
    """How to ask for more slots, after a run that was refused some; empty where they would not have helped."""
    if not counts.pending or stop_reason not in _BOUND_BY_QUOTA:
        return ""
    return f"jobs wait because all slots of {quotas} are taken; to ask for more: {QUOTA_REQUEST}"


def codes_words(codes: Mapping[str, int]) -> str:
    """Say how many jobs ended badly for which code, the most frequent first."""
    return printable(", ".join(f"{code} {count:,}" for code, count in sorted(codes.items(), key=lambda pair: -pair[1])))


def quota_words(name: str, limit: float | None) -> str:
    """Say which quota it is, by the service's own name where it gave one, and how high."""
    quota = f"the quota {name!r}" if name else "the quota of jobs pending or running at once"
    return quota if limit is None else f"{quota} of {limit:g}"


FAILURE_ADVICE = {
    INVALID_ROW: "Fix the rows: batchsubmit export LEDGER --failed-manifest MANIFEST writes them as a manifest.",
    "ValidationException": "The request is wrong: fix its row and submit it again, which makes it a new job.",
    "ResourceNotFoundException": "Something that the row names does not exist, in this region and account at least.",
    "AccessDeniedException": "The role may not use what the row names: allow it, then submit with --retry-failed.",
    "ConflictException": "The service was busy with something of the same name: submit again with --retry-failed.",
    "InputUnusable": "The trained model or the channel can not be used: make another and name it in the rows.",
    "NoAnswer": "None of the calls was accepted, as lookups proved: submit again with --retry-failed.",
    "CREATE_FAILED": "The job was accepted and failed while it ran: fix its row, or give it another --batch-id. "
    f"Its container's logs are in the CloudWatch log group {LOG_GROUP}.",
    "CANCEL_FAILED": "Someone cancelled the job, and cancelling failed: look at it in the console.",
    CANCELLED_STATUS: "Someone cancelled the job; another --batch-id submits it again.",
}
"""What to do about jobs that failed, by their code or, where they ran, their status."""

_GO_ON = "run the same command again to go on"
_STEPS = {
    "ledger_lost": "put the ledger right as said above, then run the same command again",
    "canary": "fix the cause; the same command with --retry-failed then sends the canaries again, before the rest; "
    "without --canary it sends the rest alone",
    "failures": "batchsubmit status LEDGER says what failed; fix that, then the same command goes on with the rest "
    "(and counts failures from 0), and batchsubmit retry LEDGER sends the failed jobs again",
}
"""Where the same command alone would stop as before."""


def next_step(counts: Counts, stop_reason: str, *, unknown: int, not_seen_to_end: int) -> str:
    """What is to be done first; empty where nothing is."""
    if stop_reason:
        looked_up = "; the unknown jobs are looked up first" if unknown else ""
        return _STEPS.get(stop_reason, f"{_GO_ON}{looked_up}")
    if unknown:
        return (
            "the lookup of the unknown jobs failed. Let the role call "
            "cleanrooms-ml:ListTrainedModelInferenceJobs and GetTrainedModelInferenceJob and run the same command "
            "again; or look for the names in the console, and send those that do not run there with --resubmit-unknown"
        )
    if counts.pending:
        return _GO_ON
    if not_seen_to_end:
        return "the service shows some jobs no longer; batchsubmit verify LEDGER names them"
    if not (counts.rejected or counts.failed or counts.cancelled):
        return ""
    logs = f"; batchsubmit logs LEDGER prints their logs (CloudWatch log group {LOG_GROUP})" if counts.failed else ""
    again = "; batchsubmit retry LEDGER sends them again" if counts.rejected or counts.failed else ""
    paid = " (those that ran are paid again)" if counts.failed else ""
    return f"batchsubmit status LEDGER lists them{logs}{again}{paid}"
