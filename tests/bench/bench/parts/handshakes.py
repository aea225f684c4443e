"""Connections that are opened, upgraded, closed with a closing handshake, and gone."""

from bench.contest import Contestant, take_turns
from bench.report import at_most, table
from bench.statistics import cost_us, costs_us, median, median_of, spread

TITLE = "Opening handshakes: connections opened, upgraded and closed, 16 at a time"
US_MAX = 45


def runs(settings):
    return settings.rounds


def measure(bench):
    with bench.contestants.gateway() as server:
        plain = [Contestant("sluice", server)]
        return take_turns(bench, plain, "plain", ["--connections", 16], mode="handshakes")


def section(results):
    rows = [
        (name, spread(costs_us(runs), "{:.1f}".format), f"{1e6 / median(costs_us(runs)):,.0f}")
        for name, runs in results.items()
    ]
    return table(["", "CPU µs each", "per CPU-second"], rows)


def goals(results):
    cost = median_of(cost_us, results["sluice"])
    yield at_most("an opening handshake, CPU µs", cost, US_MAX, "{:.1f}")
