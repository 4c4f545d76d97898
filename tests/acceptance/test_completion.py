"""Shell completion as the book sets it up, in real shells where they are installed."""

import os
import shutil
import subprocess

import pytest
from book import PAGES
from conftest import CONSOLE_SCRIPT

from batchsubmit import __version__

LINES = {
    "bash": 'eval "$(_BATCHSUBMIT_COMPLETE=bash_source batchsubmit)"',
    "zsh": 'eval "$(_BATCHSUBMIT_COMPLETE=zsh_source batchsubmit)"',
    "fish": "_BATCHSUBMIT_COMPLETE=fish_source batchsubmit | source",
}


def run(*command: str, **environment: str) -> str:
    """Run a command that finds the program on its path."""
    path = f"{CONSOLE_SCRIPT.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout


def shell(name: str, *arguments: str) -> str:
    """Run a script in a shell, or skip where there is none."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return run(name, *arguments)


@pytest.mark.parametrize("name", LINES)
def test_every_shell_gets_a_script_and_completions(name: str) -> None:
    """By the protocol that the scripts speak, whether or not the shell is installed."""
    script = run(str(CONSOLE_SCRIPT), _BATCHSUBMIT_COMPLETE=f"{name}_source")
    assert f"_BATCHSUBMIT_COMPLETE={name}_complete" in script
    words = {"COMP_WORDS": "batchsubmit sub", "COMP_CWORD": "sub" if name == "fish" else "1"}
    assert "submit" in run(str(CONSOLE_SCRIPT), _BATCHSUBMIT_COMPLETE=f"{name}_complete", **words)


def test_bash_completes_commands_and_options() -> None:
    """Set up as the book says."""
    ask = 'COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _batchsubmit_completion batchsubmit; echo "${COMPREPLY[@]}"'
    for words, expected in (("batchsubmit ca", "cancel"), ("batchsubmit submit --dead", "--deadline")):
        script = f"{LINES['bash']}; COMP_WORDS=({words}); {ask}"
        assert shell("bash", "--norc", "-c", script).split() == [expected]


def test_zsh_knows_who_completes() -> None:
    """Set up as the book says, after zsh's own completion."""
    script = f'autoload -U compinit; compinit -u -D; {LINES["zsh"]}; print "$_comps[batchsubmit]"'
    assert shell("zsh", "-f", "-c", script).strip() == "_batchsubmit_completion"


def test_fish_completes_commands_and_options() -> None:
    """Set up as the book says."""
    for words, expected in (("batchsubmit ca", "cancel"), ("batchsubmit submit --dead", "--deadline")):
        shown = shell("fish", "--no-config", "-c", f"{LINES['fish']}; complete -C '{words}'")
        assert [line.split("\t")[0] for line in shown.splitlines()] == [expected]


def test_the_book_has_these_lines() -> None:
    """What is tested is what people copy."""
    assert all(line in PAGES["commands"] for line in LINES.values())


def test_the_version_is_that_of_the_package() -> None:
    """And nothing else is printed."""
    assert run(str(CONSOLE_SCRIPT), "--version") == f"batchsubmit, version {__version__}\n"
