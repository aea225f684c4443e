"""How cost grows: with connections, with the size of messages, and with routes. Nothing shall grow
faster than its work."""

import contextlib
import time

from bench import Failure
from bench.contest import contest, those_installed
from bench.heap import user_memory
from bench.machine import cores
from bench.parts import tcp
from bench.plot import Axis, Line, draw
from bench.report import at_most, table
from bench.statistics import cost_us, costs_us, median, spread
from bench.workload import Workload, size_text

TITLE = "How cost grows"
CONNECTIONS = (1, 10, 50, 200, 1000, 5000)
RELAYED_CONNECTIONS = (1, 50, 200, 1000, 5000)
SIZES = (20, 128, 1024, 4096, 16384, 65536, 256 * 1024)
ROUTES = (10, 1000, 20_000, 100_000)
CONNECTIONS_OF_SIZES = 50
# A curve has many points that vouch for each other.
ROUNDS_MAX, SECONDS_MAX = 3, 0.4
LIMIT = "raw epoll"
# What a message or a route may cost at the last point, beside the middle one, times as much as that
# is for a server that understands nothing: a margin for the noise of four figures. What grew with
# the square of the work would be 5 to 64 times as much.
TIMES_MAX = 1.25
# A byte always costs us something that it does not cost them, since they never look at it. That
# does not grow, but in small messages nobody sees it.
BYTE_TIMES_MAX = 1.5
POINTS_MIN = 3


def echo_contestants(bench):
    servers = bench.contestants
    return those_installed(
        bench,
        ("sluice", servers.gateway),
        ("libuv", servers.raw_echo, "--raw"),
        (LIMIT, servers.raw_epoll_echo, "--raw"),
    )


def relay_contestants(bench, port):
    servers = bench.contestants
    return those_installed(
        bench,
        ("sluice", lambda: servers.relay(port)),
        (LIMIT, lambda: servers.raw_relay(port)),
        ("nginx", lambda: servers.nginx(port)),
        ("nginx 64k", lambda: servers.nginx_64k(port)),
        ("haproxy", lambda: servers.haproxy(port)),
        ("haproxy 64k", lambda: servers.haproxy_64k(port)),
    )


def without_tuned(contestants):
    """Large buffers are for large messages."""
    return [one for one in contestants if not one.name.endswith(" 64k")]


def tcp_contestants(bench, port):
    return [one for one in tcp.contestants(bench, port, 1) if one.name != "websockify"]


def runs(settings):
    by_connections = len(CONNECTIONS) * 3 + len(RELAYED_CONNECTIONS) * (4 + 2)
    by_size = len(SIZES) * (3 + 6 + 2)
    return (by_connections + by_size + len(ROUTES) * 2) * min(settings.rounds, ROUNDS_MAX)


def measure(bench):
    bench = bench.with_at_most(ROUNDS_MAX, SECONDS_MAX)
    sizes = [Workload(size, 1, CONNECTIONS_OF_SIZES) for size in SIZES]
    connections = [Workload(20, 1, count) for count in CONNECTIONS]
    relayed = [Workload(20, 1, count) for count in RELAYED_CONNECTIONS]
    results = {
        "connections": [contest(bench, echo_contestants(bench), one) for one in connections],
        "sizes": [contest(bench, echo_contestants(bench), one) for one in sizes],
    }
    with bench.contestants.echo_upstream() as upstream:
        results["relayed_connections"] = [
            contest(bench, without_tuned(relay_contestants(bench, upstream.port)), one)
            for one in relayed
        ]
        results["relayed_sizes"] = [
            contest(bench, relay_contestants(bench, upstream.port), one) for one in sizes
        ]
    with bench.contestants.raw_echo(core=cores()[1]) as upstream:
        for key, workloads in (("tcp_connections", relayed), ("tcp_sizes", sizes)):
            results[key] = [
                contest(bench, tcp_contestants(bench, upstream.port), one) for one in workloads
            ]
    results["routes"] = [measure_routes(bench, routes) for routes in ROUTES]
    return results


def measure_routes(bench, routes):
    try:
        return measure_last_route(bench, routes)
    except Failure as failure:
        # The last line of what it said, without the name of a file that is gone soon.
        reason = str(failure).strip().splitlines()[-1].rpartition(": ")[2]
        bench.progress.note(f"{routes:,} routes: {reason}")
        return {"routes": routes, "failed": reason}


def measure_last_route(bench, routes):
    gateway = bench.contestants.gateway_of_routes(routes)
    path = ("--path", f"/route/{routes - 1}")
    started = time.monotonic()
    with gateway as server:
        start_seconds = time.monotonic() - started
        memory = user_memory(server.pid)
        handshakes, echoes = [], []
        for number in range(1, bench.settings.rounds + 1):
            bench.progress.round(f"{routes:,} routes", number, bench.settings.rounds)
            options = ["--connections", 16, "--seconds", bench.settings.seconds, *path]
            handshakes.append(cost_us(bench.generator.run("handshakes", server, *options)))
            echoes.append(cost_us(bench.generator.run("echo", server, *options)))
    return {
        "routes": routes,
        "start_seconds": start_seconds,
        "memory_bytes": memory,
        "handshake_us": handshakes,
        "echo_us": echoes,
    }


# ---- Shown


