"""Whether what jobs need is there, as far as the service tells."""

import time

import pytest
from memory_cleanrooms import Disturbance, MemoryCleanRooms
from strategies import MEMBERSHIP, arn

from batchsubmit.app.readiness import MOST_CHECKED, InputCheck
from batchsubmit.cleanrooms.api import Input
from batchsubmit.config import RetrySettings
from batchsubmit.core.jobs import Denied, Forbidden, NotSent, Outcome, Throttled, Uncertain
from batchsubmit.errors import StoppedError
from batchsubmit.sandbox import SandboxService, SandboxSettings

MODEL = Input("trained model", MEMBERSHIP, arn("trained-model"))
CHANNEL = Input("channel", MEMBERSHIP, arn("ml-input-channel"))


def readier(*outcomes: Outcome, **settings: object) -> InputCheck:
    """One on a sandbox that first answers with these."""
    left = list(outcomes)

    def disturb(operation: str, name: str) -> Disturbance | None:
        del operation, name
        return Disturbance(left.pop(0)) if left else None

    async def sleep(seconds: float) -> None:
        del seconds

    service = SandboxService(SandboxSettings().changed(settings), time.time)
    return InputCheck(MemoryCleanRooms(service, disturb=disturb), RetrySettings(max_attempts=3), sleep=sleep)


async def test_what_is_active_is_no_problem_and_is_asked_for_once() -> None:
    """However many rows name it."""
    found = await readier().check([MODEL, CHANNEL, MODEL, CHANNEL])
    assert (found.checked, found.problems, found.untold) == (2, (), ())


async def test_what_is_missing_or_not_active_is_a_problem() -> None:
    """Each with its ARN and the service's words."""
    found = await readier(model_statuses={MODEL.arn: "CREATE_FAILED"}, missing_channels=[CHANNEL.arn]).check(
        [MODEL, CHANNEL]
    )
    channel, model = found.problems
    assert f"{CHANNEL.arn}: ResourceNotFoundException" in channel
    assert model.endswith("is CREATE_FAILED, not ACTIVE")


async def test_throttled_reads_are_repeated() -> None:
    """As often as other reads."""
    assert (await readier(Throttled("x", ""), Throttled("x", "")).check([MODEL])).untold == ()
    [untold] = (await readier(*[Uncertain("500")] * 8).check([MODEL])).untold
    assert "500" in untold


async def test_a_read_that_is_not_permitted_is_told_and_no_problem() -> None:
    """The role may start jobs all the same."""
    found = await readier(Denied("AccessDeniedException", "no")).check([MODEL])
    assert found.problems == ()
    assert "AccessDeniedException" in found.untold[0]


@pytest.mark.parametrize("outcome", [Forbidden("ExpiredTokenException", "old"), NotSent("ConnectTimeout", "no way")])
async def test_where_no_call_can_succeed_the_check_ends(outcome: Outcome) -> None:
    """Credentials and connections are not the resource's fault."""
    with pytest.raises(StoppedError, match="cannot be asked"):
        await readier(*[outcome] * 8).check([MODEL])


async def test_no_more_are_read_than_a_look_before_the_run_is_worth() -> None:
    """A channel a row is possible."""
    needs = [Input("channel", MEMBERSHIP, f"{CHANNEL.arn}-{number}") for number in range(MOST_CHECKED + 5)]
    assert (await readier().check(needs)).checked == MOST_CHECKED
