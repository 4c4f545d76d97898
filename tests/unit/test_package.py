"""What `import batchsubmit` gives, and what it costs."""

import subprocess
import sys

import pytest

import batchsubmit


def test_every_public_name_is_there_and_no_other() -> None:
    """`__all__` is kept by hand."""
    for name in batchsubmit.__all__:
        assert getattr(batchsubmit, name).__module__.startswith(("batchsubmit", "types", "typing")), name
    with pytest.raises(AttributeError, match="submit_job'"):
        _ = batchsubmit.submit_job


def test_importing_the_package_loads_nothing_of_it() -> None:
    """The command line imports it first of all."""
    code = "import sys, batchsubmit; print([name for name in sys.modules if name.startswith(('asyncio', 'batchs'))])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "['batchsubmit']\n"
