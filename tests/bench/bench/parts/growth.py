"""How cost grows: with connections, with the size of messages, and with routes."""

import time

from bench import Failure
from bench.contest import contest, those_installed
from bench.heap import user_memory
from bench.plot import Axis, Line, draw
from bench.report import table
from bench.statistics import cost_us, costs_us, median, spread
from bench.workload import Workload, size_text

TITLE = "How cost grows"
CONNECTIONS = (1, 10, 50, 200, 1000, 2000, 5000)
SIZES = (20, 128, 1024, 4096, 16384, 65536, 256 * 1024)
ROUTES = (10, 1000, 20_000, 100_000)
CONNECTIONS_OF_SIZES = 50
ROUNDS_MAX = 3  # a curve has many points that vouch for each other


def echo_contestants(bench):
    servers = bench.contestants
    return those_installed(
        bench,
        ("sluice", servers.gateway),
        ("libuv", servers.raw_echo, "--raw"),
        ("raw epoll", servers.raw_epoll_echo, "--raw"),
    )


def relay_contestants(bench, port):
    servers = bench.contestants
    return those_installed(
        bench,
        ("sluice", lambda: servers.relay(port)),
        ("raw epoll", lambda: servers.raw_relay(port)),
        ("nginx", lambda: servers.nginx(port)),
        ("nginx 64k", lambda: servers.nginx_64k(port)),
        ("haproxy", lambda: servers.haproxy(port)),
        ("haproxy 64k", lambda: servers.haproxy_64k(port)),
    )


def runs(settings):
    by_size = len(SIZES) * (3 + 6)
    return (len(CONNECTIONS) * 3 + by_size + len(ROUTES)) * min(settings.rounds, ROUNDS_MAX)


def measure(bench):
    bench = bench.with_rounds_at_most(ROUNDS_MAX)
    sizes = [Workload(size, 1, CONNECTIONS_OF_SIZES) for size in SIZES]
    with bench.contestants.echo_upstream() as upstream:
        relays = [contest(bench, relay_contestants(bench, upstream.port), one) for one in sizes]
    return {
        "connections": [
            contest(bench, echo_contestants(bench), Workload(20, 1, connections))
            for connections in CONNECTIONS
        ],
        "sizes": [contest(bench, echo_contestants(bench), one) for one in sizes],
        "relayed_sizes": relays,
        "routes": [measure_routes(bench, routes) for routes in ROUTES],
    }


def measure_routes(bench, routes):
    try:
        return handshakes_of_last_route(bench, routes)
    except Failure as failure:
        # The last line of what it said, without the name of a file that is gone soon.
        reason = str(failure).strip().splitlines()[-1].rpartition(": ")[2]
        bench.progress.note(f"{routes:,} routes: {reason}")
        return {"routes": routes, "failed": reason}


def handshakes_of_last_route(bench, routes):
    """A message does not ask for its route again."""
    gateway = bench.contestants.gateway_of_routes(routes)
    path = ("--path", f"/route/{routes - 1}")
    started = time.monotonic()
    with gateway as server:
        start_seconds = time.monotonic() - started
        memory = user_memory(server.pid)
        costs = []
        for number in range(1, bench.settings.rounds + 1):
            bench.progress.round(f"{routes:,} routes", number, bench.settings.rounds)
            options = ["--connections", 16, "--seconds", bench.settings.seconds, *path]
            costs.append(cost_us(bench.generator.run("handshakes", server, *options)))
    return {
        "routes": routes,
        "start_seconds": start_seconds,
        "memory_bytes": memory,
        "handshake_us": costs,
    }


# ---- Shown


def section(results):
    return [
        "A connection to the last of so many routes, opened, upgraded and closed:",
        "",
        *table(
            ["routes", "CPU µs a handshake", "start, s", "memory after it, MiB"],
            [
                (
                    f"{one['routes']:,}",
                    spread(one["handshake_us"], "{:.1f}".format),
                    f"{one['start_seconds']:.2f}",
                    f"{one['memory_bytes'] / 2**20:.1f}",
                )
                for one in measured_routes(results)
            ],
        ),
        *(
            f"\n{one['routes']:,} routes: {one['failed']}"
            for one in results["routes"]
            if "failed" in one
        ),
    ]


def measured_routes(results):
    return [one for one in results["routes"] if "failed" not in one]


def point_of(x, values):
    return x, median(values), min(values), max(values)


def lines_of(contests, key):
    """A line for each contestant; `key` of the workload is x."""
    points = {}
    for one in contests:
        for name, runs_of_one in one["runs"].items():
            points.setdefault(name, []).append(point_of(one[key], costs_us(runs_of_one)))
    return [Line(name, some) for name, some in points.items()]


def number_text(number):
    return f"{number:,.10g}"


def plots(results):
    connections = Axis("connections", number_text)
    size = Axis("bytes of a message", size_text, ticks=SIZES)
    routes = Axis("routes", number_text)
    cost = Axis("CPU µs a message", number_text)
    of_handshake = Axis("CPU µs a handshake", number_text, logarithmic=False)
    route_points = [
        point_of(one["routes"], one["handshake_us"]) for one in measured_routes(results)
    ]
    return {
        "echo-connections.svg": draw(
            "An echo of 20 B, over connections",
            connections,
            cost._replace(logarithmic=False),
            lines_of(results["connections"], "connections"),
        ),
        "echo-size.svg": draw(
            f"An echo on {CONNECTIONS_OF_SIZES} connections, over its size",
            size,
            cost,
            lines_of(results["sizes"], "size"),
        ),
        "relay-size.svg": draw(
            f"A relayed message on {CONNECTIONS_OF_SIZES} connections, over its size",
            size,
            cost,
            lines_of(results["relayed_sizes"], "size"),
        ),
        "handshake-routes.svg": draw(
            "An opening handshake with the last route, over routes",
            routes,
            of_handshake,
            [Line("sluice", route_points)],
        ),
    }
