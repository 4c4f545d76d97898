"""The sandbox's state machine, with a clock that is moved by hand."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest

from batchsubmit.sandbox import SandboxService, SandboxSettings
from batchsubmit.sandbox.refusals import ACCOUNT_QUOTA, MEMBERSHIP_QUOTA, Refusal

MEMBERSHIP = "11111111-2222-3333-4444-555555555555"
OTHER_MEMBERSHIP = "99999999-2222-3333-4444-555555555555"
START = "StartTrainedModelInferenceJob"
ACCOUNT = "123456789012"


class FakeClock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        """Return Unix seconds."""
        return self.seconds


class Sandbox:
    """A service with its clock, and short words for what the tests do."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - whatever the settings take
        self.clock = FakeClock()
        defaults = {"pending_seconds": 1.0, "job_seconds": 10.0, "seed": 1}
        self.service = SandboxService(SandboxSettings(**{**defaults, **settings}), self.clock)

    def start(self, name: str = "job", *, membership: str = MEMBERSHIP, **more: Any) -> str:  # noqa: ANN401
        """Start a job and return its ARN."""
        arn: str = self.service.call(START, request(name, membership) | more)["trainedModelInferenceJobArn"]
        return arn

    def get(self, arn: str) -> dict[str, Any]:
        """Get a job."""
        return self.service.call("GetTrainedModelInferenceJob", keys_of(arn))

    def status(self, arn: str) -> str:
        """Return a job's status."""
        return str(self.get(arn)["status"])

    def cancel(self, arn: str) -> None:
        """Cancel a job."""
        self.service.call("CancelTrainedModelInferenceJob", keys_of(arn))

    def page(self, **query: Any) -> dict[str, Any]:  # noqa: ANN401
        """Return one page."""
        asked = {"membershipIdentifier": MEMBERSHIP, **query}
        return self.service.call("ListTrainedModelInferenceJobs", asked)

    def listed(self, **query: Any) -> list[str]:  # noqa: ANN401
        """Return the ARNs of all pages."""
        arns: list[str] = []
        page: Mapping[str, Any] = {"nextToken": None}
        while "nextToken" in page:
            page = self.page(**query, nextToken=page["nextToken"])
            arns += [job["trainedModelInferenceJobArn"] for job in page["trainedModelInferenceJobs"]]
        return arns

    def refusal(self, operation: str, asked: Mapping[str, Any]) -> Refusal:
        """Return the refusal that a call meets."""
        with pytest.raises(Refusal) as caught:
            self.service.call(operation, asked)
        return caught.value

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.seconds += seconds


def model_of(membership: str, account: str = ACCOUNT) -> str:
    """Return the ARN of a trained model."""
    return f"arn:aws:cleanrooms-ml:us-east-1:{account}:membership/{membership}/trained-model/m"


def request(name: str = "job", membership: str = MEMBERSHIP, account: str = ACCOUNT) -> dict[str, Any]:
    """Return the smallest request."""
    model = model_of(membership, account)
    return {
        "membershipIdentifier": membership,
        "name": name,
        "trainedModelArn": model,
        "resourceConfig": {"instanceType": "ml.m5.xlarge"},
        "outputConfiguration": {"members": [{"accountId": account}]},
        "dataSource": {"mlInputChannelArn": model.replace("trained-model/m", "ml-input-channel/c")},
    }


def keys_of(arn: str) -> dict[str, Any]:
    """Return the members that name a job."""
    return {"membershipIdentifier": arn.split("/")[1], "trainedModelInferenceJobArn": arn}


def test_a_job_runs_through_its_statuses_in_their_time() -> None:
    """Pending, in progress, active, each with the time it was entered."""
    sandbox = Sandbox()
    arn = sandbox.start()
    assert sandbox.status(arn) == "CREATE_PENDING"
    sandbox.wait(1)
    assert sandbox.status(arn) == "CREATE_IN_PROGRESS"
    sandbox.wait(9.9)
    assert sandbox.status(arn) == "CREATE_IN_PROGRESS"
    sandbox.wait(0.1)
    assert sandbox.status(arn) == "ACTIVE"


