"""permessage-deflate: JSON that is inflated, echoed and deflated."""

from bench.contest import Contestant, contest, those_installed
from bench.report import at_most, contest_table
from bench.statistics import costs_us, count_of
from bench.workload import Workload

TITLE = "permessage-deflate: echoes of JSON, inflated and deflated"
WORKLOAD = Workload(1024, 1, 50)
US_MAX = {"shared": 20, "dedicated": 16}
# What the generator has to be answered, which offers client_max_window_bits as browsers do.
AGREED = {
    "shared": "server_no_context_takeover; client_no_context_takeover",
    "dedicated": "client_max_window_bits=12",
    "libwebsockets": "",
}


def runs(settings):
    return (2 + 2 * len(US_MAX)) * settings.rounds


def deflate(contestant):
    return "--deflate", "--agreed", AGREED[contestant]


def contestants(bench):
    servers = bench.contestants
    ours = [Contestant("off", servers.gateway())]
    for mode in US_MAX:
        options = ("--path", f"/{mode}", *deflate(mode))
        ours.append(Contestant(mode, servers.gateway(), options))
    peer = "libwebsockets"
    return ours + those_installed(
        bench, (peer, servers.deflating_libwebsockets, *deflate(peer))
    )


def measure(bench):
    return [contest(bench, contestants(bench), WORKLOAD, again=US_MAX)]


def section(results):
    return [*contest_table(results, "off"), *answers(results[0]["runs"])]


def answers(runs_by_name):
    """What became of the payload; no line of runs that do not tell."""
    sizes = [
        (name, sum(run.get("compressed_bytes", 0) for run in runs) / sum(map(count_of, runs)))
        for name, runs in runs_by_name.items()
    ]
    listed = ", ".join(f"{name} {size:,.0f}" for name, size in sizes if size > 0)
    if not listed:
        return []
    agreed = "; ".join(f"*{name}*: {what or 'no parameters'}" for name, what in AGREED.items())
    return [
        "",
        f"Bytes of an answer, of {WORKLOAD.size:,}: {listed}. Without context takeover each is"
        " compressed by itself, with it beside those before.",
        "",
        f"What was agreed to, when client_max_window_bits was offered: {agreed}.",
    ]


def goals(results):
    for mode, us_max in US_MAX.items():
        costs = costs_us(results[0]["runs"][mode])
        yield at_most(f"permessage-deflate, {mode}: CPU µs a message", costs, us_max, "{:.1f}")
