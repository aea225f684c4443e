"""Echoes of a plugin beside servers that know nothing of WebSocket: the limit."""

from bench.contest import Contestant, contest
from bench.report import at_most, contest_table
from bench.statistics import median, ratios
from bench.workload import Workload

TITLE = "Echo: one worker on one core"
LIMIT = "libuv"
WORKLOADS = [
    Workload(20, 16, 200),
    Workload(20, 1, 200),
    Workload(1024, 16, 200),
    Workload(1024, 1, 200),
    Workload(16384, 4, 200),
    Workload(16384, 1, 100),
]
RATIO_MAX = {
    Workload(20, 1, 200): 1.1,
    Workload(20, 16, 200): 1.1,
    Workload(1024, 1, 200): 1.1,
    Workload(1024, 16, 200): 1.1,
    Workload(16384, 1, 100): 1.05,
}


def contestants(bench):
    servers = bench.contestants
    return [
        Contestant("sluice", servers.gateway()),
        Contestant(LIMIT, servers.raw_echo(), ("--raw",)),
    ]


def runs(settings):
    return len(WORKLOADS) * 2 * settings.rounds


def measure(bench):
    return [contest(bench, contestants(bench), workload) for workload in WORKLOADS]


def section(results):
    return contest_table(results, LIMIT)


def goals(results):
    for one in results:
        workload = Workload(one["size"], one["pipeline"], one["connections"])
        if workload in RATIO_MAX:
            ratio = median(ratios(one["runs"]["sluice"], one["runs"][LIMIT]))
            yield at_most(f"echo {workload}, times {LIMIT}", ratio, RATIO_MAX[workload])
