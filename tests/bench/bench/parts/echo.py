"""Echoes of a plugin, beside servers that know nothing of WebSocket (the limit) and a library."""

from bench.contest import contest, those_installed
from bench.report import contest_table, ratio_goals
from bench.workload import Workload

TITLE = "Echo: one worker on one core"
LIMIT = "libuv"
WORKLOADS = [
    Workload(20, 1, 1),
    Workload(20, 1, 200),
    Workload(20, 16, 200),
    Workload(20, 1, 2000),
    Workload(1024, 1, 200),
    Workload(1024, 16, 200),
    Workload(16384, 1, 200),
    Workload(16384, 16, 200),
    Workload(256 * 1024, 1, 200),
]
RATIO_MAX = {
    Workload(20, 1, 200): 1.1,
    Workload(20, 16, 200): 1.1,
    Workload(1024, 1, 200): 1.1,
    Workload(1024, 16, 200): 1.1,
    Workload(16384, 1, 200): 1.05,
    Workload(16384, 16, 200): 1.05,
}


def contestants(bench):
    servers = bench.contestants
    return those_installed(
        bench,
        ("sluice", servers.gateway),
        (LIMIT, servers.raw_echo, "--raw"),
        ("raw epoll", servers.raw_epoll_echo, "--raw"),
        ("libwebsockets", servers.libwebsockets),
        ("libwebsockets uv", servers.libwebsockets_uv),
    )


def compared(workload):
    return ("sluice", LIMIT) if workload in RATIO_MAX else ()


def runs(settings):
    return (len(WORKLOADS) * 5 + len(RATIO_MAX) * 2) * settings.rounds


def measure(bench):
    return [
        contest(bench, contestants(bench), workload, again=compared(workload))
        for workload in WORKLOADS
    ]


def section(results):
    return contest_table(results, LIMIT)


def goals(results):
    return ratio_goals(results, "echo", LIMIT, RATIO_MAX)
