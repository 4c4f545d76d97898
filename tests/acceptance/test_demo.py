"""The main job of the README: forty jobs through ten slots on the built-in sandbox."""

import json
import time
from pathlib import Path

from conftest import Program

DEMO = Path(__file__).parents[2] / "configs" / "demo.csv"


def test_the_demo_submits_forty_jobs_in_well_under_a_minute(program: Program) -> None:
    """Without a region or credentials; into a ledger that `jq` reads and `status` counts."""
    began = time.monotonic()
    ended = program.run("submit", DEMO, "--sandbox", "--json")
    assert time.monotonic() - began < 40
    assert ended.status == 0, ended.stderr
    assert "40 of 40 jobs submitted" in ended.stderr
    assert ended.summary["submitted"] == 40
    assert ended.summary["ledger"] == "demo.ledger.jsonl"
    arns = program.arns("demo.ledger.jsonl")
    assert len(set(arns)) == 40
    assert ended.summary["refused_by_quota"] > 0
    text = (program.folder / "demo.ledger.jsonl").read_text()
    assert all(isinstance(json.loads(line), dict) for line in text.splitlines())
    status = program.run("status", "demo.ledger.jsonl", "--json")
    assert json.loads(status.stdout)["counts"]["submitted"] == 40
