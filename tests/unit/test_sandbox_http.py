"""One call from its bytes to its answer, without a web server."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from batchsubmit.sandbox import FaultPlan, Faults, SandboxService, SandboxSettings
from batchsubmit.sandbox.faults import InjectedFault, ScriptedFault
from batchsubmit.sandbox.refusals import Operation
from batchsubmit.sandbox.server import Exchange, HttpAnswer, administer
from batchsubmit.sandbox.validation import Call

MEMBERSHIP = "11111111-2222-3333-4444-555555555555"
SCOPE = f"arn:aws:cleanrooms-ml:us-east-1:123456789012:membership/{MEMBERSHIP}"
PATH = f"/memberships/{MEMBERSHIP}/trained-model-inference-jobs"
BODY = {
    "name": "job",
    "trainedModelArn": f"{SCOPE}/trained-model/m",
    "resourceConfig": {"instanceType": "ml.m5.xlarge"},
    "outputConfiguration": {"members": [{"accountId": "123456789012"}]},
    "dataSource": {"mlInputChannelArn": f"{SCOPE}/ml-input-channel/c"},
}


class Wire:
    """A sandbox without a web server; the time stands still, until `now` is turned."""

    def __init__(self, *script: ScriptedFault, **settings: Any) -> None:  # noqa: ANN401
        self.now = 1_800_000_000.0
        self.service = SandboxService(SandboxSettings(**settings), lambda: self.now)
        self.faults = Faults(FaultPlan(script=script))
        self.exchange = Exchange(self.service, self.faults)

    def start(self, **more: Any) -> HttpAnswer:  # noqa: ANN401
        """Make a Start call."""
        return self.exchange.answer(Call(method="POST", path=PATH, body=json.dumps(BODY | more).encode()))

    def list(self, query: str = "") -> HttpAnswer:
        """Make a List call."""
        return self.exchange.answer(Call(method="GET", path=PATH, query=query))

    def administer(self, method: str, name: str, members: object = None) -> tuple[int, Any]:
        """Make a call at the back door."""
        body = json.dumps(members).encode() if members is not None else b""
        answer = administer(self.service, self.faults, method, f"/_sandbox/{name}", body)
        return answer.status_code, json.loads(answer.body)


BEFORE = [
    (InjectedFault.QUOTA, 402, "ServiceQuotaExceededException"),
    (InjectedFault.QUOTA_ACCOUNT, 402, "ServiceQuotaExceededException"),
    (InjectedFault.QUOTA_BARE, 402, "ServiceQuotaExceededException"),
    (InjectedFault.THROTTLED, 429, "ThrottlingException"),
    (InjectedFault.TOO_MANY_REQUESTS, 429, "TooManyRequestsException"),
    (InjectedFault.THROTTLING_400, 400, "Throttling"),
    (InjectedFault.REQUEST_LIMIT, 503, "RequestLimitExceeded"),
    (InjectedFault.SLOW_DOWN, 503, "SlowDown"),
    (InjectedFault.CONFLICT, 409, "ConflictException"),
    (InjectedFault.VALIDATION, 400, "ValidationException"),
    (InjectedFault.NOT_FOUND, 404, "ResourceNotFoundException"),
    (InjectedFault.ACCESS_DENIED, 403, "AccessDeniedException"),
    (InjectedFault.EXPIRED_TOKEN, 403, "ExpiredTokenException"),
    (InjectedFault.UNRECOGNIZED_CLIENT, 403, "UnrecognizedClientException"),
    (InjectedFault.SUBSCRIPTION_REQUIRED, 403, "SubscriptionRequiredException"),
    (InjectedFault.UNKNOWN_OPERATION, 404, "UnknownOperationException"),
    (InjectedFault.ERROR_BEFORE, 500, "InternalServerException"),
    (InjectedFault.UNAVAILABLE, 503, "ServiceUnavailable"),
]


@pytest.mark.parametrize(("fault", "status_code", "code"), BEFORE)
def test_a_fault_before_acceptance_leaves_no_job(fault: InjectedFault, status_code: int, code: str) -> None:
    """The next call goes through."""
    wire = Wire(ScriptedFault(fault=fault))
    answer = wire.start()
    assert (answer.status_code, answer.error_code) == (status_code, code)
    assert wire.service.jobs() == ()
    assert wire.service.calls[Operation.START] == {code: 1}
    assert wire.start().status_code == 200


@pytest.mark.parametrize(
    "fault",
    [
        InjectedFault.ERROR_AFTER,
        InjectedFault.SLOW_DOWN_AFTER,
        InjectedFault.ABORTED_AFTER,
        InjectedFault.TIMEOUT_AFTER,
        InjectedFault.TIMEOUT_EXCEPTION_AFTER,
        InjectedFault.LOST_AFTER,
        InjectedFault.RESET_AFTER,
        InjectedFault.TRUNCATED,
        InjectedFault.SLOW_ANSWER,
        InjectedFault.UNREADABLE,
        InjectedFault.NO_ARN,
    ],
)
def test_a_fault_after_acceptance_leaves_a_job(fault: InjectedFault) -> None:
    """And no answer that tells its ARN at once."""
    wire = Wire(ScriptedFault(fault=fault))
    answer = wire.start()
    [job] = wire.service.jobs()
    told = answer.status_code == 200 and job.arn.encode() in answer.body
    assert not told or answer.cut or answer.delay_seconds
    assert wire.service.calls[Operation.START]["accepted"] == 1


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (InjectedFault.THROTTLED, "3"),
        (InjectedFault.SLOW_DOWN, "3"),
        (InjectedFault.SLOW_DOWN_AFTER, "3"),
        (InjectedFault.QUOTA, ""),
    ],
)
def test_a_429_and_a_503_say_when_to_come_again(fault: InjectedFault, said: str) -> None:
    """Where the plan of faults has a `Retry-After`; other answers never do."""
    wire = Wire(ScriptedFault(fault=fault))
    plan = FaultPlan(script=(ScriptedFault(fault=fault),), retry_after="3")
    wire.faults.configure(plan)
    assert wire.start().retry_after == said


def test_a_fault_after_acceptance_is_kept_for_a_call_that_is_accepted() -> None:
    """A refusal for want of a slot goes out as it is."""
    wire = Wire(
        ScriptedFault(fault=InjectedFault.NONE), ScriptedFault(fault=InjectedFault.LOST_AFTER), per_membership=1
    )
    wire.start()
    assert wire.start().status_code == 402
    wire.service.configure(SandboxSettings(per_membership=2))
    assert wire.start().cut


def test_invalid_calls_meet_no_fault() -> None:
    """The script is kept for the ones that could work."""
    wire = Wire(ScriptedFault(fault=InjectedFault.CONFLICT))
    assert wire.start(name="").error_code == "ValidationException"
    assert wire.start().error_code == "ConflictException"


@pytest.mark.parametrize("fault", [InjectedFault.CUT_BEFORE, InjectedFault.STALL])
def test_a_cut_before_acceptance_leaves_no_job(fault: InjectedFault) -> None:
    """At once, or after a while."""
    wire = Wire(ScriptedFault(fault=fault, seconds=3))
    answer = wire.start()
    assert answer.cut
    assert not answer.body
    assert answer.delay_seconds == (3 if fault is InjectedFault.STALL else 0)
    assert wire.service.jobs() == ()
    assert wire.service.calls[Operation.START] == {"cut": 1}


def test_a_slow_acceptance_happens_only_after_its_time() -> None:
    """Whoever gave up waiting has a job nevertheless."""
    wire = Wire(ScriptedFault(fault=InjectedFault.SLOW_ACCEPTANCE, seconds=3))
    answer = wire.start()
    assert answer.delay_seconds == 3
    assert wire.service.jobs() == ()
    assert answer.then is not None
    body = answer.then().body
    assert wire.service.jobs()[0].arn.encode() in body


def test_a_script_can_name_the_job_of_a_get() -> None:
    """The ARN stands for its name."""
    wire = Wire(ScriptedFault(fault=InjectedFault.THROTTLED, operation="*", name="b"))
    arn = json.loads(wire.start().body)["trainedModelInferenceJobArn"]
    get = Call(method="GET", path=f"{PATH}/{arn.replace('/', '%2F')}")
    assert wire.exchange.answer(get).status_code == 200
    assert wire.start(name="b").status_code == 429


def test_an_empty_page_goes_on_where_it_was() -> None:
    """First, or in the middle: no job is lost or shown twice."""
    empty = ScriptedFault(fault=InjectedFault.EMPTY_PAGE, operation=Operation.LIST)
    wire = Wire(empty, ScriptedFault(fault=InjectedFault.NONE, operation=Operation.LIST), empty)
    for _ in range(3):
        wire.start()
    sizes, arns, query = [], set(), "maxResults=1"
    while query:
        page = json.loads(wire.list(query).body)
        sizes.append(len(page["trainedModelInferenceJobs"]))
        arns |= {job["trainedModelInferenceJobArn"] for job in page["trainedModelInferenceJobs"]}
        query = f"maxResults=1&nextToken={page['nextToken'].replace('=', '%3D')}" if "nextToken" in page else ""
    assert sizes == [0, 1, 0, 1, 1]
    assert len(arns) == 3


def test_an_expired_token_is_refused_and_the_first_page_is_not() -> None:
    """ValidationException, as for any wrong token."""
    wire = Wire(ScriptedFault(fault=InjectedFault.EXPIRED_NEXT_TOKEN, operation=Operation.LIST))
    wire.start()
    wire.start()
    token = json.loads(wire.list("maxResults=1").body)["nextToken"].replace("=", "%3D")
    assert wire.list(f"nextToken={token}").error_code == "ValidationException"
    assert wire.list(f"nextToken={token}").status_code == 200


def test_the_back_door_changes_settings_and_quotas() -> None:
    """From the next call on."""
    wire = Wire()
    assert wire.administer("PUT", "quotas", {"per_membership": 1})[0] == 200
    assert wire.administer("PUT", "settings", {"job_seconds": 9})[1]["job_seconds"] == 9
    assert wire.administer("GET", "settings")[1]["per_membership"] == 1
    wire.start()
    assert wire.start().status_code == 402


@pytest.mark.parametrize(
    ("method", "name", "members", "status_code"),
    [
        ("PUT", "settings", {"nonsense": 1}, 400),
        ("PUT", "settings", [], 400),
        ("PUT", "faults", {"nonsense": 1}, 400),
        ("PUT", "nonsense", {}, 404),
        ("GET", "nonsense", None, 404),
        ("DELETE", "jobs", None, 404),
    ],
)
def test_the_back_door_says_what_does_not_fit(method: str, name: str, members: object, status_code: int) -> None:
    """With a message, and nothing changed."""
    wire = Wire()
    answered, said = wire.administer(method, name, members)
    assert answered == status_code
    assert said["message"]
    assert wire.service.settings == SandboxSettings()


def test_the_back_door_tells_what_happened_and_forgets_it() -> None:
    """Calls by outcome, faults, statuses, slots."""
    wire = Wire(ScriptedFault(fault=InjectedFault.THROTTLED), ScriptedFault(fault=InjectedFault.CONFLICT))
    wire.start()
    wire.administer("PUT", "faults", {"script": [{"fault": "error_after"}]})
    wire.start()
    assert wire.administer("GET", "stats") == (
        200,
        {
            "accepted": 1,
            "calls": {Operation.START: {"ThrottlingException": 1, "accepted": 1}},
            "faults": {Operation.START: {"error_after": 1}},
            "unspent_faults": 0,
            "statuses": {"CREATE_PENDING": 1},
            "running": {MEMBERSHIP: 1, "123456789012": 1},
        },
    )
    assert wire.administer("POST", "reset") == (200, {})
    stats = wire.administer("GET", "stats")[1]
    assert (stats["accepted"], stats["unspent_faults"], stats["calls"]) == (0, 1, {})


def codes(answers: Iterable[HttpAnswer]) -> list[str]:
    """Their error codes, empty for those that were accepted."""
    return [answer.error_code or "" for answer in answers]


def test_by_default_three_jobs_start_at_once_and_then_one_a_second() -> None:
    """AWS's limit; a refused call takes no token, and an idle minute leaves room for three again."""
    wire = Wire(per_membership=0, per_account=0)
    assert codes(wire.start() for _ in range(5)) == ["", "", "", "ThrottlingException", "ThrottlingException"]
    wire.now += 1
    assert codes(wire.start() for _ in range(2)) == ["", "ThrottlingException"]
    wire.now += 60
    answers = [wire.start() for _ in range(4)]
    assert codes(answers) == ["", "", "", "ThrottlingException"]
    assert answers[-1].status_code == 429
    assert wire.service.calls[Operation.START] == {"accepted": 7, "ThrottlingException": 4}


