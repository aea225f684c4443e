#!/usr/bin/python3
"""What script/bench runs: measures the gateway against others in the same run.

    run.py BUILD_FOLDER [--smoke | --guard [--write] | --report] [PART...]

All parts unless some are named. docs/benchmarks/README.md says what is measured and how.
"""

import argparse
import pathlib
import resource
import signal
import sys
import tempfile
from dataclasses import asdict

import guard
from bench import Failure, smoke
from bench.bench import Settings, open_bench
from bench.parts import PARTS
from bench.progress import Progress
from bench.report import goal_table
from bench.results import FOLDER, Results


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
    parser.add_argument("--rounds", type=int, help="runs of each server (default 4)")
    parser.add_argument("--seconds", type=float, help="length of a run (default 0.7)")
    parser.add_argument("--quick", action="store_true", help="one round of 0.2 s: no measurement")
    parser.add_argument("--idle", type=int, default=15000, help="idle connections (default 15000)")
    parser.add_argument(
        "--idle-connections",
        type=int,
        metavar="N",
        help="idle connections over several processes (default what memory allows, at most 1000000)",
    )
    parser.add_argument(
        "--messages", type=int, default=100000, help="messages of the part calls (default 100000)"
    )
    parser.add_argument(
        "--to",
        type=pathlib.Path,
        metavar="FOLDER",
        help="where the results and the report are kept (default docs/benchmarks; with --quick a new"
        " folder of its own, since what it finds is no measurement)",
    )
    parser.add_argument(
        "--report", action="store_true", help="write the report anew, of the results that are kept"
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    arguments = parser.parse_intermixed_args()
    unknown = [part for part in arguments.parts if part not in PARTS]
    if unknown:
        parser.error(f"unknown part: {unknown[0]} (there are {', '.join(PARTS)})")
    return arguments


def folder_of(arguments):
    """Where the results go."""
    if arguments.to is None and arguments.quick:
        return pathlib.Path(tempfile.mkdtemp(prefix="sluice-bench-"))
    return arguments.to or FOLDER


def settings_of(arguments):
    rounds, seconds = (1, 0.2) if arguments.quick else (4, 0.7)
    return Settings(
        arguments.rounds or rounds,
        arguments.seconds or seconds,
        arguments.idle,
        arguments.messages,
        arguments.idle_connections,
    )


def run_parts(bench, names, results):
    """Each is kept as soon as it is measured: a long run that is ended has not been for nothing."""
    versions = bench.contestants.versions()
    for name in names:
        part = PARTS[name]
        bench.progress.begin(name)
        measured = part.measure(bench)
        bench.progress.end()
        results.keep(name, measured, asdict(bench.settings), versions)
        results.write()
        show(part, results.parts[name]["results"])
    print(f"\nThe report: {results.folder / 'report.md'}")


def show(part, measured):
    print("\n".join(["", part.TITLE, "", *part.section(measured)]))
    goals = list(part.goals(measured)) if hasattr(part, "goals") else []
    if goals:
        print("\n".join(["", *goal_table(goals)]), flush=True)


def main():
    # Whoever ends it, or closes its terminal, does not want its servers to stay.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup(1) has it
            signal.signal(number, lambda *_: sys.exit(1))
    arguments = parse_arguments()
    if arguments.guard:
        guard.run(arguments.folder, arguments.write)
        return 0
    if arguments.report:
        Results(folder_of(arguments)).write()
        return 0
    _, descriptors_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors_max, descriptors_max))
    with tempfile.TemporaryDirectory() as work:
        if arguments.smoke:
            moment = Settings(rounds=1, seconds=0.3, idle=500, messages=10000)
            return smoke.run(open_bench(arguments.folder, work, moment, Progress({}, quiet=True)))
        names = arguments.parts or list(PARTS)
        settings = settings_of(arguments)
        progress = Progress({name: PARTS[name].runs(settings) for name in names})
        bench = open_bench(arguments.folder, work, settings, progress)
        try:
            run_parts(bench, names, Results(folder_of(arguments)))
        except Failure as failure:
            print(f"script/bench: {failure}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
