"""The main job of the README: 22 jobs through ten slots on the built-in sandbox, which limits calls as AWS does."""

import json
import time
from pathlib import Path

from conftest import Program

DEMO = Path(__file__).parents[2] / "configs" / "demo.csv"


def test_the_demo_submits_its_jobs_in_less_than_half_a_minute(program: Program) -> None:
    """Without a region or credentials; into a ledger that `jq` reads and `status` counts."""
    began = time.monotonic()
    ended = program.run("submit", DEMO, "--sandbox", "--json")
    assert time.monotonic() - began < 30
    assert ended.status == 0, ended.stderr
    assert "22 of 22 jobs submitted" in ended.stderr
    assert ended.summary["submitted"] == 22
    assert ended.summary["ledger"] == "demo.sandbox.ledger.jsonl"
    arns = program.arns("demo.sandbox.ledger.jsonl")
    assert len(set(arns)) == 22
    assert ended.summary["refused_by_quota"] > 0
    assert ended.summary["counts"]["succeeded"] > 0
    assert ended.summary["throttled"] == 0
    text = (program.folder / "demo.sandbox.ledger.jsonl").read_text()
    assert all(isinstance(json.loads(line), dict) for line in text.splitlines())
    status = program.run("status", "demo.sandbox.ledger.jsonl", "--json")
    assert json.loads(status.stdout)["counts"]["submitted"] == 22
