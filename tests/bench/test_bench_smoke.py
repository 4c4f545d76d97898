"""The benchmarks still run. No figure is judged here: the machine that runs tests has better things to do."""

import asyncio
import math
from pathlib import Path
from random import Random

import pytest
from forecast import HOMES, end_of
from growth import Growth
from harness import Ratio, alternate, print_ratios
from rate import refused_by_bucket
from slots import best_makespan
from throughput import Bench
from waiting import Waiting
from workload import minimal_server, sandbox, write_manifest

from batchsubmit.config import Settings
from batchsubmit.manifest.check import Terms, open_checked_manifest

SCRIPTS = (
    "throughput.py",
    "validate.py",
    "growth.py",
    "rate.py",
    "kills.py",
    "faults.py",
    "peers.py",
    "startup.py",
    "report.py",
    "slots.py",
    "forecast.py",
    "fleet.py",
    "worker_memory.py",
    "waiting.py",
)


def test_alternatives_take_turns() -> None:
    """A B A B, and the warm-up does not count."""
    order: list[str] = []

    def runner(name: str) -> dict[str, float]:
        order.append(name)
        return {"x": float(len(order))}

    measured = alternate({"a": lambda: runner("a"), "b": lambda: runner("b")}, runs=2)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert measured == {"a": [{"x": 3.0}, {"x": 5.0}], "b": [{"x": 4.0}, {"x": 6.0}]}
    print_ratios(measured, [Ratio("x", "a", "b")])


def test_a_bucket_refuses_what_comes_too_early() -> None:
    """Three at once and then one a second pass; a fourth at once does not, and takes no token."""
    assert refused_by_bucket([0.0, 0.0, 0.0, 1.0, 2.0, 10.0, 10.0, 10.0], 1.0) == 0
    assert refused_by_bucket([0.0, 0.0, 0.0, 0.5, 1.0, 1.5], 1.0) == 2


def test_the_program_submits_the_manifest_to_the_minimal_server(tmp_path: Path) -> None:
    """The real program as the benchmark runs it: one call a row, and all are counted."""
    with minimal_server() as server:
        assert Bench(server, tmp_path, jobs=3).submit()["process s"] > 0
        assert len(server.times()) == 3
        server.reset()
        assert server.times() == []


def test_the_first_call_of_a_run_is_seen(tmp_path: Path) -> None:
    """And the run is ended then."""
    with minimal_server() as server:
        growth = Growth(tmp_path, server, 200)
        assert growth.first()["s"] > 0
        assert growth.resume()["over validate"] > 0


def test_jobs_wait_where_their_own_or_others_hold_all_slots(tmp_path: Path) -> None:
    """And their process uses next to nothing of a core meanwhile."""
    with sandbox("--per-membership", "5", "--per-account", "10") as service:
        waiting = Waiting(service, tmp_path, jobs=40, lanes=5)
        for others in (False, True):
            assert waiting.measure(0.5, 0.5, others=others, terminal=others)["% of a core"] < 100
            assert service.accepted() == 10


def test_the_manifest_has_no_problem(tmp_path: Path) -> None:
    """A benchmark of refused rows would be a fast one."""

    async def problems() -> list[object]:
        manifest = str(write_manifest(tmp_path / "jobs.csv", 20))
        async with open_checked_manifest(manifest, Settings(), region="us-east-1", terms=Terms()) as (_, inventory):
            assert len(inventory.index) == 20
            return [*inventory.problems]

    assert asyncio.run(problems()) == []


def test_after_a_tenth_of_the_jobs_the_end_is_foretold() -> None:
    """By the run's own events; the benchmark says how often it is near."""
    dice = Random(0)
    seconds = [dice.lognormvariate(math.log(1800), 0.5) for _ in range(100)]
    estimated, actual = end_of(HOMES * 50, seconds, Settings(), 0)
    assert estimated == pytest.approx(actual, rel=0.15)


def test_the_best_schedule_fills_each_slot_at_once() -> None:
    """Six jobs of one membership on five slots, and one of another in the account's sixth."""
    assert best_makespan([("a", 2.0)] * 5 + [("a", 1.0), ("b", 1.0)]) == 3.0


def test_every_benchmark_stands_in_the_readme() -> None:
    """With the command that runs it."""
    folder = Path(__file__).parent
    readme = (folder / "README.md").read_text()
    for script in SCRIPTS:
        assert (folder / script).exists()
        assert f".venv/bin/python tests/bench/{script}" in readme
