"""permessage-deflate: JSON that is inflated, echoed and deflated."""

from bench.contest import Contestant, contest, those_installed
from bench.report import at_most, contest_table
from bench.statistics import costs_us
from bench.workload import Workload

TITLE = "permessage-deflate: echoes of JSON, inflated and deflated"
WORKLOAD = Workload(1024, 1, 50)
US_MAX = {"shared": 20, "dedicated": 16}


def runs(settings):
    return (2 + 2 * len(US_MAX)) * settings.rounds


def contestants(bench):
    servers = bench.contestants
    ours = [Contestant("off", servers.gateway())]
    for mode in US_MAX:
        ours.append(Contestant(mode, servers.gateway(), ("--path", f"/{mode}", "--deflate")))
    # Without context takeover, as `shared`.
    peer = ("libwebsockets", servers.deflating_libwebsockets, "--deflate")
    return ours + those_installed(bench, peer)


def measure(bench):
    return [contest(bench, contestants(bench), WORKLOAD, again=US_MAX)]


def section(results):
    return contest_table(results, "off")


def goals(results):
    for mode, us_max in US_MAX.items():
        costs = costs_us(results[0]["runs"][mode])
        yield at_most(f"permessage-deflate, {mode}: CPU µs a message", costs, us_max, "{:.1f}")
