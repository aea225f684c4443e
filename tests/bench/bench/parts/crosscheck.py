"""Public load generators beside ours, on the same server."""

import re
import subprocess

from bench import Skip
from bench.generator import RUN_SECONDS_MAX
from bench.machine import begin_on, cores
from bench.report import table
from bench.servers import cpu_seconds, installed
from bench.statistics import cost_us, latency_us, median, median_of, rate
from bench.workload import Workload

TITLE = "Our load generator beside public ones"
OURS, OURS_PACED = "ours", "ours, at its rate"
WEBSOCKETS, WRK = "python3-websockets", "wrk"
FRAMES = [Workload(20, 1, 1), Workload(20, 1, 50), Workload(1024, 1, 50)]
CONNECTIONS = 16


def runs(settings):
    return (len(FRAMES) * 3 + 2) * settings.rounds


def measure(bench):
    with bench.contestants.gateway() as server:
        results = {"frames": [frames(bench, server, workload) for workload in FRAMES]}
        try:
            results["requests"] = requests(bench, server)
        except Skip as reason:
            results["requests"] = {"skipped": str(reason)}
    return results


# ---- Frames


def frames(bench, server, workload):
    """By turns; ours a second time with no more messages a second than Python sends."""
    by_generator = {WEBSOCKETS: [], OURS: [], OURS_PACED: []}
    seconds = ["--seconds", bench.settings.seconds]
    for number in range(1, bench.settings.rounds + 1):
        bench.progress.round(f"frames, {workload}", number, bench.settings.rounds)
        theirs = bench.generator.run_websockets(server, *workload.options, *seconds)
        by_generator[WEBSOCKETS].append(theirs)
        by_generator[OURS].append(bench.generator.run("echo", server, *workload.options, *seconds))
        at_rate = ["--rate", max(int(rate(theirs)), 1)]
        run = bench.generator.run("echo", server, *workload.options, *seconds, *at_rate)
        by_generator[OURS_PACED].append(run)
    return {**workload._asdict(), "runs": by_generator}


# ---- HTTP


def requests(bench, server):
    """wrk asks for a small file on a new connection each; we open and close a WebSocket."""
    by_generator = {WRK: [], OURS: []}
    seconds = bench.settings.seconds
    for number in range(1, bench.settings.rounds + 1):
        bench.progress.round("connections", number, bench.settings.rounds)
        by_generator[WRK].append(run_wrk(bench, server, seconds))
        run = bench.generator.run(
            "handshakes", server, "--connections", CONNECTIONS, "--seconds", seconds
        )
        by_generator[OURS].append(run)
    return by_generator


UNITS = {"us": 1, "ms": 1e3, "s": 1e6}


def run_wrk(bench, server, seconds):
    command = [installed("wrk"), "-t", 1, "-c", CONNECTIONS, "-d", f"{max(round(seconds), 1)}s"]
    command += ["--latency", "-H", "Connection: close"]
    command += [f"http://127.0.0.1:{server.port}/files/index.html"]
    before = cpu_seconds(server.pid)
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        preexec_fn=begin_on(cores()[1]),
    )
    bench.progress.ran()
    told = done.stdout
    count, taken = re.search(r"(\d+) requests in ([\d.]+)s", told).groups()
    run = {
        "messages": int(count),
        "seconds": float(taken),
        "server_cpu_seconds": cpu_seconds(server.pid) - before,
    }
    for percent in (50, 99):
        value, unit = re.search(rf"{percent}% +([\d.]+)(us|ms|s)", told).groups()
        run[f"p{percent}_us"] = float(value) * UNITS[unit]
    return run


# ---- Shown


def row(what, name, some):
    p50, p99 = (
        median_of(lambda run: latency_us(run, quantile), some) for quantile in ("p50", "p99")
    )
    return (
        what,
        name,
        f"{median_of(rate, some):,.0f}",
        f"{median(cost_us(run) for run in some):.2f}",
        f"{p50:,.0f} / {p99:,.0f}" if p50 else "",
    )


def section(results):
    rows = []
    for one in results["frames"]:
        what = str(Workload.of(one))
        for name, some in one["runs"].items():
            rows.append(row(what, name, some))
            what = ""
    head = ["", "generator", "a second", "CPU µs each", "closed loop: p50 / p99, µs"]
    lines = ["Echoes. A server that is asked less often sleeps more often, which costs time.", ""]
    lines += table(head, rows)
    if "skipped" in results["requests"]:
        return [*lines, "", f"wrk: {results['requests']['skipped']}"]
    requested = results["requests"]
    rows = [
        row("asks for 1 KiB", WRK, requested[WRK]),
        row("upgrades, closing handshake", OURS, requested[OURS]),
    ]
    return [*lines, "", f"New connections, {CONNECTIONS} at a time:", "", *table(head, rows)]
