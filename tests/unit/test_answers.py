"""Which answer of the service means what: the reaction table, from status, code and members alone."""

from datetime import UTC, datetime

import pytest
from botocore.retries.standard import ThrottledRetryableChecker
from conftest import job_arn, job_named
from strategies import MEMBERSHIP

from batchsubmit.aws import THROTTLING_CODES
from batchsubmit.cleanrooms.answers import read_details, read_page, read_refusal, read_start
from batchsubmit.jobs import Accepted, Conflicted, Forbidden, Outcome, QuotaExceeded, Rejected, Throttled, Uncertain


@pytest.mark.parametrize(
    ("status", "code", "meaning"),
    [
        (402, "ServiceQuotaExceededException", QuotaExceeded),
        (402, "", QuotaExceeded),
        (429, "ThrottlingException", Throttled),
        (429, "TooManyRequestsException", Throttled),
        (429, "429", Throttled),
        (429, "", Throttled),
        (400, "Throttling", Throttled),
        (400, "ThrottlingException", Throttled),
        (503, "SlowDown", Throttled),
        (503, "RequestLimitExceeded", Throttled),
        (409, "ConflictException", Conflicted),
        (409, "409", Conflicted),
        (400, "ValidationException", Rejected),
        (400, "SerializationException", Rejected),
        (404, "ResourceNotFoundException", Rejected),
        (403, "AccessDeniedException", Forbidden),
        (403, "ExpiredTokenException", Forbidden),
        (400, "ExpiredTokenException", Forbidden),
        (400, "ExpiredToken", Forbidden),
        (403, "UnrecognizedClientException", Forbidden),
        (403, "InvalidSignatureException", Forbidden),
        (403, "SomethingNew", Forbidden),
        (401, "", Forbidden),
        (407, "407", Forbidden),
        (404, "404", Forbidden),
        (400, "", Forbidden),
        (405, "405", Forbidden),
        (500, "InternalServerException", Uncertain),
        (503, "ServiceUnavailable", Uncertain),
        (502, "502", Uncertain),
        (504, "", Uncertain),
        (408, "RequestTimeoutException", Uncertain),
        (408, "", Uncertain),
        (200, "Unheard", Uncertain),
        (302, "302", Forbidden),
        (0, "", Uncertain),
    ],
)
def test_status_and_code_decide_the_reaction(status: int, code: str, meaning: type[Outcome]) -> None:
    """What nobody can be sure of is uncertain; an error without a code of AWS's comes from something else."""
    assert type(read_refusal(status, code, "words", {})) is meaning


def test_the_service_s_own_words_are_kept() -> None:
    """For the ledger and the person."""
    assert read_refusal(400, "ValidationException", "the reason", {}) == Rejected("ValidationException", "the reason")
    uncertain = read_refusal(500, "InternalServerException", "the reason", {})
    assert isinstance(uncertain, Uncertain)
    assert "500" in uncertain.reason
    assert "the reason" in uncertain.reason


@pytest.mark.parametrize(("value", "known"), [(5.0, 5.0), (5, 5.0), (None, None), ("five", None)])
def test_a_quota_is_learned_where_the_service_names_it(value: object, known: float | None) -> None:
    """Whatever the value looks like, it is a number or nothing."""
    outcome = read_refusal(402, "ServiceQuotaExceededException", "", {"quotaName": "q", "quotaValue": value})
    assert outcome == QuotaExceeded("ServiceQuotaExceededException", "", "q", known)


def test_every_throttling_code_that_botocore_knows_is_known_here() -> None:
    """A library update that adds a spelling fails here, not in a night's run."""
    theirs = set(ThrottledRetryableChecker._THROTTLED_ERROR_CODES)
    assert theirs <= THROTTLING_CODES


def test_an_arn_of_this_membership_is_acceptance() -> None:
    """As the service gives it."""
    arn = job_arn("1")
    assert read_start(job_named("a"), {"trainedModelInferenceJobArn": arn}) == Accepted(arn)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"trainedModelInferenceJobArn": None},
        {"trainedModelInferenceJobArn": 5},
        {"trainedModelInferenceJobArn": ""},
        {"trainedModelInferenceJobArn": job_arn("1", membership="another")},
        {"trainedModelInferenceJobArn": f"arn:aws:cleanrooms-ml:x:1:membership/{MEMBERSHIP}/trained-model/1"},
    ],
)
def test_a_good_status_without_our_arn_is_uncertain(answer: dict[str, object]) -> None:
    """Something answered; that it was the service is not certain."""
    assert isinstance(read_start(job_named("a"), answer), Uncertain)


SUMMARY = {
    "trainedModelInferenceJobArn": "arn",
    "name": "a",
    "status": "ACTIVE",
    "createTime": datetime(2026, 11, 23, tzinfo=UTC),
}


@pytest.mark.parametrize(("token", "known"), [(None, None), ("", None), ("more", "more")])
def test_a_page_has_its_jobs_and_perhaps_a_token(token: str | None, known: str | None) -> None:
    """An empty token is none: asking with it would begin again for ever."""
    page = read_page({"trainedModelInferenceJobs": [SUMMARY], "nextToken": token})
    assert page.next_token == known
    [job] = page.jobs
    assert (job.arn, job.name, job.status, job.created_at) == ("arn", "a", "ACTIVE", SUMMARY["createTime"])


@pytest.mark.parametrize("missing", list(SUMMARY))
def test_a_page_that_lacks_a_member_is_no_page(missing: str) -> None:
    """The client turns this into an uncertain outcome."""
    broken = {name: value for name, value in SUMMARY.items() if name != missing}
    with pytest.raises(KeyError):
        read_page({"trainedModelInferenceJobs": [broken]})
    with pytest.raises(KeyError):
        read_page({})


def test_details_give_the_request_as_it_could_have_been_sent() -> None:
    """Tags apart, and nothing that only the service says."""
    job = job_named("a", description="d")
    answer = {
        **job.request,
        "trainedModelInferenceJobArn": "arn",
        "status": "CREATE_FAILED",
        "statusDetails": {"message": "boom", "statusCode": "X"},
        "tags": {"batchsubmit:key": "k"},
        "createTime": SUMMARY["createTime"],
        "collaborationIdentifier": "c",
    }
    details = read_details(answer)
    assert (details.arn, details.status, details.message) == ("arn", "CREATE_FAILED", "boom")
    assert details.tags == {"batchsubmit:key": "k"}
    assert details.request == job.request


def test_details_without_words_or_tags_have_none() -> None:
    """Both members are optional."""
    details = read_details({"trainedModelInferenceJobArn": "arn", "status": "ACTIVE"})
    assert (details.message, details.tags) == ("", {})
