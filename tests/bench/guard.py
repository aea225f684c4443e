"""The guard: instructions of the hot operations, compared with the figures kept in guard.json.

Counted by valgrind (callgrind), so that a busy machine changes nothing. Other compilers and other
processors (libc has a memcpy for each) change something: the guard warns, it does not fail.
"""

import json
import os
import pathlib
import re
import subprocess

KEPT = pathlib.Path(__file__).parent / "guard.json"
WARNING_PERCENT = 5
COUNTS = (200, 1200)
# Valgrind counts each byte of `rep movsb`, which libc copies large pieces with unless told not to.
ENVIRONMENT = {**os.environ, "GLIBC_TUNABLES": "glibc.cpu.x86_rep_movsb_threshold=1073741824"}


def instructions(program, name, count):
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, name, str(count)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=60,
        check=True,
    )
    return int(re.search(r"Collected : (\d+)", done.stderr)[1])


def measure(program):
    """Instructions for one operation, by name."""
    names = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    few, many = COUNTS
    return {
        name: round(
            (instructions(program, name, many) - instructions(program, name, few)) / (many - few)
        )
        for name in names.splitlines()
    }


def compiler(build_folder):
    files = sorted((build_folder / "CMakeFiles").glob("*/CMakeCXXCompiler.cmake"))
    text = files[-1].read_text() if files else ""
    named = re.search(r'CMAKE_CXX_COMPILER_ID "(.*?)"', text)
    version = re.search(r'CMAKE_CXX_COMPILER_VERSION "(.*?)"', text)
    return f"{named[1]} {version[1]}" if named and version else "unknown"


def print_table(figures, kept):
    """Returns how many have grown by more than the noise."""
    print(f"  {'':28} {'instructions':>12} {'kept':>8} {'change':>8}")
    grown = 0
    for name, now in figures.items():
        before = kept.get(name)
        change = f"{(now - before) / before:+8.1%}" if before else "     new"
        warned = bool(before) and now > before * (1 + WARNING_PERCENT / 100)
        grown += warned
        print(f"  {name:28} {now:12,} {before or '-':>8} {change}{'  WARNING' if warned else ''}")
    return grown


def run(build_folder, write=False):
    """Prints the table; with `write` the figures are kept anew. Returns how many have grown."""
    made_by = compiler(build_folder)
    figures = measure(build_folder / "tests" / "bench" / "bench_guard")
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {"compiler": "none", "instructions": {}}
    print(f"Instructions for one operation, {made_by}; kept figures: {kept['compiler']}")
    grown = print_table(figures, kept["instructions"])
    if grown:
        print(f"  warning: {grown} of them need over {WARNING_PERCENT} % more than what is kept")
    if write:
        text = json.dumps({"compiler": made_by, "instructions": figures}, indent=2)
        KEPT.write_text(text + "\n")
        print(f"  written to tests/bench/{KEPT.name}")
    return grown