def test_a_job_looked_at_late_has_ended_when_it_was_due() -> None:
    """Transitions are carried out lazily, but at their own time."""
    sandbox = Sandbox()
    arn = sandbox.start()
    sandbox.wait(1000)
    shown = sandbox.get(arn)
    created, updated = (datetime.fromisoformat(shown[name]) for name in ("createTime", "updateTime"))
    assert (updated - created).total_seconds() == 11
    assert shown["createTime"] == "2027-01-15T08:00:00.000000Z"


def test_get_shows_the_whole_request_and_its_tags() -> None:
    """Nothing of what was asked for is lost."""
    sandbox = Sandbox()
    more = {
        "tags": {"batchsubmit:key": "k"},
        "environment": {"A": "\U0001f600"},
        "description": "d",
        "containerExecutionParameters": {"maxPayloadInMB": 6},
        "trainedModelVersionIdentifier": MEMBERSHIP,
    }
    shown = sandbox.get(sandbox.start(**more))
    assert request() | more == {name: shown[name] for name in (*request(), *more)}


def test_a_failing_job_says_why() -> None:
    """A name can be told to fail; its statusDetails have a message."""
    sandbox = Sandbox(failing_names=frozenset({"bad"}))
    bad, good = sandbox.start("bad"), sandbox.start("good")
    sandbox.wait(11)
    assert sandbox.status(good) == "ACTIVE"
    assert sandbox.status(bad) == "CREATE_FAILED"
    assert sandbox.get(bad)["statusDetails"]["message"]


def test_jobs_fail_with_the_given_probability_and_a_seed_repeats_it() -> None:
    """Half of many, the same half twice, whenever it is looked at."""

    def fates(step: float) -> list[str]:
        sandbox = Sandbox(failure_probability=0.5, per_membership=0, per_account=0)
        arns = []
        for _ in range(400):
            arns.append(sandbox.start())
            sandbox.wait(step)
        sandbox.wait(100)
        return [sandbox.status(arn) for arn in arns]

    first = fates(0)
    assert 140 < first.count("CREATE_FAILED") < 260
    assert fates(7) == first


def test_durations_are_log_normal_around_their_mean() -> None:
    """The mean is the mean, not the median."""
    sandbox = Sandbox(job_seconds=10, job_sigma=1, per_membership=0, per_account=0)
    arns = [sandbox.start() for _ in range(4000)]
    jobs = sandbox.service.jobs()
    assert len(jobs) == len(arns)
    assert 8.5 < sum(job.run_seconds for job in jobs) / len(jobs) < 11.5
    assert len({job.run_seconds for job in jobs}) == len(jobs)


def test_the_sixth_job_of_a_membership_is_over_quota() -> None:
    """402 with the name and the value of the membership's quota."""
    sandbox = Sandbox()
    for _ in range(5):
        sandbox.start()
    refusal = sandbox.refusal(START, request())
    assert (refusal.code, refusal.status_code) == ("ServiceQuotaExceededException", 402)
    assert refusal.members == {"quotaName": MEMBERSHIP_QUOTA, "quotaValue": 5.0}


def test_the_account_of_the_model_has_a_quota_around_its_memberships() -> None:
    """Ten over all memberships; another account is not touched."""
    sandbox = Sandbox(per_account=7)
    for _ in range(5):
        sandbox.start()
    for _ in range(2):
        sandbox.start(membership=OTHER_MEMBERSHIP)
    refusal = sandbox.refusal(START, request(membership=OTHER_MEMBERSHIP))
    assert refusal.members == {"quotaName": ACCOUNT_QUOTA, "quotaValue": 7.0}
    sandbox.service.call(START, request(membership=OTHER_MEMBERSHIP, account="210987654321"))


def test_a_job_is_of_its_membership_s_account_whoever_s_model_it_runs() -> None:
    """The caller's, and not that of another member's ARN."""
    sandbox = Sandbox()
    theirs = model_of(OTHER_MEMBERSHIP, "210987654321")
    assert sandbox.start(trainedModelArn=theirs).split(":")[4] == ACCOUNT


