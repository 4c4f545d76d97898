"""The image, built and run where there is a container engine; and the user without a name, anywhere on Linux."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from deploy_samples import DOCKERFILE, ROOT

NO_ENGINE = 77


@pytest.mark.timeout(1200)
def test_the_image_runs_the_demo_and_drains_as_a_cluster_would_have_it() -> None:
    """Own user, nameless user, read-only root, SIGTERM to process 1: see the script."""
    done = subprocess.run([ROOT / "tests" / "container.sh"], capture_output=True, text=True, check=False)
    if done.returncode == NO_ENGINE:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_s_folder_may_be_written_by_its_user_and_by_any_user_of_group_0() -> None:
    """OpenShift chooses a uid, with group 0."""
    assert "install --directory --owner=10001 --group=0 --mode=0770 /data" in DOCKERFILE


def test_a_user_without_a_name_or_a_home_can_run_a_batch(tmp_path: Path) -> None:
    """Nothing asks who it is, or for its home folder."""
    if not shutil.which("setpriv") or os.geteuid():
        pytest.skip("only root can become a user without a name (setpriv)")
    # It may read this Python, wherever that is, and write where its group may.
    become = ["setpriv", "--reuid=1000650000", "--regid=0", "--clear-groups"]
    become += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    tmp_path.chmod(0o770)
    rows = (ROOT / "configs" / "demo.csv").read_text().splitlines(keepends=True)
    (tmp_path / "jobs.csv").write_text("".join(rows[:4]))
    quick = ["--sandbox", "--sandbox-job-seconds", "0.1", "--rate", "0", "--json"]
    line = [*become, sys.executable, "-m", "batchsubmit", "submit", "jobs.csv", *quick]
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "jobs.sandbox.ledger.jsonl").stat().st_uid == 1000650000
