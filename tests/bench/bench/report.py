"""Results of a part as Markdown: tables that are read on a terminal as well, and goals."""

from typing import NamedTuple

from bench import statistics
from bench.workload import Workload

# A slow server is asked less, so these say less of it than those of the part `latency`.
CLOSED_LOOP = "closed loop: p50 / p99 / p99.9 of a batch, µs"
BUSY = 0.95  # whoever uses more of its core can hardly do more
MET, MISSED, NOISE = "met", "**missed**", "within the noise"


class Goal(NamedTuple):
    what: str
    bound: str
    value: str
    verdict: str


def goal(what, values, bound, text, form, is_met):
    """Of a figure, or of those of all rounds: then the median counts, if it is more than noise."""
    values = values if isinstance(values, list) else [values]
    verdict = MET if is_met(statistics.median(values)) else MISSED
    if statistics.is_within_noise(bound, values):
        verdict = NOISE
    return Goal(what, text, statistics.spread(values, form.format), verdict)


def at_most(what, values, bound, form="{:.2f}"):
    return goal(what, values, bound, f"at most {bound:,}", form, lambda value: value <= bound)


def at_least(what, values, bound, form="{:.2f}"):
    return goal(what, values, bound, f"at least {bound:,}", form, lambda value: value >= bound)


def goal_table(goals):
    goals = list(goals)
    verdicts = [goal.verdict for goal in goals]
    met, missed, noise = (verdicts.count(verdict) for verdict in (MET, MISSED, NOISE))
    return [
        *table(["goal", "", "measured", ""], goals),
        "",
        f"{met} met, {missed} missed, {noise} within the noise: the bound is between the quartiles"
        " of the rounds.",
    ]


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


def generator_busy(runs):
    """How busy the load generator was; and whether it was the limit, while the server was not."""
    generator = statistics.median_of(statistics.generator_busy, runs)
    if generator is None:
        return ""
    server = statistics.median_of(statistics.busy, runs)
    is_limit = generator > BUSY > server
    return f"{generator:.0%}, limit" if is_limit else f"{generator:.0%}"


def contest_row(workload, name, runs, reference):
    """The last column is the cost beside the reference's."""
    ratios = statistics.ratios(runs, reference) if reference and runs is not reference else []
    return (
        workload,
        name,
        statistics.spread(statistics.costs_us(runs), "{:.2f}".format),
        f"{statistics.median_of(statistics.rate, runs):,.0f}",
        f"{statistics.median_of(statistics.busy, runs):.0%}",
        generator_busy(runs),
        latencies(runs),
        statistics.spread(ratios, "{:.2f}".format) if ratios else "",
    )


def contest_table(contests, reference):
    rows = []
    for contest in contests:
        workload = str(Workload.of(contest))
        runs_by_name = contest["runs"]
        for name, runs in runs_by_name.items():
            rows.append(contest_row(workload, name, runs, runs_by_name.get(reference)))
            workload = ""
    head = ["payload x batch x connections", "", "CPU-s a million", "a second", "busy"]
    head += ["generator busy"]
    lines = table([*head, CLOSED_LOOP, f"times {reference}"], rows)
    return [*lines, *failures((str(Workload.of(one)), one["failed"]) for one in contests)]


def failures(failed_by_what):
    """Notes below a table."""
    lines = [
        f"- {name} at {what}, {len(reasons)} times: {reasons[-1]}"
        for what, failed in failed_by_what
        for name, reasons in failed.items()
    ]
    return ["", "What failed, and what the load generator said:", "", *lines] if lines else []


def ratio_goals(contests, what, of, bounds, ours="sluice"):
    """A goal for each workload that has a bound: our cost beside that of `of`."""
    for contest in contests:
        workload, runs = Workload.of(contest), contest["runs"]
        if workload in bounds and of in runs:
            ratios = statistics.ratios(runs[ours], runs[of])
            yield at_most(f"{what} {workload}, times {of}", ratios, bounds[workload])


def times_less_goals(contests, what, than, at_least_times, limit=None):
    """How many times less we cost than a peer; and so much `limit` did, which nobody can beat."""
    for contest in contests:
        runs = contest["runs"]
        if than not in runs:
            continue
        ratios = statistics.ratios(runs[than], runs["sluice"])
        name = f"{what} {Workload.of(contest)}, times less than {than}"
        made = at_least(name, ratios, at_least_times, "{:.1f}")
        if limit in runs:
            of_limit = statistics.median(statistics.ratios(runs[than], runs[limit]))
            made = made._replace(value=f"{made.value}; {limit} {of_limit:.1f}")
        yield made
