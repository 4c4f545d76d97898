"""The order in which a table's events are told to who watches a run."""

from sample_ledgers import Story

from batchsubmit.core.jobs import Event, RunEnded, RunStarted
from batchsubmit.ledger.read import as_told


def told(story: Story) -> list[str]:
    """The story's events, in the table's order and then as told, by run or job."""
    events: list[Event] = sorted(story.events, key=lambda event: not isinstance(event, RunStarted | RunEnded))
    return [
        f"{type(event).__name__} {event.run if isinstance(event, RunStarted | RunEnded) else event.name}"
        for event in as_told(events)
    ]


def test_without_a_run_under_way_time_is_the_order() -> None:
    """Runs and jobs as they came."""
    story = Story()
    story.run(0, "r1")
    story.intent(1, "a")
    story.end(2, "r1")
    story.intent(3, "b")
    assert told(story) == ["RunStarted r1", "Intent a", "RunEnded r1", "Intent b"]


def test_the_last_run_under_way_is_the_one_that_is_told_of() -> None:
    """The end of another that began later does not end it, and what was done since counts for it."""
    story = Story()
    story.run(0, "dead")
    story.intent(1, "a")
    story.run(2, "open")
    story.run(3, "short")
    story.intent(4, "b")
    story.end(5, "short")
    story.intent(6, "c")
    runs = [words for words in told(story) if words.startswith("Run")]
    assert runs[-1] == "RunStarted open"
    assert told(story)[-2:] == ["Intent b", "Intent c"]
    assert told(story).index("Intent a") < told(story).index("RunStarted open") < told(story).index("Intent b")
