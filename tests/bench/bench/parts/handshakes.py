"""Connections that are opened, upgraded, closed with a closing handshake, and gone."""

from bench.contest import start_and_take_turns, those_installed
from bench.report import at_most, failures, table
from bench.statistics import costs_us, median_of, rate, ratios, spread

TITLE = "Opening handshakes: connections opened, upgraded and closed, 16 at a time"
US_MAX = 45
PEERS = ("haproxy", "nginx")
ECHO, RELAY = "sluice, a plugin", "sluice, a relay"
FULL, RESUMED = "TLS 1.3, P-256, full", "TLS 1.3, P-256, resumed"


def plain_contestants(bench, port):
    servers = bench.contestants
    return those_installed(
        bench,
        (ECHO, servers.gateway),
        (RELAY, lambda: servers.relay(port)),
        ("haproxy", lambda: servers.haproxy(port)),
        ("haproxy 64k", lambda: servers.haproxy_64k(port)),
        ("nginx", lambda: servers.nginx(port)),
    )


def tls_contestants(bench, port):
    servers = bench.contestants
    return those_installed(
        bench,
        (ECHO, servers.tls_gateway),
        (RELAY, lambda: servers.tls_relay(port)),
        ("haproxy", lambda: servers.tls_haproxy(port)),
        ("haproxy 64k", lambda: servers.tls_haproxy_64k(port)),
        ("nginx", lambda: servers.tls_nginx(port)),
    )


# (name, contestants, options)
KINDS = (
    ("plain", plain_contestants, []),
    (FULL, tls_contestants, ["--tls", "--no-resume"]),
    (RESUMED, tls_contestants, ["--tls", "--resume"]),
)


def runs(settings):
    return (5 + 5 + 5) * settings.rounds


def measure(bench):
    results = {}
    with bench.contestants.echo_upstream() as upstream:
        for kind, contestants, options in KINDS:
            results[kind] = start_and_take_turns(
                bench,
                contestants(bench, upstream.port),
                kind,
                ["--connections", 16, *options],
                mode="handshakes",
            )
    return results


def times(runs, of):
    return spread(ratios(runs, of), "{:.2f}".format) if of and runs is not of else ""


def section(results):
    rows = []
    for kind, turns in results.items():
        for name, runs in turns["runs"].items():
            costs = spread(costs_us(runs), "{:.1f}".format)
            beside = [times(runs, turns["runs"].get(peer)) for peer in PEERS]
            rows.append((kind, name, costs, f"{median_of(rate, runs):,.0f}", *beside))
            kind = ""
    lines = table(["", "", "CPU µs each", "a second", *(f"times {peer}" for peer in PEERS)], rows)
    return [*lines, *failures((kind, turns["failed"]) for kind, turns in results.items())]


def goals(results):
    plain = costs_us(results["plain"]["runs"][ECHO])
    yield at_most("an opening handshake, plain, a plugin, CPU µs", plain, US_MAX, "{:.1f}")
    # A relay opens two connections: its measure are relays.
    for kind in ("plain", FULL):
        runs = results[kind]["runs"]
        if "haproxy" in runs:
            what = f"an opening handshake, {kind}, a relay, times haproxy"
            yield at_most(what, ratios(runs[RELAY], runs["haproxy"]), 1)