def test_by_default_lists_are_limited_to_fifty_a_second() -> None:
    """Apart from what starts jobs."""
    wire = Wire()
    assert codes(wire.list() for _ in range(51)) == [""] * 50 + ["ThrottlingException"]
    assert codes([wire.start()]) == [""]
    wire.now += 0.125
    assert codes(wire.list() for _ in range(7)) == [""] * 6 + ["ThrottlingException"]


def test_the_limits_can_be_set_and_switched_off_while_it_runs() -> None:
    """Through the back door."""
    wire = Wire(per_membership=0, per_account=0, start_burst=1)
    assert codes(wire.start() for _ in range(2)) == ["", "ThrottlingException"]
    status, settings = wire.administer("PUT", "settings", {"starts_per_second": 0, "reads_per_second": 0})
    assert (status, settings["start_burst"]) == (200, 1)
    assert set(codes(wire.start() for _ in range(100))) == {""}
    assert set(codes(wire.list() for _ in range(100))) == {""}


def test_a_reset_fills_the_buckets() -> None:
    """One test does not throttle the next."""
    wire = Wire(per_membership=0, per_account=0)
    assert codes(wire.start() for _ in range(4))[-1] == "ThrottlingException"
    wire.administer("POST", "reset")
    assert codes([wire.start()]) == [""]


def test_a_throttled_call_spends_no_fault() -> None:
    """It never reaches the service."""
    wire = Wire(
        ScriptedFault(fault=InjectedFault.NONE, times=3), ScriptedFault(fault=InjectedFault.CONFLICT), per_membership=0
    )
    assert codes(wire.start() for _ in range(4))[-1] == "ThrottlingException"
    wire.now += 1
    assert codes([wire.start()]) == ["ConflictException"]
