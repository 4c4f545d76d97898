"""Which answer of the service means what: the reaction table, from status, code and members alone."""

from datetime import UTC, datetime

import pytest
from botocore.retries.standard import ThrottledRetryableChecker, TransientRetryableChecker
from conftest import job_arn, job_named
from strategies import MEMBERSHIP

from batchsubmit.aws import THROTTLING_CODES
from batchsubmit.cleanrooms.responses import (
    TRANSIENT_CODES,
    read_details,
    read_page,
    read_refusal,
    read_retry_after,
    read_start,
)
from batchsubmit.core.jobs import (
    Accepted,
    Conflicted,
    Denied,
    Forbidden,
    InvalidRequest,
    OtherQuotaExceeded,
    QuotaExceeded,
    RefusalCause,
    Result,
    Throttled,
    Uncertain,
)


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
        (503, "SlowDown", Uncertain),
        (503, "RequestLimitExceeded", Uncertain),
        (409, "ConflictException", Conflicted),
        (409, "409", Conflicted),
        (400, "ValidationException", InvalidRequest),
        (400, "SerializationException", Forbidden),
        (404, "ResourceNotFoundException", InvalidRequest),
        (403, "AccessDeniedException", Denied),
        (400, "AccessDeniedException", Denied),
        (403, "AccessDenied", Denied),
        (403, "ExpiredTokenException", Forbidden),
        (400, "ExpiredTokenException", Forbidden),
        (400, "ExpiredToken", Forbidden),
        (403, "UnrecognizedClientException", Forbidden),
        (403, "InvalidSignatureException", Forbidden),
        (403, "SomethingNew", Denied),
        (403, "SubscriptionRequiredException", Forbidden),
        (400, "SubscriptionRequired", Forbidden),
        (403, "OptInRequired", Forbidden),
        (403, "RequestTimeTooSkewed", Forbidden),
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
        (400, "RequestTimeout", Uncertain),
        (400, "RequestTimeoutException", Uncertain),
        (400, "RequestAborted", Uncertain),
        (400, "PriorRequestNotComplete", Uncertain),
        (503, "ThrottlingException", Uncertain),
        (404, "UnknownOperationException", Forbidden),
        (404, "UnknownOperation", Forbidden),
        (404, "NoSuchBucket", Forbidden),
        (405, "MethodNotAllowed", Forbidden),
        (307, "TemporaryRedirect", Forbidden),
        (400, "MalformedHttpRequestException", Forbidden),
        (200, "Unheard", Uncertain),
        (302, "302", Forbidden),
        (0, "", Uncertain),
    ],
)
def test_status_and_code_decide_the_reaction(status: int, code: str, meaning: type[Result]) -> None:
    """What nobody can be sure of is uncertain; an error without a code of AWS's comes from something else."""
    assert type(read_refusal(status, code, "words", {})) is meaning


@pytest.mark.parametrize(
    ("status", "code", "cause"),
    [
        (403, "ExpiredTokenException", RefusalCause.CALLER),
        (401, "Unheard", RefusalCause.CALLER),
        (407, "407", RefusalCause.WRONG_ENDPOINT),
        (403, "403", RefusalCause.WRONG_ENDPOINT),
        (404, "UnknownOperationException", RefusalCause.WRONG_ENDPOINT),
        (400, "SerializationException", RefusalCause.WRONG_ENDPOINT),
    ],
)
def test_what_stops_every_job_is_the_caller_or_the_endpoint(status: int, code: str, cause: RefusalCause) -> None:
    """And that is decided here, once."""
    outcome = read_refusal(status, code, "words", {})
    assert isinstance(outcome, Forbidden)
    assert outcome.cause is cause
    assert ("is the endpoint Clean Rooms ML?" in outcome.message) == (cause is RefusalCause.WRONG_ENDPOINT)


def test_a_throttling_5xx_is_uncertain_and_says_that_it_throttles() -> None:
    """It may follow acceptance, and we call too often all the same."""
    outcome = read_refusal(503, "SlowDown", "words", {}, retry_after_seconds=3)
    assert outcome == Uncertain("503 SlowDown: words", 3, is_throttling=True)


SLOTS = "Pending/in-progress custom model inference jobs per membership"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (SLOTS, QuotaExceeded),
        ("Pending/in-progress custom model inference jobs per account", QuotaExceeded),
        ("L-0F77DDDB", QuotaExceeded),
        (None, QuotaExceeded),
        ("", QuotaExceeded),
        (5, QuotaExceeded),
        ("Data access budget", OtherQuotaExceeded),
        ("Pending/in-progress custom model training jobs per account", OtherQuotaExceeded),
    ],
)
def test_a_402_is_about_slots_where_its_quota_names_inference_jobs_or_none(name: object, kind: type[Result]) -> None:
    """Whatever else was used up, no freed slot helps."""
    outcome = read_refusal(402, "ServiceQuotaExceededException", "", {"quotaName": name, "quotaValue": 0})
    assert type(outcome) is kind


NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 7 "}, 7),
        ({"retry-after": "86400"}, 60),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "\u0665"}, 0),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:09 GMT"}, 9),
        ({"retry-after": "Mon, 23 Nov 2026 11:00:00 GMT"}, 0),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:09"}, 0),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date_and_bounded(headers: dict[str, str], seconds: float) -> None:
    """What cannot be read is no wait."""
    assert read_retry_after(headers, NOW) == seconds


def test_every_transient_code_that_botocore_knows_is_uncertain() -> None:
    """A library update that adds a spelling fails here."""
    codes = {code.removesuffix("Exception") for code in TransientRetryableChecker._TRANSIENT_ERROR_CODES}
    assert codes <= TRANSIENT_CODES


def test_the_service_s_own_words_are_kept() -> None:
    """For the ledger and the person."""
    assert read_refusal(400, "ValidationException", "the reason", {}) == InvalidRequest(
        "ValidationException", "the reason"
    )
    uncertain = read_refusal(500, "InternalServerException", "the reason", {})
    assert isinstance(uncertain, Uncertain)
    assert "500" in uncertain.reason
    assert "the reason" in uncertain.reason


@pytest.mark.parametrize(("value", "known"), [(5.0, 5.0), (5, 5.0), (None, None), ("five", None)])
def test_a_quota_is_learned_where_the_service_names_it(value: object, known: float | None) -> None:
    """Whatever the value looks like, it is a number or nothing."""
    outcome = read_refusal(402, "ServiceQuotaExceededException", "", {"quotaName": SLOTS, "quotaValue": value})
    assert outcome == QuotaExceeded("ServiceQuotaExceededException", "", SLOTS, known)


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
