"""Heap allocations and system calls of an echo."""

import shutil
import signal
import subprocess

from bench import Skip
from bench.generator import go_on
from bench.heap import HeapCounts, counting_environment
from bench.machine import all_cores, begin_on
from bench.report import MET, MISSED, Goal

TITLE = "Allocations and system calls of a 20-byte echo, on one connection, one at a time"
READS = ("read", "readv", "recvfrom", "recvmsg")
WRITES = ("write", "writev", "sendto", "sendmsg")
# A timer or a log line may take a block now and then; an echo may not.
ALLOCATIONS_MAX = 0.001


def runs(_):
    return 0


def waiting_echoes(bench, server, messages):
    return bench.generator.waiting(
        "echo", server, "--wait", "--connections", 1, "--messages", messages
    )


def allocations_per_message(bench, messages):
    path = bench.contestants.work / "allocations"
    with bench.contestants.gateway(counting_environment(bench.contestants, path)) as server:
        counts = HeapCounts(path)
        with waiting_echoes(bench, server, messages) as load:
            before = counts.read()[0]
            figures = go_on(load)
            return (counts.read()[0] - before) / figures["messages"]


def trace(pid, load, summary):
    """Counts the system calls of a process while a waiting load runs."""
    tracer = subprocess.Popen(
        ["strace", "-f", "-c", "-o", summary, "-p", str(pid)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=begin_on(all_cores()),
    )
    try:
        if "attached" not in tracer.stderr.readline():
            raise Skip("strace may not attach to processes here")
        return go_on(load)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(timeout=10)
        tracer.stderr.close()


def calls_per_message(bench, messages):
    """System calls by name."""
    if shutil.which("strace") is None:
        raise Skip("strace is not installed")
    summary = bench.contestants.work / "strace"
    with bench.contestants.gateway() as server:
        with waiting_echoes(bench, server, messages) as load:
            figures = trace(server.pid, load, summary)
    calls = {}
    for line in summary.read_text().splitlines():
        fields = line.split()
        # % time, seconds, usecs/call, calls, perhaps errors, name
        if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total":
            calls[fields[-1]] = int(fields[3]) / figures["messages"]
    return calls


def reads_and_writes(calls):
    return sum(calls.get(name, 0) for name in READS), sum(calls.get(name, 0) for name in WRITES)


def measure(bench):
    messages = bench.settings.messages
    results = {
        "messages": messages,
        "allocations": allocations_per_message(bench, messages),
        "traced_messages": messages // 10,
    }
    try:
        results["calls"] = calls_per_message(bench, messages // 10)
    except Skip as reason:
        results["not_traced"] = str(reason)
    return results


def section(results):
    lines = [f"- heap allocations: {results['allocations']:.5f} ({results['messages']:,} messages)"]
    if "calls" not in results:
        return [*lines, f"- system calls: not counted, {results['not_traced']}"]
    listed = ", ".join(f"{name} {count:.3f}" for name, count in sorted(results["calls"].items()))
    return [*lines, f"- system calls: {listed} ({results['traced_messages']:,} messages)"]


def goals(results):
    each = results["allocations"]
    verdict = MET if each < ALLOCATIONS_MAX else MISSED
    yield Goal("heap allocations of an echo", "none", f"{each:.5f}", verdict)