def section(results):
    head = ["routes", "CPU µs a handshake", "CPU µs an echo", "start, s", "memory after it, MiB"]
    rows = [
        (
            f"{one['routes']:,}",
            spread(one["handshake_us"], "{:.1f}".format),
            spread(one["echo_us"], "{:.2f}".format) if "echo_us" in one else "",
            f"{one['start_seconds']:.2f}",
            f"{one['memory_bytes'] / 2**20:.1f}",
        )
        for one in measured_routes(results)
    ]
    return [
        "The last of so many routes: a connection that is opened, upgraded and closed, and an echo"
        " of 20 B on 16 connections:",
        "",
        *table(head, rows),
        *(
            f"\n{one['routes']:,} routes: {one['failed']}"
            for one in results["routes"]
            if "failed" in one
        ),
    ]


def measured_routes(results):
    return [one for one in results["routes"] if "failed" not in one]


# ---- Plots


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


OVER_CONNECTIONS = {
    "connections": ("echo-connections.svg", "An echo of 20 B"),
    "relayed_connections": ("relay-connections.svg", "A relayed message of 20 B"),
    "tcp_connections": ("tcp-connections.svg", "A message of 20 B to TCP and back"),
}
OVER_SIZE = {
    "sizes": ("echo-size.svg", "An echo"),
    "relayed_sizes": ("relay-size.svg", "A relayed message"),
    "tcp_sizes": ("tcp-size.svg", "A message to TCP and back"),
}
COST = Axis("CPU µs a message", number_text)


def plots(results):
    """Of what was measured; there was a time before some of them."""
    drawn = {}
    connections = Axis("connections", number_text)
    for key, (name, what) in OVER_CONNECTIONS.items():
        if key in results:
            lines = lines_of(results[key], "connections")
            cost = COST._replace(logarithmic=False)
            drawn[name] = draw(f"{what}, over connections", connections, cost, lines)
    size = Axis("bytes of a message", size_text, ticks=SIZES)
    for key, (name, what) in OVER_SIZE.items():
        if key in results:
            title = f"{what} on {CONNECTIONS_OF_SIZES} connections, over its size"
            drawn[name] = draw(title, size, COST, lines_of(results[key], "size"))
    return {**drawn, **route_plots(measured_routes(results))}


# (name, title, what it costs, one of the figures of a number of routes, whether the axis is
# logarithmic)
OVER_ROUTES = (
    ("handshake-routes.svg", "An opening handshake with the last route", "CPU µs a handshake",
     lambda one: one["handshake_us"], False),
    ("echo-routes.svg", "An echo of the last route", "CPU µs a message",
     lambda one: one["echo_us"], False),
    ("start-routes.svg", "Start", "seconds", lambda one: [one["start_seconds"]], True),
    ("memory-routes.svg", "User memory after the start", "MiB",
     lambda one: [one["memory_bytes"] / 2**20], True),
)


def route_plots(measured):
    routes = Axis("routes", number_text)
    drawn = {}
    for name, title, unit, figures, logarithmic in OVER_ROUTES:
        with contextlib.suppress(KeyError):  # echoes were not measured always
            points = [point_of(one["routes"], figures(one)) for one in measured]
            axis = Axis(unit, number_text, logarithmic)
            drawn[name] = draw(f"{title}, over routes", routes, axis, [Line("sluice", points)])
    return drawn


# ---- Goals


def times_middle(points, figures):
    """How many times the figures of the middle point the last one's are, round by round."""
    last, middle = figures(points[-1]), figures(points[len(points) // 2])
    return [a / b for a, b in zip(last, middle)]


def growth_beside_limit(contests, per):
    """Ours divided by that of the raw server. `per`: what of a workload the cost is divided by."""

    def growth(name):
        return times_middle(
            contests, lambda one: [cost / per(one) for cost in costs_us(one["runs"][name])]
        )

    return [ours / theirs for ours, theirs in zip(growth("sluice"), growth(LIMIT))]


def contest_goals(results):
    for plotted, over, unit, per, times_max in (
        (OVER_CONNECTIONS, "connections", "message", lambda _: 1, TIMES_MAX),
        (OVER_SIZE, "size", "byte", lambda one: one["size"], BYTE_TIMES_MAX),
    ):
        for key, (_, title) in plotted.items():
            contests = [
                one for one in results.get(key, []) if {"sluice", LIMIT} <= one["runs"].keys()
            ]
            if len(contests) >= POINTS_MIN:
                what = f"growth over {over}: CPU time a {unit} of {title[0].lower()}{title[1:]}"
                growth = growth_beside_limit(contests, per)
                yield at_most(f"{what}, times {LIMIT}'s", growth, times_max)


def route_goals(measured):
    if len(measured) < POINTS_MIN:
        return
    for what, figures in (
        ("CPU time of a handshake", lambda one: one["handshake_us"]),
        ("start time a route", lambda one: [one["start_seconds"] / one["routes"]]),
        ("memory a route", lambda one: [one["memory_bytes"] / one["routes"]]),
    ):
        what = f"growth over routes: {what}, {measured[-1]['routes']:,}"
        what += f" beside {measured[len(measured) // 2]['routes']:,}"
        yield at_most(what, times_middle(measured, figures), TIMES_MAX)


def goals(results):
    return [*contest_goals(results), *route_goals(measured_routes(results))]
