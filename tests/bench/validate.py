"""Rows checked a second: `batchsubmit validate` beside csv.DictReader and botocore's own ParamValidator on each row.

    .venv/bin/python tests/bench/validate.py [--rows N] [--runs N] [--folder FOLDER] [--profile]

Each is a process of its own over the same file, imports included; `rows/s` is of the whole process,
`rows/CPU s` the same by its CPU time, which others on the machine disturb less. botocore's
validator checks types, lengths and required members, but neither patterns nor enums, and knows no keys and no
duplicates. The manifest's rows are all good; names and one environment value differ from row to row, as in most
manifests. With --profile nothing is compared: the reading is run once under cProfile, and what costs most is printed.
"""

import argparse
import asyncio
import cProfile
import pstats
import resource
import sys
import tempfile
from pathlib import Path

from harness import Figures, Ratio, alternate, machine, print_figures, print_ratios
from workload import PROGRAM, run_watched, surroundings, write_manifest

OURS, BOTOCORE = "batchsubmit validate", "csv.DictReader and botocore"
PROFILE_LINES = 40
_VALIDATED_BY_BOTOCORE = """
import csv, sys
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

def nested(row):
    request = {}
    for name, cell in row.items():
        if cell:
            *steps, last = name.split(".")
            node = request
            for step in steps:
                node = node.setdefault(step, {})
            node[last] = int(cell) if last == "instanceCount" else cell
    output = request["outputConfiguration"]
    output["members"] = list(output["members"].values())
    return request

service = ServiceModel(Loader().load_service_model("cleanroomsml", "service-2"))
shape = service.operation_model("StartTrainedModelInferenceJob").input_shape
validator = ParamValidator()
with open(sys.argv[1], newline="") as file:
    for row in csv.DictReader(file):
        report = validator.validate(nested(row), shape)
        if report.has_errors():
            print(report.generate_report())
"""


def measure(rows: int, runs: int, folder: str | None = None, *, warm_ups: int = 1) -> dict[str, list[Figures]]:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        manifest = write_manifest(Path(place) / "jobs.csv", rows)

        def process(*command: str) -> Figures:
            # As it is installed: compiled, be it that the machine's own setting would compile it in each run.
            surrounded = {**surroundings("http://127.0.0.1:9"), "PYTHONDONTWRITEBYTECODE": ""}
            before = time_of_processes()
            watched = run_watched([*command, str(manifest)], surrounded, Path(place))
            rows_per_cpu_second = rows / (time_of_processes() - before)
            return {"rows/s": rows / watched.seconds, "rows/CPU s": rows_per_cpu_second, "process s": watched.seconds}

        alternatives = {
            OURS: lambda: process(*PROGRAM, "validate"),
            BOTOCORE: lambda: process(sys.executable, "-c", _VALIDATED_BY_BOTOCORE),
        }
        return alternate(alternatives, runs=runs, warm_ups=warm_ups)


def time_of_processes() -> float:
    """CPU seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def print_profile(rows: int, folder: str | None) -> None:
    from batchsubmit.config import Settings  # noqa: PLC0415 (only the profile runs in this process)
    from batchsubmit.manifest.check import Terms, open_checked_manifest  # noqa: PLC0415

    profile = cProfile.Profile()

    async def read(manifest: Path) -> None:
        checked = open_checked_manifest(str(manifest), Settings(), region=None, terms=Terms())
        async with checked as (_, inventory):
            profile.enable()
            for _ in inventory.index.reader.rows():
                pass
            profile.disable()

    with tempfile.TemporaryDirectory(dir=folder) as place:
        asyncio.run(read(write_manifest(Path(place) / "jobs.csv", rows)))
    pstats.Stats(profile).sort_stats("tottime").print_stats(PROFILE_LINES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the manifest (200000)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each, after a warm-up (5)")
    parser.add_argument("--folder", help="where the manifest is written (the folder for temporary files)")
    parser.add_argument("--profile", action="store_true", help="profile the reading instead")
    options = parser.parse_args()
    if options.profile:
        print_profile(options.rows, options.folder)
        return
    measured = measure(options.rows, options.runs, options.folder)
    print(f"{options.rows:,} rows; {machine()}")
    print_figures(measured)
    print_ratios(measured, [Ratio(figure, OURS, BOTOCORE) for figure in ("rows/s", "rows/CPU s")])


if __name__ == "__main__":
    main()
