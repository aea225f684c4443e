"""One message to all subscribers of a channel."""

import contextlib
import http.client
import json
import resource
import time

from bench import Failure
from bench.generator import answer_of, tell
from bench.heap import HeapCounts, counting_environment
from bench.plot import Axis, Line, draw
from bench.report import at_most, table
from bench.servers import free_port
from bench.statistics import costs_us, median, median_of, ratios, spread

TITLE = "Publish: one message of 1 KiB to all subscribers of a channel, one worker on one core"
CHANNEL = "bench"
# At most half of the descriptors: the gateway keeps one for each client's requests free.
SUBSCRIBERS = (10, 1000, 10_000)
DESCRIPTORS_SPARE = 200
ALLOCATION_TURNS = 5
TURNS = 4  # messages for each round; there is no other figure that is made so quickly
COMPRESSED_TIMES_MAX = 1.1
# The list of those who get it grows by doubling, so a thousand times as many take it ten steps.
ALLOCATIONS_TIMES_MAX = 1.25
OPTIONS = {"plain": (), "compressed": ("--deflate",)}


def counts():
    _, descriptors_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [min(count, (descriptors_max - DESCRIPTORS_SPARE) // 2) for count in SUBSCRIBERS]


def runs(_):
    return len(SUBSCRIBERS)


def message(number):
    """1 KiB of JSON; each is another."""
    records = [{"id": number * 100 + i, "user": "alice", "status": "delivered"} for i in range(19)]
    return json.dumps(records, separators=(",", ":"))


def post(admin, content):
    """Returns when it was sent (CLOCK_MONOTONIC) and the receipt."""
    item = {"channel": CHANNEL, "formats": {"ws-message": {"content": content}}}
    connection = http.client.HTTPConnection("127.0.0.1", admin)
    try:
        connection.connect()
        sent_ns = time.monotonic_ns()
        connection.request("POST", "/publish/", json.dumps({"items": [item]}))
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise Failure(f"POST /publish/: {answer.status} {body}")
    return sent_ns, json.loads(body)


def publish(load, admin, number, subscribers):
    """The figures of one message."""
    content = message(number)
    tell(load, f"publish {content}")
    if answer_of(load) != {"armed": True}:
        raise Failure("the load generator does not wait for a message")
    sent_ns, receipt = post(admin, content)
    if receipt["matched"] != subscribers or receipt["dropped"] != 0:
        raise Failure(f"{subscribers} subscribers, but {receipt}")
    tell(load, f"published {sent_ns}")
    return answer_of(load)


@contextlib.contextmanager
def channel(bench, service, kind, subscribers, environment=None):
    """A gateway of its own with subscribers that wait; yields a function that publishes to them."""
    admin = free_port()
    options = ["--connections", subscribers, "--path", f"/{kind}", *OPTIONS[kind]]
    with (
        bench.contestants.publisher(service.port, admin, environment) as server,
        bench.generator.waiting("subscribers", server, *options) as load,
    ):
        yield lambda number: publish(load, admin, number, subscribers)


def measure_channels(bench, service, subscribers):
    """Both kinds by turns."""
    turns = bench.settings.rounds * TURNS
    results = [{"kind": kind, "subscribers": subscribers, "runs": []} for kind in OPTIONS]
    with contextlib.ExitStack() as stack:
        channels = [
            stack.enter_context(channel(bench, service, kind, subscribers)) for kind in OPTIONS
        ]
        for publish_to in channels:
            publish_to(0)  # a warm-up: buffers have grown
        for turn in range(1, turns + 1):
            bench.progress.round(f"{subscribers:,} subscribers", turn, turns)
            for publish_to, result in zip(channels, results):
                result["runs"].append(publish_to(turn))
    for result in results:
        result["allocations"] = allocations(bench, service, result["kind"], subscribers)
    bench.progress.ran()
    return results


def allocations(bench, service, kind, subscribers):
    """Heap allocations of the gateway for one message, the fewest of some: a request over HTTP
    takes some, and now and then there is something else to do."""
    path = bench.contestants.work / f"publish-{kind}-{subscribers}"
    environment = counting_environment(bench.contestants, path)
    counts, taken = HeapCounts(path), []
    with channel(bench, service, kind, subscribers, environment) as publish_to:
        for number in range(ALLOCATION_TURNS):
            before = counts.read()[0]
            publish_to(number)
            taken.append(counts.read()[0] - before)
    return min(taken)


def measure(bench, subscribers=None):
    with bench.contestants.raw_events(CHANNEL) as service:
        return [
            result
            for count in subscribers or counts()
            for result in measure_channels(bench, service, count)
        ]


def milliseconds(key, runs):
    return f"{median_of(lambda run: run[key] / 1e3, runs):,.2f}"


def section(results):
    rows = [
        (
            one["kind"],
            f"{one['subscribers']:,}",
            spread(costs_us(one["runs"]), "{:.2f}".format),
            *(milliseconds(key, one["runs"]) for key in ("first_us", "p50_us", "max_us")),
            max(run["distinct_frames"] for run in one["runs"]),
            one.get("allocations", ""),
        )
        for one in results
    ]
    head = ["", "subscribers", "CPU µs a delivery", "first ms", "median ms", "last ms", "frames"]
    head += ["allocations"]
    return [
        *table(head, rows),
        "",
        "CPU of the gateway, with the request to publish in it, which is most of it where there is"
        " little to deliver; times from the moment that it is sent. *frames*: how many different ones"
        " the subscribers got of a message. *allocations*: on the heap, of a message with its request.",
    ]


def plots(results):
    lines = []
    for kind in OPTIONS:
        costs = [
            (one["subscribers"], costs_us(one["runs"])) for one in results if one["kind"] == kind
        ]
        points = [(x, median(values), min(values), max(values)) for x, values in costs]
        lines.append(Line(kind, points))
    subscribers, cost = (
        Axis(title, "{:,.10g}".format) for title in ("subscribers", "CPU µs a delivery")
    )
    title = "A message of 1 KiB that is published, over subscribers"
    return {"publish-subscribers.svg": draw(title, subscribers, cost, lines)}


def goals(results):
    """Whether it is framed once shows in the heap: a frame for each would be an allocation for each.
    Whether it is compressed once shows in what a delivery of it costs."""
    for kind in OPTIONS:
        few, *_, many = [one for one in results if one["kind"] == kind]
        if "allocations" in few and "allocations" in many:
            what = f"heap allocations of a publish to {many['subscribers']:,}, {kind},"
            what += f" times those to {few['subscribers']:,}"
            yield at_most(what, many["allocations"] / few["allocations"], ALLOCATIONS_TIMES_MAX)
    plain, compressed = results[-2:]
    times = ratios(compressed["runs"], plain["runs"])
    what = f"publish to {plain['subscribers']:,}, compressed, times plain"
    yield at_most(what, times, COMPRESSED_TIMES_MAX)
