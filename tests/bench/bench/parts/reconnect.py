"""All clients lose their connections at once and come again."""

from bench.report import at_most, table
from bench.statistics import costs_us, median_of, rate, spread

TITLE = "Reconnects: 50,000 connections accepted, of clients that are all reset at once"
CONNECTIONS = 9000  # twice as many have descriptors while the gateway has not seen the reset
TOTAL = 50_000
OPENING = 1000
SOURCES = ("--source", "127.1.0.1", "--sources", 50)


def runs(settings):
    return settings.rounds


def measure(bench, connections=CONNECTIONS, total=TOTAL):
    options = ["--connections", connections, "--total", total, "--opening", OPENING, *SOURCES]
    figures = []
    with bench.contestants.gateway() as server:
        for number in range(1, bench.settings.rounds + 1):
            bench.progress.round("reconnects", number, bench.settings.rounds)
            figures.append(bench.generator.run("reconnect", server, *options))
    return {"connections": connections, "total": total, "runs": figures}


def section(results):
    figures = results["runs"]
    row = (
        spread([one["seconds"] for one in figures], "{:.2f}".format),
        f"{median_of(rate, figures):,.0f}",
        spread(costs_us(figures), "{:.1f}".format),
        f"{median_of(lambda one: one['p50_us'] / 1e3, figures):,.1f}",
        f"{max(one['max_us'] for one in figures) / 1e3:,.1f}",
        sum(one["failures"] for one in figures),
    )
    head = ["seconds", "a second", "CPU µs each", "p50 ms", "longest ms", "failures"]
    return [
        *table(head, [row]),
        "",
        f"{results['connections']:,} at a time, {OPENING:,} of them opening, from 50 addresses. Times"
        " are from connect() to the 101. The CPU time has in it what the resets cost.",
    ]


def goals(results):
    failures = sum(one["failures"] for one in results["runs"])
    yield at_most(f"failures of {results['total']:,} reconnects", failures, 0, "{}")
