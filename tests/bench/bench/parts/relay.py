"""WebSocket to WebSocket: relays in front of the same upstream."""

from bench.contest import contest, those_installed
from bench.report import at_most, contest_table
from bench.statistics import median, ratios
from bench.workload import Workload

TITLE = "Relay, WebSocket to WebSocket: the relay alone on one core, echoes from behind it"
LIMIT = "raw epoll"
RATIO_MAX = 1.2
# A relay's connection costs two sockets.
WORKLOADS = [
    Workload(20, 1, 100),
    Workload(20, 16, 100),
    Workload(1024, 1, 100),
    Workload(1024, 16, 100),
    Workload(16384, 1, 100),
]


def contestants(bench, port):
    servers = bench.contestants
    return those_installed(
        ("sluice", lambda: servers.relay(port)),
        (LIMIT, lambda: servers.raw_relay(port)),
        ("nginx", lambda: servers.nginx(port)),
        ("nginx 64k", lambda: servers.nginx_64k(port)),
        ("haproxy", lambda: servers.haproxy(port)),
        ("haproxy 64k", lambda: servers.haproxy_64k(port)),
    )


def runs(settings):
    return len(WORKLOADS) * 6 * settings.rounds


def measure(bench):
    with bench.contestants.echo_upstream() as upstream:
        return [
            contest(bench, contestants(bench, upstream.port), workload) for workload in WORKLOADS
        ]


def section(results):
    return contest_table(results, LIMIT)


def goals(results):
    for one in results:
        workload = Workload(one["size"], one["pipeline"], one["connections"])
        ratio = median(ratios(one["runs"]["sluice"], one["runs"][LIMIT]))
        yield at_most(f"relay {workload}, times {LIMIT}", ratio, RATIO_MAX)
