"""Memory and time as manifests grow: `validate`, `submit` and a resumed run over few rows and over many.

    .venv/bin/python tests/bench/growth.py [--few N] [--many N] [--runs N] [--folder FOLDER] [commands ...]

Commands are `validate`, `first`, `submit` and `resume` (all by default). `peak MB` is the largest resident
memory of the process as the kernel accounts for it, `net µs/row` the time of the process less that of the same command
on one row (in the same round), over its rows: what grows with the manifest, without imports and connections. `net CPU
µs/row` is the same of its CPU time, which says more where the machine has other work.

`first` is the time from the start of `submit` to its first call as the server sees it (it is ended then), and how much
longer that is than `validate` right before. `submit` runs against the minimal server with quotas and rate off; a
million rows take it ten minutes. `resume` is `first` for a ledger in which all jobs but the last row's are submitted,
by a run that was killed: `over validate` is how many times as long as `validate` it takes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from harness import Figures, Ratio, alternate, machine, print_figures, print_ratios
from workload import PROGRAM, MinimalServer, minimal_server, surroundings, write_manifest, write_submitted_ledger

COMMANDS = ("validate", "first", "submit", "resume")
_LOOK_SECONDS = 0.05  # the server tells when the call came; to ask more often would take a core from the program
NET = {"net µs/row": "s", "net CPU µs/row": "CPU s"}


def watch(command: Sequence[str], environment: dict[str, str]) -> Figures:
    """Run a process to its end and ask the kernel what it took."""
    began = time.monotonic()
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123 (a device)
        actions = [(os.POSIX_SPAWN_DUP2, nothing.fileno(), 1), (os.POSIX_SPAWN_DUP2, nothing.fileno(), 2)]
        pid = os.posix_spawn(command[0], command, environment, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.monotonic() - began
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return {
        "peak MB": usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10),
        "s": seconds,
        "CPU s": usage.ru_utime + usage.ru_stime,
    }


class Growth:
    """One manifest and its ledgers."""

    def __init__(self, folder: Path, server: MinimalServer, rows: int) -> None:
        self._rows = rows
        self._manifest = write_manifest(folder / f"{rows}.csv", rows)
        self._ledger = folder / f"{rows}.new.jsonl"
        self._submitted = folder / f"{rows}.submitted.jsonl"
        self._server = server
        self._environment = surroundings(server.url)

    def validate(self) -> Figures:
        """Check the manifest."""
        return watch([*PROGRAM, "validate", str(self._manifest)], self._environment)

    def first(self) -> Figures:
        """Check the manifest, then submit it until the first call is there."""
        self._ledger.unlink(missing_ok=True)
        validated, first = self.validate()["s"], self._first_call(self._ledger)
        return {"s": first, "s more than validate": first - validated}

    def resume(self) -> Figures:
        """Check the manifest, then go on with it after a run that was killed before its last job."""
        write_submitted_ledger(self._submitted, self._rows - 1)
        validated, first = self.validate()["s"], self._first_call(self._submitted)
        return {"s": first, "over validate": first / validated}

    def _first_call(self, ledger: Path) -> float:
        self._server.reset()
        began = time.monotonic()
        with subprocess.Popen(self._submission(ledger), env=self._environment, stderr=subprocess.DEVNULL) as process:
            while not (times := self._server.times()):
                if process.poll() is not None:
                    raise RuntimeError("the program made no call")
                time.sleep(_LOOK_SECONDS)
            process.terminate()
        return times[0] - began

    def submit(self) -> Figures:
        """Submit all of it."""
        self._ledger.unlink(missing_ok=True)
        figures = watch(self._submission(self._ledger), self._environment)
        return {**figures, "ledger bytes/job": self._ledger.stat().st_size / self._rows}

    def _submission(self, ledger: Path) -> list[str]:
        return [*PROGRAM, "submit", str(self._manifest), "--rate", "0", "--ledger", str(ledger), "--yes"]


def measure(
    commands: Sequence[str], few: int, many: int, runs: int, folder: str | None = None, *, warm_ups: int = 1
) -> dict[str, list[Figures]]:
    with tempfile.TemporaryDirectory(dir=folder) as place, minimal_server() as server:
        manifests = {rows: Growth(Path(place), server, rows) for rows in (1, few, many)}
        alternatives: dict[str, Callable[[], Figures]] = {}
        for command in commands:
            alternatives |= {_name(command, rows): getattr(each, command) for rows, each in manifests.items()}
        measured = alternate(alternatives, runs=runs, warm_ups=warm_ups)
    for command in commands:
        starts = measured[_name(command, 1)]
        for rows in (few, many):
            name = _name(command, rows)
            pairs = zip(measured[name], starts, strict=True)
            measured[name] = [{**figures, **_net(figures, start, rows)} for figures, start in pairs]
    return measured


def _net(figures: Figures, start: Figures, rows: int) -> Figures:
    return {net: 1e6 * (figures[of] - start[of]) / (rows - 1) for net, of in NET.items() if of in figures}


def _name(command: str, rows: int) -> str:
    return f"{command}, {rows:,} row{'s' if rows > 1 else ''}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", metavar="command", help=f"what to measure: {', '.join(COMMANDS)} (all)")
    parser.add_argument("--few", type=int, default=10_000, help="rows of the small manifest (10000)")
    parser.add_argument("--many", type=int, default=1_000_000, help="rows of the large one (1000000)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each, after a warm-up (5)")
    parser.add_argument("--folder", help="where manifests and ledgers are written (the folder for temporary files)")
    options = parser.parse_args()
    if unknown := set(options.commands) - set(COMMANDS):
        parser.error(f"no command {', '.join(unknown)}")
    commands = options.commands or COMMANDS
    measured = measure(commands, options.few, options.many, options.runs, options.folder, warm_ups=0)
    print(machine())
    print_figures(measured)
    for command in commands:
        few, many = (_name(command, rows) for rows in (options.few, options.many))
        ratios = [Ratio(net, many, few) for net in NET if net in measured[few][0]]
        print_ratios(measured, ratios)
        if "peak MB" not in measured[few][0]:
            continue
        most, least = max(run["peak MB"] for run in measured[many]), min(run["peak MB"] for run in measured[few])
        print(f"{command}: {most - least:+.0f} MB at most from {options.few:,} to {options.many:,} rows")


if __name__ == "__main__":
    main()
