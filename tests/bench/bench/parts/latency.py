"""Latencies at a fixed rate, counted from the time that a message was due: a server that pauses is
charged for all that had to wait meanwhile (coordinated omission)."""

from bench.contest import contest
from bench.machine import cores
from bench.parts import echo, relay, tcp, tls
from bench.report import latencies, table
from bench.statistics import costs_us, median_of, rate, spread
from bench.workload import Workload

TITLE = "Latency at a fixed rate, counted from when a message was due"
SMALL, LARGER = Workload(20, 1, 200), Workload(1024, 1, 200)
# (workload, messages a second): a rate at which everybody sleeps now and then, and about 60 % of
# what the slowest can do, as far as one generator can send it at its times.
ECHOES = [(SMALL, 20_000), (LARGER, 20_000), (LARGER, 100_000)]
RELAYS = [(SMALL, 10_000), (LARGER, 10_000), (LARGER, 25_000)]
# The slowest is websockify, which is left out at the higher rate: then it is the raw relay.
TCP = [(SMALL, 3000), (LARGER, 3000), (LARGER, 50_000)]
TLS = [(LARGER, 20_000), (LARGER, 50_000)]
WEBSOCKIFY_RATE_MAX = 3000
ROUNDS_MAX = 3  # no goal depends on them


def runs(settings):
    count = len(ECHOES) * 5 + len(RELAYS) * 8 + len(TCP) * 3 - 1 + len(TLS) * 3
    return count * min(settings.rounds, ROUNDS_MAX)


def tcp_contestants(bench, port, messages_a_second):
    contestants = tcp.contestants(bench, port, SMALL.connections)
    too_fast = messages_a_second > WEBSOCKIFY_RATE_MAX
    return [one for one in contestants if one.name != "websockify" or not too_fast]


def at_rates(bench, loads, contestants):
    """`contestants`: a function of the rate."""
    return [
        contest(bench, contestants(messages_a_second), workload, "--rate", messages_a_second)
        for workload, messages_a_second in loads
    ]


def measure(bench):
    bench = bench.with_at_most(ROUNDS_MAX)
    results = {
        "echoes": at_rates(bench, ECHOES, lambda _: echo.contestants(bench)),
        "tls": at_rates(bench, TLS, lambda _: tls.echo_contestants(bench)),
    }
    with bench.contestants.echo_upstream() as upstream:
        results["relays"] = at_rates(
            bench, RELAYS, lambda _: relay.contestants(bench, upstream.port)
        )
    with bench.contestants.raw_echo(core=cores()[1]) as upstream:
        results["tcp"] = at_rates(
            bench, TCP, lambda per_second: tcp_contestants(bench, upstream.port, per_second)
        )
    return results


def rows(contests):
    for one in contests:
        what = str(Workload.of(one))
        due = f"{next(iter(one['runs'].values()))[0]['rate']:,.0f}"
        for name, some in one["runs"].items():
            cost = spread(costs_us(some), "{:.2f}".format)
            yield what, due, name, f"{median_of(rate, some):,.0f}", latencies(some), cost
            what = due = ""


KINDS = {
    "echoes": "Echoes",
    "relays": "Relays, WebSocket to WebSocket",
    "tcp": "Relays, WebSocket to TCP",
    "tls": "Echoes, plain and with TLS 1.3",
}


def section(results):
    head = ["payload x batch x connections", "due a second", "", "came a second"]
    head += ["µs p50 / p99 / p99.9", "CPU µs each"]
    lines = []
    for kind, title in KINDS.items():
        if kind in results:
            lines += [f"{title}:", "", *table(head, rows(results[kind])), ""]
    return lines[:-1]
