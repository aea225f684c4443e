"""Results as Markdown: tables that are read on a terminal as well."""

from typing import NamedTuple

from bench import statistics
from bench.workload import Workload


class Goal(NamedTuple):
    what: str
    bound: str
    value: str
    met: bool


def at_most(what, value, bound, form="{:.2f}"):
    return Goal(what, f"at most {bound:g}", form.format(value), value <= bound)


def at_least(what, value, bound, form="{:.2f}"):
    return Goal(what, f"at least {bound:g}", form.format(value), value >= bound)


def goal_table(goals):
    rows = [(goal.what, goal.bound, goal.value, "met" if goal.met else "**missed**") for goal in goals]
    return table(["goal", "", "measured", ""], rows)


def table(head, rows):
    """Lines of a Markdown table; its columns are padded, so that it can be read as it is."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths)) + " |" for row in cells]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def microseconds(value):
    return "" if value is None else f"{value:,.0f}"


def latencies(runs):
    """p50 / p99 / p99.9, as many of them as the generator tells."""
    values = [
        statistics.median_of(lambda run: statistics.latency_us(run, quantile), runs)
        for quantile in ("p50", "p99", "p999")
    ]
    return " / ".join(f"{value:,.0f}" for value in values if value is not None)


def contest_table(contests, reference):
    """A row for each contestant of each workload; the last column is the cost beside `reference`'s."""
    rows = []
    for contest in contests:
        workload = str(Workload(contest["size"], contest["pipeline"], contest["connections"]))
        measure = contest["runs"].get(reference)
        for name, runs in contest["runs"].items():
            ratios = statistics.ratios(runs, measure) if measure else []
            rows.append(
                (
                    workload,
                    name,
                    statistics.spread(statistics.costs_us(runs), "{:.2f}".format),
                    f"{statistics.median_of(statistics.rate, runs):,.0f}",
                    f"{statistics.median_of(statistics.busy, runs):.0%}",
                    latencies(runs),
                    statistics.spread(ratios, "{:.2f}".format) if ratios else "",
                )
            )
            workload = ""
    head = ["payload x batch x connections", "", "CPU-s a million", "a second", "busy"]
    return table([*head, "µs p50 / p99 / p99.9", f"times {reference}"], rows)
