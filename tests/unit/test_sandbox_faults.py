"""Which fault meets which call."""

import json
from collections import Counter

import msgspec
import pytest

from batchsubmit.sandbox import FaultPlan, Faults
from batchsubmit.sandbox.faults import InjectedFault, ScriptedFault
from batchsubmit.sandbox.refusals import Operation


def met(
    faults: Faults, operation: str = Operation.START, name: str | None = None, *, has_token: bool = False
) -> InjectedFault:
    """Return the fault that meets a call, and spend it."""
    drawn = faults.draw(operation, name, has_token=has_token)
    faults.spend(operation, drawn)
    return drawn.fault


def test_without_a_plan_nothing_goes_wrong() -> None:
    """Every call passes and nothing is counted."""
    faults = Faults()
    assert met(faults) is InjectedFault.NONE
    assert not faults.injected


def test_a_script_is_used_up_in_its_order() -> None:
    """`none` lets a call pass on the way to the next entry."""
    script = (
        ScriptedFault(fault=InjectedFault.THROTTLED, times=2),
        ScriptedFault(fault=InjectedFault.NONE),
        ScriptedFault(fault=InjectedFault.LOST_AFTER),
    )
    faults = Faults(FaultPlan(script=script))
    expected = [
        InjectedFault.THROTTLED,
        InjectedFault.THROTTLED,
        InjectedFault.NONE,
        InjectedFault.LOST_AFTER,
        InjectedFault.NONE,
    ]
    assert [met(faults) for _ in expected] == expected
    assert faults.unspent() == []
    assert faults.injected == {Operation.START: {"throttled": 2, "lost_after": 1}}


def test_an_entry_waits_for_its_operation_and_its_job() -> None:
    """Other calls pass it by."""
    script = (
        ScriptedFault(fault=InjectedFault.CONFLICT, name="b"),
        ScriptedFault(fault=InjectedFault.ERROR_BEFORE, operation=Operation.GET),
    )
    faults = Faults(FaultPlan(script=script))
    assert met(faults, Operation.START, "a") is InjectedFault.NONE
    assert met(faults, Operation.GET, "b") is InjectedFault.ERROR_BEFORE
    assert met(faults, Operation.START, "b") is InjectedFault.CONFLICT


def test_any_operation_is_a_star() -> None:
    """In a script and among the probabilities, where an operation's own come first."""
    faults = Faults(FaultPlan(script=(ScriptedFault(fault=InjectedFault.SLOW_DOWN, operation="*"),)))
    assert met(faults, Operation.LIST) is InjectedFault.SLOW_DOWN
    faults = Faults(FaultPlan(probabilities={"*": {InjectedFault.SLOW_DOWN: 1}, Operation.GET: {}}))
    assert met(faults, Operation.LIST) is InjectedFault.SLOW_DOWN
    assert met(faults, Operation.GET) is InjectedFault.NONE


def test_a_drawn_fault_is_not_spent_before_it_is_said_so() -> None:
    """A call that the service refuses leaves the script as it was."""
    faults = Faults(FaultPlan(script=(ScriptedFault(fault=InjectedFault.LOST_AFTER),)))
    assert faults.draw(Operation.START, None) == faults.draw(Operation.START, None)
    assert len(faults.unspent()) == 1


def test_an_expired_token_meets_only_a_call_with_one() -> None:
    """And an empty page only List."""
    script = (
        ScriptedFault(fault=InjectedFault.EXPIRED_NEXT_TOKEN, operation=Operation.LIST),
        ScriptedFault(fault=InjectedFault.EMPTY_PAGE, operation="*"),
    )
    faults = Faults(FaultPlan(script=script))
    assert met(faults, Operation.START) is InjectedFault.NONE
    assert met(faults, Operation.LIST) is InjectedFault.EMPTY_PAGE
    assert met(faults, Operation.LIST, has_token=True) is InjectedFault.EXPIRED_NEXT_TOKEN
    by_chance = Faults(FaultPlan(probabilities={"*": {InjectedFault.EXPIRED_NEXT_TOKEN: 1}}))
    assert met(by_chance, Operation.LIST) is InjectedFault.NONE


def test_probabilities_are_kept_and_a_seed_repeats_them() -> None:
    """A fifth throttled, a tenth lost, the same ones twice."""
    plan = FaultPlan(
        probabilities={Operation.START: {InjectedFault.THROTTLED: 0.2, InjectedFault.LOST_AFTER: 0.1}}, seed=1
    )
    faults = Faults(plan)
    drawn = [met(faults) for _ in range(5000)]
    counts = Counter(drawn)
    assert 850 < counts[InjectedFault.THROTTLED] < 1150
    assert 400 < counts[InjectedFault.LOST_AFTER] < 600
    faults.configure(plan)
    assert [met(faults) for _ in range(5000)] == drawn


def test_slow_faults_take_their_own_time_or_the_plans() -> None:
    """In seconds."""
    script = (ScriptedFault(fault=InjectedFault.SLOW_ANSWER, seconds=0.5), ScriptedFault(fault=InjectedFault.STALL))
    faults = Faults(FaultPlan(script=script, slow_seconds=7))
    for seconds in (0.5, 7):
        drawn = faults.draw(Operation.START, None)
        faults.spend(Operation.START, drawn)
        assert drawn.seconds == seconds


def test_a_plan_is_read_from_json() -> None:
    """With the members of the classes."""
    script = b'[{"fault": "stall", "name": "a", "times": 2, "seconds": 1}]'
    probabilities = b'{"ListTrainedModelInferenceJobs": {"throttled": 0.5}}'
    text = b'{"probabilities": %s, "script": %s, "slow_seconds": 2, "seed": 3}' % (probabilities, script)
    plan = msgspec.json.decode(text, type=FaultPlan)
    entry = ScriptedFault(fault=InjectedFault.STALL, name="a", times=2, seconds=1)
    assert plan == FaultPlan(
        probabilities={Operation.LIST: {InjectedFault.THROTTLED: 0.5}}, script=(entry,), slow_seconds=2, seed=3
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"nonsense": 1},
        {"probabilities": {Operation.START: {"nonsense": 0.1}}},
        {"probabilities": {"Start": {"throttled": 0.1}}},
        {"probabilities": {Operation.START: {"throttled": 0.6, "conflict": 0.5}}},
        {"probabilities": {Operation.START: {"throttled": -0.1}}},
        {"probabilities": {Operation.START: {"throttled": float("nan")}}},
        {"probabilities": []},
        {"script": [{"operation": Operation.START}]},
        {"script": [{"fault": "stall", "operation": "Start"}]},
        {"script": [{"fault": "stall", "times": 0}]},
        {"script": [{"fault": "stall", "times": "1"}]},
        {"script": [{"fault": "stall", "seconds": -1}]},
        {"script": [{"fault": "stall", "nonsense": 1}]},
        {"script": ["stall"]},
        {"script": 1},
        {"slow_seconds": "1"},
        {"slow_seconds": -1},
    ],
)
def test_a_plan_that_means_nothing_is_refused(wrong: dict[str, object]) -> None:
    """Before it silently injects nothing."""
    with pytest.raises(ValueError):  # noqa: PT011 - the words are for people
        msgspec.json.decode(json.dumps(wrong), type=FaultPlan)
