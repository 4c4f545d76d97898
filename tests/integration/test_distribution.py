"""The wheel and the sdist: built, compared with the source, installed, and run away from the checkout."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "batchsubmit"

pytest.importorskip("hatchling", reason="no hatchling here: pip install -e '.[test]'")


def build(source: Path, folder: Path, *targets: str) -> list[Path]:
    """Build in a folder; give what was built."""
    kinds = [word for target in targets for word in ("-t", target)]
    line = [sys.executable, "-m", "hatchling", "build", "-d", str(folder), *kinds]
    subprocess.run(line, cwd=source, check=True, capture_output=True, timeout=100)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from the source."""
    sdist, wheel = sorted(build(ROOT, tmp_path_factory.mktemp("dist"), "sdist", "wheel"), key=lambda path: path.suffix)
    assert (sdist.suffix, wheel.suffix) == (".gz", ".whl")
    return sdist, wheel


def packaged(wheel: Path) -> dict[str, bytes]:
    """The files of the package in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name.startswith("batchsubmit/")}


def test_a_wheel_has_every_file_of_the_package_and_no_other(built: tuple[Path, Path]) -> None:
    """The type marker, the manual's pages and the report's assets too."""
    files = {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packaged(built[1]) == files
    assert {"batchsubmit/py.typed", "batchsubmit/docs/development.md"} <= files.keys()


def test_an_sdist_makes_the_same_wheel_and_has_what_the_tests_need(built: tuple[Path, Path], tmp_path: Path) -> None:
    """Someone who has only that can build, test and deploy."""
    with tarfile.open(built[0]) as archive:
        archive.extractall(tmp_path, filter="data")
    [source] = tmp_path.iterdir()
    assert all((source / name).exists() for name in ("configs/deploy", "tests/conftest.py", "README.md", "LICENSE"))
    [wheel] = build(source, tmp_path / "again", "wheel")
    assert packaged(wheel) == packaged(built[1])


def test_an_installed_wheel_runs_without_a_checkout(built: tuple[Path, Path], tmp_path: Path) -> None:
    """Each command's help, and those that read files of the package."""
    target, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    install = ["install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", *install, str(built[1])], check=True, timeout=100)

    def run(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(target)}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert Path(run("-c", "import batchsubmit; print(batchsubmit.__file__)").strip()).is_relative_to(target)
    assert "batchsubmit, version" in run("-m", "batchsubmit", "--version")
    assert '"cleanrooms-ml:StartTrainedModelInferenceJob"' in run("-m", "batchsubmit", "policy", "submit")
    assert run("-m", "batchsubmit", "init", "new") == ""
    quick = ("--sandbox", "--sandbox-job-seconds", "0.1", "--report", "page.html")
    run("-m", "batchsubmit", "submit", "new/jobs.csv", *quick)
    assert (work / "page.html").stat().st_size > 10_000