def test_another_quota_refuses_every_start_of_its_membership() -> None:
    """402 with a name that is not of slots, and the value 0; other memberships are not touched."""
    sandbox = Sandbox(other_quotas={MEMBERSHIP: "Data access budget"})
    refusal = sandbox.refusal(START, request())
    assert (refusal.code, refusal.status_code) == ("ServiceQuotaExceededException", 402)
    assert refusal.members == {"quotaName": "Data access budget", "quotaValue": 0.0}
    sandbox.start(membership=OTHER_MEMBERSHIP)


@pytest.mark.parametrize("member", ["name", "membershipIdentifier", "trainedModelArn"])
def test_what_is_denied_is_denied_by_name_membership_or_arn(member: str) -> None:
    """403, with the action and the resource in IAM's words."""
    resource = request()[member]
    sandbox = Sandbox(denied=frozenset({resource}))
    refusal = sandbox.refusal(START, request())
    assert (refusal.code, refusal.status_code) == ("AccessDeniedException", 403)
    assert f"not authorized to perform: cleanrooms-ml:{START} on resource: {resource}" in refusal.message
    sandbox.start("another", membership=OTHER_MEMBERSHIP)


def test_a_finished_job_gives_its_slot_back() -> None:
    """Pending and running jobs hold slots, finished ones none."""
    sandbox = Sandbox(per_membership=1)
    sandbox.start()
    sandbox.wait(10.9)
    assert sandbox.refusal(START, request()).status_code == 402
    sandbox.wait(0.1)
    sandbox.start()


def test_a_quota_of_zero_is_none() -> None:
    """And a changed one holds from the next call."""
    sandbox = Sandbox(per_membership=0, per_account=0)
    for _ in range(50):
        sandbox.start()
    sandbox.service.configure(sandbox.service.settings.changed({"per_membership": 50}))
    assert sandbox.refusal(START, request()).members["quotaValue"] == 50


def test_a_cancelled_job_holds_its_slot_until_it_is_inactive() -> None:
    """CANCEL_IN_PROGRESS counts against the quota."""
    sandbox = Sandbox(per_membership=1, cancel_seconds=3)
    arn = sandbox.start()
    sandbox.wait(5)
    sandbox.cancel(arn)
    assert sandbox.status(arn) == "CANCEL_IN_PROGRESS"
    assert sandbox.refusal(START, request()).status_code == 402
    sandbox.wait(3)
    assert sandbox.status(arn) == "INACTIVE"
    sandbox.start()
    sandbox.wait(1000)
    assert sandbox.status(arn) == "INACTIVE"


@pytest.mark.parametrize("how", ["active", "failed", "inactive"])
def test_a_finished_job_cannot_be_cancelled(how: str) -> None:
    """409, whichever way it ended; and cancelling twice while it lasts changes nothing."""
    sandbox = Sandbox(failing_names=frozenset({"failed"}))
    arn = sandbox.start(how)
    if how == "inactive":
        sandbox.cancel(arn)
        sandbox.cancel(arn)
    sandbox.wait(20)
    refusal = sandbox.refusal("CancelTrainedModelInferenceJob", keys_of(arn))
    assert refusal.code == "ConflictException"


def test_list_pages_through_every_job_once_and_not_in_order_of_age() -> None:
    """250 jobs are three pages, in an order that says nothing about age."""
    sandbox = Sandbox(per_membership=0, per_account=0)
    arns = [sandbox.start() for _ in range(250)]
    first = sandbox.page()
    assert len(first["trainedModelInferenceJobs"]) == 100
    listed = sandbox.listed()
    assert sorted(listed) == sorted(arns)
    assert listed != arns
    assert listed != arns[::-1]
    assert listed == sandbox.listed(maxResults=7)


@pytest.mark.parametrize("count", [99, 100, 101])
def test_the_last_page_has_no_token(count: int) -> None:
    """Also where it is exactly full."""
    sandbox = Sandbox(per_membership=0, per_account=0)
    for _ in range(count):
        sandbox.start()
    assert ("nextToken" in sandbox.page()) is (count > 100)


