"""Latencies at a fixed rate, counted from the time that a message was due: a server that pauses is
charged for all that had to wait meanwhile (coordinated omission)."""

from bench.contest import contest
from bench.parts import echo, relay
from bench.report import latencies, table
from bench.statistics import costs_us, median_of, rate, spread
from bench.workload import Workload

TITLE = "Latency at a fixed rate, counted from when a message was due"
WORKLOADS = [Workload(20, 1, 200), Workload(1024, 1, 200)]
# Messages a second: under half of what the slowest of those that are worth comparing can do.
ECHO_RATE, RELAY_RATE = 20_000, 10_000


def runs(settings):
    return len(WORKLOADS) * (4 + 8) * settings.rounds


def measure(bench):
    echoes = [
        contest(bench, echo.contestants(bench), workload, "--rate", ECHO_RATE)
        for workload in WORKLOADS
    ]
    with bench.contestants.echo_upstream() as upstream:
        relays = [
            contest(
                bench, relay.contestants(bench, upstream.port), workload, "--rate", RELAY_RATE
            )
            for workload in WORKLOADS
        ]
    return {"echoes": echoes, "relays": relays}


def rows(contests):
    for one in contests:
        what = str(Workload.of(one))
        for name, some in one["runs"].items():
            cost = spread(costs_us(some), "{:.2f}".format)
            yield what, name, f"{median_of(rate, some):,.0f}", latencies(some), cost
            what = ""


def section(results):
    head = ["payload x batch x connections", "", "a second", "µs p50 / p99 / p99.9", "CPU µs each"]
    return [
        f"Echoes, {ECHO_RATE:,} a second:",
        "",
        *table(head, rows(results["echoes"])),
        "",
        f"Relays, {RELAY_RATE:,} a second:",
        "",
        *table(head, rows(results["relays"])),
    ]
