"""The figures of a report: where jobs stand, how it went over time, why jobs failed, what is left."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sample_ledgers import BEGIN, MEMBERSHIPS, Night, Story

from batchsubmit.core.job_states import Retry, State
from batchsubmit.core.jobs import Share
from batchsubmit.report.charts import charts
from batchsubmit.report.headline import STOPS, headline
from batchsubmit.report.stats import Figures
from batchsubmit.report.timeline import (
    RunSpan,
    Timeline,
    mean_running,
    peak_running,
    quota_steps,
)
from batchsubmit.submit.stopping import StopReason
from batchsubmit.text import duration, share

START = BEGIN.timestamp()


def figures_of(story: Story, *, after: float = 10_000.0) -> Figures:
    """The figures of a story, so long after the begin."""
    return Figures(Timeline.of(story.events), START + after)


def told(story: Story, *, after: float = 10_000.0) -> str:
    """The headline of a story, as one text, read so long after the begin."""
    words = headline(figures_of(story, after=after))
    return "\n".join([words.title, words.mood, words.status, *words.sentences])


@pytest.fixture
def story() -> Story:
    """Two jobs of ten seconds, the second one five seconds later."""
    story = Story()
    story.run(0, batch="b", rows=4, to_do=4, work=(Share(MEMBERSHIPS[0], "", "", 4),))
    for name, at in (("a", 0), ("b", 5)):
        story.intent(at, name)
        story.accepted(at, name)
    story.finished(10, "a")
    story.finished(15, "b", "CREATE_FAILED", "out of memory")
    return story


def test_each_job_has_one_fate(story: Story) -> None:
    """What needs action first."""
    story.intent(16, "unanswered")
    story.intent(17, "full")
    story.refused(17, "full")
    story.failed(18, "wrong")
    fates = figures_of(story).by_membership[MEMBERSHIPS[0]]
    assert fates == {State.SUCCEEDED: 1, State.FAILED: 1, State.UNKNOWN: 1, State.PENDING: 1, State.REJECTED: 1}


def test_running_jobs_are_averaged_between_two_moments(story: Story) -> None:
    """One, two, one, none."""
    lanes = figures_of(story).lanes
    (lane,) = lanes.values()
    edges = [START + seconds for seconds in (0, 5, 10, 15, 20)]
    assert mean_running(lane, edges) == pytest.approx([1, 2, 1, 0])
    assert mean_running(lane, [START + 2.5, START + 7.5]) == pytest.approx([1.5])
    assert peak_running(lanes) == 2
    assert mean_running(lane, [START, START + 20]) == pytest.approx([1])


def test_averages_add_up_to_what_was_used_however_fine_the_grid() -> None:
    """No slot's second is lost or counted twice."""
    figures = Figures(Timeline.of(Night(jobs=500).events()), START)
    last = figures.end
    width = (last - START) / 160
    edges = [START + width * place for place in range(161)]
    for lane in figures.lanes.values():
        assert sum(mean_running(lane, edges)) * width == pytest.approx(
            mean_running(lane, [START, last])[0] * (last - START)
        )
    assert peak_running(figures.lanes) == 10


def runs_that_learned(*quotas: tuple[str, int]) -> list[RunSpan]:
    """Runs one after another, of which each learned one quota."""
    story = Story()
    story.run(0)
    (started,) = Timeline.of(story.events).runs
    return [replace(started, began_at=float(at), quotas=dict([each])) for at, each in enumerate(quotas)]


@pytest.mark.parametrize(
    ("quotas", "steps"),
    [
        ([], []),
        ([("account", 10)], [10]),
        ([("account", 10), ("account", 20)], [10, 20]),
        ([(MEMBERSHIPS[0], 5)], []),
        ([(MEMBERSHIPS[0], 5), (MEMBERSHIPS[1], 5)], [10]),
        ([(MEMBERSHIPS[0], 2), (MEMBERSHIPS[1], 2), ("account", 10)], [4]),
        ([("account", 3), (MEMBERSHIPS[0], 2), (MEMBERSHIPS[1], 2)], [3]),
    ],
)
def test_the_quota_is_the_narrowest_that_is_known(quotas: list[tuple[str, int]], steps: list[int]) -> None:
    """The account's, or the memberships' together once all are known."""
    assert [limit for _, limit in quota_steps(runs_that_learned(*quotas), MEMBERSHIPS[:2])] == steps