def test_list_filters_by_model_and_version_and_membership() -> None:
    """What does not match is not shown, and an unknown model has no jobs."""
    sandbox = Sandbox(per_membership=0, per_account=0)
    one = sandbox.start(trainedModelVersionIdentifier=MEMBERSHIP)
    two = sandbox.start()
    three = sandbox.start(trainedModelArn=model_of(MEMBERSHIP) + "2")
    sandbox.start(membership=OTHER_MEMBERSHIP)
    assert sorted(sandbox.listed()) == sorted([one, two, three])
    assert sorted(sandbox.listed(trainedModelArn=model_of(MEMBERSHIP))) == sorted([one, two])
    assert sandbox.listed(trainedModelVersionIdentifier=MEMBERSHIP) == [one]
    assert sandbox.listed(trainedModelArn=model_of(MEMBERSHIP) + "3") == []


def test_a_summary_has_the_required_members_and_no_tags() -> None:
    """Tags are for Get."""
    sandbox = Sandbox()
    sandbox.start(tags={"a": "b"}, description="d")
    [summary] = sandbox.page()["trainedModelInferenceJobs"]
    assert summary["description"] == "d"
    assert "tags" not in summary
    assert "resourceConfig" not in summary


@pytest.mark.parametrize("token", ["x", "WyJhIl0=", "MQ==", "\u00e9", ""])
def test_a_token_that_is_not_ours_is_refused(token: str) -> None:
    """ValidationException, not a crash and not the first page."""
    asked = {"membershipIdentifier": MEMBERSHIP, "nextToken": token}
    assert Sandbox().refusal("ListTrainedModelInferenceJobs", asked).code == "ValidationException"


def test_a_token_is_bound_to_its_query() -> None:
    """It cannot be taken along to another membership."""
    sandbox = Sandbox()
    sandbox.start()
    sandbox.start()
    token = sandbox.page(maxResults=1)["nextToken"]
    asked = {"membershipIdentifier": OTHER_MEMBERSHIP, "nextToken": token}
    assert sandbox.refusal("ListTrainedModelInferenceJobs", asked).code == "ValidationException"


def test_a_new_job_is_missing_from_list_for_the_lag_but_get_finds_it() -> None:
    """List is eventually consistent, Get is not."""
    sandbox = Sandbox(list_lag_seconds=5)
    arn = sandbox.start()
    sandbox.wait(4.9)
    assert sandbox.listed() == []
    assert sandbox.get(arn)["name"] == "job"
    sandbox.wait(0.1)
    assert sandbox.listed() == [arn]


def test_one_name_can_be_used_twice() -> None:
    """The service does not mind; its output does."""
    sandbox = Sandbox()
    assert sandbox.start("same") != sandbox.start("same")


def test_a_job_is_found_only_under_its_whole_arn_and_its_membership() -> None:
    """A wrong account, a wrong membership or a wrong id is 404."""
    sandbox = Sandbox()
    arn = sandbox.start()
    wrong = [
        keys_of(arn.replace(ACCOUNT, "210987654321")),
        keys_of(arn) | {"membershipIdentifier": OTHER_MEMBERSHIP},
        keys_of(arn[:-1]),
    ]
    for asked in wrong:
        for operation in ("GetTrainedModelInferenceJob", "CancelTrainedModelInferenceJob"):
            assert sandbox.refusal(operation, asked).code == "ResourceNotFoundException"


def test_models_can_be_missing_or_not_active() -> None:
    """404 and 409; every other model works."""
    model = model_of(MEMBERSHIP)
    missing = Sandbox(missing_inputs=frozenset({model}))
    assert missing.refusal(START, request()).code == "ResourceNotFoundException"
    asked = {"membershipIdentifier": MEMBERSHIP, "trainedModelArn": model}
    assert missing.refusal("GetTrainedModel", asked).code == "ResourceNotFoundException"
    training = Sandbox(input_statuses={model: "CREATE_IN_PROGRESS"})
    assert training.refusal(START, request()).code == "ConflictException"
    assert training.service.call("GetTrainedModel", asked)["status"] == "CREATE_IN_PROGRESS"


