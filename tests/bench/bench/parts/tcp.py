"""WebSocket to TCP: a `tcp` route beside websockify, in front of a server of plain bytes."""

from bench.contest import contest, those_installed
from bench.machine import cores
from bench.report import contest_table, times_less_goals
from bench.workload import Workload

TITLE = "Relay, WebSocket to TCP: the relay alone on one core, echoes from behind it"
TIMES_LESS_MIN = 12
WORKLOADS = [
    Workload(20, 1, 1),
    Workload(20, 1, 200),
    Workload(20, 16, 200),
    Workload(20, 1, 2000),
    Workload(1024, 1, 200),
    Workload(16384, 1, 200),
    Workload(256 * 1024, 1, 8),
]
PROCESSES_MAX = 200  # websockify has one for each connection


def contestants(bench, port, connections):
    servers = bench.contestants
    stream = "--stream"  # the bytes may come back in other messages
    makers = [
        ("sluice", lambda: servers.relay(port), stream, "--path", "/raw"),
        # On both sides plain bytes: it understands nothing.
        ("raw epoll", lambda: servers.raw_relay(port), "--raw"),
    ]
    if connections <= PROCESSES_MAX:
        makers.append(("websockify", lambda: servers.websockify(port), stream))
    return those_installed(bench, *makers)


def runs(settings):
    return (len(WORKLOADS) * 3 - 1) * settings.rounds


def measure(bench):
    with bench.contestants.raw_echo(core=cores()[1]) as upstream:
        return [
            contest(bench, contestants(bench, upstream.port, workload.connections), workload)
            for workload in WORKLOADS
        ]


def section(results):
    return contest_table(results, "sluice")


def goals(results):
    return times_less_goals(results, "tcp", "websockify", TIMES_LESS_MIN, limit="raw epoll")
