"""Problems sorted by kind: each is read once, and all are counted."""

from collections.abc import Iterable

from batchsubmit.manifest.check import MOST_KINDS, ProblemGroups
from batchsubmit.schema import Problem


def problem(line: int, wrong: str, path: str = "name") -> Problem:
    """One thing wrong in this line."""
    return Problem(label="jobs.csv", line=line, column=1, path=path, wrong=wrong, right="mend it")


def groups_of(problems: Iterable[Problem]) -> ProblemGroups:
    """These problems by kind."""
    groups = ProblemGroups()
    for each in problems:
        groups.add(each)
    return groups


def test_a_problem_of_every_row_is_shown_three_times_and_counted() -> None:
    """A wrong region does not fill the screen."""
    lines = groups_of(problem(line, "is in the wrong region") for line in range(2, 1502)).lines()
    assert len(lines) == 4
    assert lines[0].startswith("jobs.csv:2:1: ")
    assert lines[-1] == "  ... and 1,497 more like it"


def test_numbers_and_quoted_values_make_no_new_kind() -> None:
    """Rows that each repeat another line have one thing in common."""
    repeats = [problem(line, f"the row is identical to line {line - 40}: 'name-{line}'") for line in range(50, 60)]
    assert len(groups_of(repeats).kinds) == 1


def test_a_problem_among_many_of_another_kind_is_shown() -> None:
    """What is wrong in one row is not lost behind what is wrong in all."""
    problems = [*(problem(line, "is in the wrong region") for line in range(500)), problem(777, "is too long")]
    assert "jobs.csv:777:1: name: is too long; mend it" in groups_of(problems).lines()


def test_four_that_are_alike_are_all_shown() -> None:
    """No line says "1 more" where that one could stand."""
    assert len(groups_of(problem(line, "is empty") for line in range(4)).lines()) == 4
    assert groups_of(problem(line, "is empty") for line in range(4)).lines()[-1].startswith("jobs.csv:3:")


def test_very_many_kinds_are_cut_and_counted() -> None:
    """No manifest fills the memory or the screen."""
    lines = groups_of(problem(2, "is wrong", path=f"environment.{chr(97 + n)}") for n in range(26)).lines()
    assert len(lines) == MOST_KINDS + 1
    assert lines[-1] == "... and 6 more of other kinds"
