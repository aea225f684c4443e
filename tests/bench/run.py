#!/usr/bin/python3
"""What script/bench runs: measures the gateway against others in the same run.

    run.py BUILD_FOLDER [--smoke | --guard [--write]] [--rounds N] [--seconds S] [PART...]

All parts unless some are named. docs/benchmarks/README.md says what is measured and how.
"""

import argparse
import pathlib
import resource
import sys
import tempfile

import guard
from bench import Failure, smoke
from bench.bench import Settings, open_bench
from bench.parts import PARTS
from bench.progress import Progress
from bench.report import goal_table


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="script/bench", description="Measures the gateway against others in the same run."
    )
    parser.add_argument("folder", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--smoke", action="store_true", help="everything for a moment, as a test")
    parser.add_argument(
        "--guard", action="store_true", help="count the instructions of the hot operations"
    )
    parser.add_argument("--write", action="store_true", help="with --guard: keep these figures")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each server (default 7)")
    parser.add_argument("--seconds", type=float, default=2, help="length of a run (default 2)")
    parser.add_argument(
        "--idle", type=int, default=15000, help="idle connections (default 15000)"
    )
    parser.add_argument(
        "--messages", type=int, default=100000, help="messages of the part calls (default 100000)"
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    arguments = parser.parse_intermixed_args()
    unknown = [part for part in arguments.parts if part not in PARTS]
    if unknown:
        parser.error(f"unknown part: {unknown[0]} (there are {', '.join(PARTS)})")
    return arguments


def run_parts(bench, names):
    for name in names:
        part = PARTS[name]
        bench.progress.begin(name)
        results = part.measure(bench)
        bench.progress.end()
        print("\n".join(["", part.TITLE, "", *part.section(results)]))
        if hasattr(part, "goals"):
            print("\n".join(["", *goal_table(part.goals(results))]), flush=True)


def main():
    arguments = parse_arguments()
    if arguments.guard:
        guard.run(arguments.folder, arguments.write)
        return 0
    _, descriptors_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors_max, descriptors_max))
    with tempfile.TemporaryDirectory() as work:
        if arguments.smoke:
            moment = Settings(rounds=1, seconds=0.3, idle=500, messages=10000)
            return smoke.run(open_bench(arguments.folder, work, moment, Progress({}, quiet=True)))
        names = arguments.parts or list(PARTS)
        settings = Settings(
            arguments.rounds, arguments.seconds, arguments.idle, arguments.messages
        )
        progress = Progress({name: PARTS[name].runs(settings) for name in names})
        try:
            run_parts(open_bench(arguments.folder, work, settings, progress), names)
        except Failure as failure:
            print(f"script/bench: {failure}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
