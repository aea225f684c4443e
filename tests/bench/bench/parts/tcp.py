"""WebSocket to TCP: a `tcp` route beside websockify, in front of a server of plain bytes."""

from bench.contest import contest, those_installed
from bench.machine import cores
from bench.report import at_least, contest_table
from bench.statistics import median, ratios
from bench.workload import Workload

TITLE = "Relay, WebSocket to TCP: the relay alone on one core, echoes from behind it"
RATIO_MIN = 12
# websockify has a process for each connection.
WORKLOADS = [Workload(20, 1, 8), Workload(1024, 1, 8), Workload(16384, 4, 8)]


def contestants(bench, port):
    servers = bench.contestants
    return those_installed(
        ("sluice", lambda: servers.relay(port), "--path", "/raw"),
        ("websockify", lambda: servers.websockify(port)),
    )


def runs(settings):
    return len(WORKLOADS) * 2 * settings.rounds


def measure(bench):
    with bench.contestants.raw_echo(core=cores()[1]) as upstream:
        return [
            contest(bench, contestants(bench, upstream.port), workload, "--stream")
            for workload in WORKLOADS
        ]


def section(results):
    return contest_table(results, "sluice")


def goals(results):
    for one in results:
        workload = Workload(one["size"], one["pipeline"], one["connections"])
        if "websockify" in one["runs"]:
            ratio = median(ratios(one["runs"]["websockify"], one["runs"]["sluice"]))
            yield at_least(f"tcp {workload}: times less than websockify", ratio, RATIO_MIN, "{:.1f}")
