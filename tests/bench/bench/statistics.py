"""Figures of runs. A run is the line of JSON that the load generator printed."""

from statistics import median, quantiles

from bench import Failure

ROUNDS_FOR_QUARTILES = 4


def count_of(run):
    """What it had many of."""
    return next((run[key] for key in ("messages", "handshakes", "deliveries") if key in run), 0)


def cost_us(run):
    """CPU time of the server for one message, or one handshake. Also CPU-seconds for a million."""
    count = count_of(run)
    if not count:
        raise Failure("nothing came back in time")
    if run["server_cpu_seconds"] <= 0:
        raise Failure("used less CPU time than the kernel tells")
    return run["server_cpu_seconds"] * 1e6 / count


def rate(run):
    return count_of(run) / run["seconds"]


def busy(run):
    """Cores that the server used."""
    return run["server_cpu_seconds"] / run["seconds"]


def generator_busy(run):
    """Of its one core."""
    return run["own_cpu_seconds"] / run["seconds"] if "own_cpu_seconds" in run else None


def latency_us(run, quantile):
    """`quantile`: p50, p99, p999. None if the run does not tell."""
    return run.get(f"{quantile}_us")


def costs_us(runs):
    return [cost_us(run) for run in runs]


def median_of(figure, runs):
    """None if one of the runs has no such figure."""
    values = [figure(run) for run in runs]
    return None if None in values else median(values)


def ratios(runs, of):
    """Of costs, each run with the one next to it in time."""
    return [cost_us(a) / cost_us(b) for a, b in zip(runs, of)]


def is_within_noise(bound, values):
    """Whether half of the rounds are on either side of it, more or less: between the quartiles.
    Of a few rounds that cannot be said."""
    if len(values) < ROUNDS_FOR_QUARTILES:
        return False
    lower, _, upper = quantiles(values, n=4, method="inclusive")
    return lower < bound < upper


def spread(values, form):
    """Median, and the extremes in brackets."""
    if len(values) == 1:
        return form(values[0])
    return f"{form(median(values))} ({form(min(values))}..{form(max(values))})"