def test_channels_can_be_missing_or_not_active() -> None:
    """404 and 409 for Start as for Get; every other channel works."""
    channel = request()["dataSource"]["mlInputChannelArn"]
    asked = {"membershipIdentifier": MEMBERSHIP, "mlInputChannelArn": channel}
    assert Sandbox().service.call("GetMLInputChannel", asked)["status"] == "ACTIVE"
    elsewhere = asked | {"membershipIdentifier": OTHER_MEMBERSHIP}
    assert Sandbox().service.call("GetMLInputChannel", elsewhere)["status"] == "ACTIVE"
    missing = Sandbox(missing_inputs=frozenset({channel}))
    assert missing.refusal(START, request()).code == "ResourceNotFoundException"
    assert missing.refusal("GetMLInputChannel", asked).code == "ResourceNotFoundException"
    filling = Sandbox(input_statuses={channel: "CREATE_IN_PROGRESS"})
    assert filling.refusal(START, request()).code == "ConflictException"
    assert filling.service.call("GetMLInputChannel", asked)["status"] == "CREATE_IN_PROGRESS"


def test_calls_are_counted_by_outcome() -> None:
    """Accepted and refused by code."""
    sandbox = Sandbox(per_membership=2)
    sandbox.start()
    sandbox.start()
    sandbox.refusal(START, request())
    assert sandbox.service.calls == {START: {"accepted": 2, "ServiceQuotaExceededException": 1}}


def test_held_slots_are_counted_by_membership_and_account() -> None:
    """Of the jobs that have not ended."""
    sandbox = Sandbox()
    for _ in range(3):
        sandbox.start()
    sandbox.wait(100)
    sandbox.start()
    assert sandbox.service.running == {MEMBERSHIP: 1, ACCOUNT: 1}
    assert sandbox.service.statuses() == {"ACTIVE": 3, "CREATE_PENDING": 1}


def test_a_simulation_can_jump_to_the_next_change() -> None:
    """And a cancellation makes the planned one void."""
    sandbox = Sandbox(cancel_seconds=0.5)
    assert sandbox.service.next_change_at() is None
    arn = sandbox.start()
    assert sandbox.service.next_change_at() == sandbox.clock.seconds + 1
    sandbox.cancel(arn)
    assert sandbox.service.next_change_at() == sandbox.clock.seconds + 0.5
    sandbox.wait(100)
    assert sandbox.status(arn) == "INACTIVE"
    assert sandbox.service.next_change_at() is None


def test_time_never_goes_back() -> None:
    """A clock that is set back makes no job younger than one before it."""
    sandbox = Sandbox()
    first = sandbox.start()
    sandbox.wait(-100)
    assert sandbox.get(sandbox.start())["createTime"] == sandbox.get(first)["createTime"]


def test_a_reset_forgets_everything_and_repeats_the_seed() -> None:
    """The same ids come again."""
    sandbox = Sandbox()
    first = sandbox.start()
    sandbox.service.reset()
    assert sandbox.listed() == []
    assert sandbox.start() == first


def test_settings_change_only_to_what_fits() -> None:
    """Each error names its setting."""
    settings = SandboxSettings()
    changed = settings.changed({"per_membership": 3, "job_seconds": 1, "failing_names": ["a"], "seed": None})
    assert (changed.per_membership, changed.job_seconds, changed.failing_names) == (3, 1.0, frozenset({"a"}))
    for name, value in (
        ("per_membership", True),
        ("per_membership", 1.5),
        ("per_membership", -1),
        ("failure_probability", 1.1),
        ("job_seconds", "1"),
        ("failing_names", "a"),
        ("input_statuses", {"a": 1}),
        ("seed", "x"),
        ("nonsense", 1),
    ):
        with pytest.raises(ValueError, match=name):
            settings.changed({name: value})
