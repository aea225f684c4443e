"""WebSocket to WebSocket: relays in front of the same upstream."""

from bench.contest import contest, those_installed
from bench.report import contest_table, ratio_goals
from bench.workload import Workload

TITLE = "Relay, WebSocket to WebSocket: the relay alone on one core, echoes from behind it"
LIMIT = "raw epoll"
WORKLOADS = [
    Workload(20, 1, 1),
    Workload(20, 1, 200),
    Workload(20, 16, 200),
    Workload(20, 1, 2000),
    Workload(1024, 1, 200),
    Workload(1024, 16, 200),
    Workload(16384, 1, 200),
    Workload(256 * 1024, 1, 50),
]
RATIO_MAX = {workload: 1.2 for workload in WORKLOADS}


def contestants(bench, port):
    servers = bench.contestants
    return those_installed(
        bench,
        ("sluice", lambda: servers.relay(port)),
        (LIMIT, lambda: servers.raw_relay(port)),
        ("nginx", lambda: servers.nginx(port)),
        ("nginx 64k", lambda: servers.nginx_64k(port)),
        ("haproxy", lambda: servers.haproxy(port)),
        ("haproxy 64k", lambda: servers.haproxy_64k(port)),
        ("caddy", lambda: servers.caddy(port)),
        ("apache", lambda: servers.apache(port)),
    )


def runs(settings):
    return len(WORKLOADS) * (8 + 2) * settings.rounds


def measure(bench):
    with bench.contestants.echo_upstream() as upstream:
        return [
            contest(
                bench, contestants(bench, upstream.port), workload, again=("sluice", LIMIT)
            )
            for workload in WORKLOADS
        ]


def section(results):
    return contest_table(results, LIMIT)


def goals(results):
    return ratio_goals(results, "relay", LIMIT, RATIO_MAX)