def test_messages_that_differ_only_in_names_are_one_reason() -> None:
    """The most frequent one first, in the words that were said first."""
    story = Story()
    story.run(0)
    for number in range(3):
        story.failed(1, f"n{number}", "ValidationException", f"job 'n{number}' in arn:aws:x:{number} has 1{number} GiB")
    story.failed(1, "other", "ValidationException", "something else")
    story.failed(1, "third", "ConflictException", "something else")
    first, *others = figures_of(story).reasons.most_frequent_first()
    assert (first.count, first.message, first.examples) == (3, "job 'n0' in arn:aws:x:0 has 10 GiB", ["n0", "n1", "n2"])
    assert [reason.count for reason in others] == [1, 1]
    assert first.advice


def test_the_command_of_a_reason_takes_exactly_its_jobs() -> None:
    """Also where two reasons have one code; a cancelled job is sent again by none."""
    story = Story()
    for number, message in enumerate(["no model 'a[1]'", "no model 'b'", "no channel", "no channel"]):
        story.failed(number, f"rejected-{number}", "ResourceNotFoundException", message)
    for name, status in (("ran", "CREATE_FAILED"), ("stopped", "INACTIVE")):
        story.intent(5, name)
        story.accepted(6, name)
        story.finished(7, name, status)
    figures = figures_of(story)
    jobs = [(history.state, reason) for history, _, reason in figures.jobs]
    for reason in figures.reasons.most_frequent_first():
        options = figures.reasons.retry_options(reason)
        given = dict(zip(options[::2], options[1::2], strict=True))
        assert (not options) == (reason.state is State.CANCELLED)
        chosen = Retry(
            statuses=frozenset({given.get("--status", "")}),
            codes=frozenset({given.get("--code", "")}),
            messages=tuple(given[name] for name in given if name == "--message"),
        )
        taken = [state.name for state, _ in jobs if chosen.takes(state)]
        assert taken == [state.name for state, number in jobs if options and number == reason.number]


def test_slot_use_is_judged_by_the_quota_that_was_learned(story: Story) -> None:
    """And by the peak where none was; not at all where no end is known."""
    by_peak = figures_of(story).slot_use
    assert by_peak is not None
    assert (by_peak.slots, by_peak.is_learned, by_peak.share) == (2, False, 0.5)
    story.quotas = {"account": 1}
    story.end(20)
    learned = figures_of(story).slot_use
    assert learned is not None
    assert (learned.slots, learned.is_learned, learned.share) == (1, True, 1.0)


def test_durations_are_summed_up_by_model(story: Story) -> None:
    """Shortest, median, longest."""
    (run_times,) = (chart for chart in charts(figures_of(story), {}) if chart.name == "run-times")
    assert run_times.rows == [("churn-v3", "2", *["10 s"] * 6)]
    assert [(each["kind"], each["median"]) for each in run_times.data["kinds"]] == [("churn-v3 (n=2)", 10)]


def test_while_it_runs_it_says_what_is_left_at_which_pace_and_the_one_estimate_of_its_end(story: Story) -> None:
    """Two of four in fifteen seconds; jobs take about ten, and there are slots for both."""
    words = told(story, after=60)
    assert "Under way" in words
    assert "2 of 4 jobs submitted, 1 of them succeeded." in words
    assert "1 failed, for one reason, CREATE_FAILED." in words
    assert "2 jobs pending, at the last pace 8/min." in words
    finish = figures_of(story).timeline.progress.finish(BEGIN + timedelta(seconds=60))
    assert finish is not None
    ends = f"finished in {duration(finish.seconds)} (11-22 22:01 UTC)"
    assert f"If nothing comes between, all would be submitted in 0 s (11-22 22:01 UTC), {ends}" in words


def test_long_after_its_last_event_a_run_is_taken_to_have_died(story: Story) -> None:
    """The same is left, and it is said when it would be done if the command were started again at once."""
    words = told(story, after=3600)
    assert "ended without a word" in words
    assert "Started again at once, all would be submitted in 0 s (11-22 23:00 UTC), finished in " in words


