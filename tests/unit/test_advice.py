"""What a refusal says that a person can do about it."""

import pytest

from batchsubmit.advice import POLICY, denied_words, forbidden_words, quota_words
from batchsubmit.core.jobs import Denied, Forbidden, RefusalCause

START = "StartTrainedModelInferenceJob"


@pytest.mark.parametrize(
    ("message", "action"),
    [
        ("", "cleanrooms-ml:StartTrainedModelInferenceJob"),
        ("no", "cleanrooms-ml:StartTrainedModelInferenceJob"),
        (
            "User: x is not authorized to perform: cleanrooms-ml:TagResource on resource: y",
            "cleanrooms-ml:TagResource",
        ),
        ("is not authorized to perform: cleanrooms:PassMembership on resource: y", "cleanrooms:PassMembership"),
    ],
)
def test_the_missing_action_is_the_one_that_the_service_names_or_the_call_s(message: str, action: str) -> None:
    """A Start may lack TagResource; then to allow Start would mend nothing."""
    words = forbidden_words(START, Denied("AccessDeniedException", message))
    assert f"Allow {action}, a line of what {POLICY} prints" in words
    assert message in words


@pytest.mark.parametrize(
    ("code", "mend"),
    [
        ("ExpiredTokenException", "renew them"),
        ("RequestExpired", "renew them"),
        ("UnrecognizedClientException", "aws sts get-caller-identity"),
        ("SignatureDoesNotMatch", "aws sts get-caller-identity"),
    ],
)
def test_credentials_have_another_mend_than_permissions(code: str, mend: str) -> None:
    """No policy helps there."""
    words = forbidden_words(START, Forbidden(code, "said"))
    assert mend in words
    assert POLICY not in words


def test_what_is_no_aws_error_says_itself_what_it_is() -> None:
    """A proxy, or a wrong endpoint."""
    elsewhere = Forbidden("407", "no message; is the endpoint Clean Rooms ML?", RefusalCause.WRONG_ENDPOINT)
    words = forbidden_words(START, elsewhere)
    assert words == f"{START}: 407: no message; is the endpoint Clean Rooms ML?"


def test_a_quota_is_named_by_the_service_s_own_name() -> None:
    """With its value, where it told any."""
    assert quota_words("Pending jobs per membership", 5) == "the quota 'Pending jobs per membership' of 5"
    assert quota_words("", None) == "the quota of jobs pending or running at once"


def test_a_denial_that_names_no_permission_gets_the_ones_it_may_be() -> None:
    """In the ledger, and so on every surface; AWS's own words stay where they name it."""
    named = "User: x is not authorized to perform: cleanrooms-ml:StartTrainedModelInferenceJob on resource: y"
    assert denied_words(named) == named
    for said in ("", "Access denied."):
        assert denied_words(said).startswith(said.rstrip("."))
        assert "allow cleanrooms-ml:StartTrainedModelInferenceJob on the trained model" in denied_words(said)
