"""permessage-deflate: JSON that is inflated, echoed and deflated."""

from bench.contest import Contestant, take_turns
from bench.report import at_most, contest_table
from bench.statistics import costs_us
from bench.workload import Workload

TITLE = "permessage-deflate: echoes of JSON, inflated and deflated"
WORKLOAD = Workload(1024, 1, 50)
US_MAX = {"shared": 20, "dedicated": 16}


def runs(settings):
    return (1 + 2 * len(US_MAX)) * settings.rounds


def measure(bench):
    with bench.contestants.gateway() as server:
        contestants = [Contestant("off", server, ("--path", "/echo"))]
        for mode in US_MAX:
            contestants.append(Contestant(mode, server, ("--path", f"/{mode}", "--deflate")))
        turns = take_turns(bench, contestants, str(WORKLOAD), WORKLOAD.options, again=US_MAX)
    return [{**WORKLOAD._asdict(), **turns}]


def section(results):
    return contest_table(results, "off")


def goals(results):
    for mode, us_max in US_MAX.items():
        costs = costs_us(results[0]["runs"][mode])
        yield at_most(f"permessage-deflate, {mode}: CPU µs a message", costs, us_max, "{:.1f}")