def test_at_its_end_the_run_itself_says_what_is_left(story: Story) -> None:
    """And why it stopped."""
    story.end(20, status=3, reason="deadline", left=7)
    words = told(story)
    assert "Stopped before the end" in words
    assert "because its deadline had come" in words
    assert "7 jobs pending" in words


def test_when_all_would_have_finished_is_not_said_where_no_job_was_seen_to_end() -> None:
    """The pace of acceptances is known all the same."""
    story = Story()
    story.run(0, rows=4)
    for second, name in enumerate("ab"):
        story.intent(second, name)
        story.accepted(second + 1, name)
    story.end(20, status=3, reason="deadline", left=2)
    words = told(story)
    assert "pending, at the last pace" in words
    assert "all would be submitted in" not in words


def test_several_quotas_learned_at_once_are_one_step() -> None:
    """Else a line falls from the memberships' sum to the account's at the same moment."""
    (run,) = runs_that_learned(("a", 5))
    run.quotas |= {"b": 5, "account": 7}
    assert quota_steps([run], ["a", "b"]) == [(0.0, 7)]


def test_every_way_to_stop_has_words() -> None:
    """A reader is not told a program's own word."""
    assert set(STOPS) == set(StopReason)


def test_an_old_ledger_without_rows_says_at_least(story: Story) -> None:
    """It knows only the jobs that it has met."""
    story.events[0] = type(story.events[0])(
        **{name: getattr(story.events[0], name) for name in story.events[0].__struct_fields__} | {"rows": 0, "to_do": 0}
    )
    assert "2 of at least 2 jobs submitted" in told(story)


def test_all_well_is_said_plainly() -> None:
    """Good, done, nothing left."""
    story = Story()
    story.run(0, rows=1)
    story.intent(1, "a")
    story.accepted(2, "a")
    story.finished(3, "a")
    story.end(4, left=0)
    assert told(story).splitlines()[1:] == [
        "good",
        "Done",
        "1 of 1 job submitted, 1 of them succeeded.",
        "None failed.",
        "Nothing is pending.",
    ]


def test_unknown_jobs_are_said_first(story: Story) -> None:
    """Before everything else, whatever else is wrong."""
    story.intent(16, "unanswered")
    words = told(story).splitlines()
    assert words[1] == "bad"
    assert words[3].startswith("1 job may run or not")


def test_the_most_frequent_of_several_reasons_is_named(story: Story) -> None:
    """Where one is: of two equal ones neither."""
    story.failed(16, "x", code="ValidationException", message="no")
    assert "for 2 different reasons." in told(story)
    story.failed(17, "y", code="ValidationException", message="no")
    assert "1 failed, 2 rejected, for 2 different reasons, most of all Valid" in told(story)


def test_a_call_under_way_is_no_alarm_while_its_run_is(story: Story) -> None:
    """Every page of a run that works would be red; once the run is silent, nobody knows any more."""
    story.intent(16, "calling")
    words = told(story, after=60).splitlines()
    assert words[1:3] == ["open", "Under way"]
    assert words[3] == "1 job in a call when this page was made."
    assert told(story, after=3600).splitlines()[1] == "bad"
    story.unknown(17, "lost")
    assert told(story, after=60).splitlines()[1] == "bad"


def test_asked_is_what_is_decided_and_what_is_left(story: Story) -> None:
    """Jobs that wait are among those left, not beside them."""
    story.intent(16, "full")
    story.refused(16, "full")
    figures = figures_of(story)
    assert figures.counts.total == 4


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.04, "0 s"),
        (1, "1 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_are_said_in_two_units(seconds: float, words: str) -> None:
    """The largest ones."""
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [(0, 5, "0 %"), (1, 1000, "<1 %"), (5, 300, "2 %"), (999, 1000, "99 %"), (5, 5, "100 %"), (1, 0, "-")],
)
def test_a_share_is_all_or_nothing_only_where_it_is(part: int, whole: int, words: str) -> None:
    """One failure in a thousand is not none."""
    assert share(part, whole) == words
