"""One message to all subscribers of a channel."""

import http.client
import json
import resource
import time

from bench import Failure
from bench.generator import answer_of, tell
from bench.report import at_most, table
from bench.servers import free_port
from bench.statistics import cost_us, costs_us, median, median_of, spread

TITLE = "Publish: one message of 1 KiB to all subscribers of a channel, one worker on one core"
CHANNEL = "bench"
# At most half of the descriptors: the gateway keeps one for each client's requests free.
SUBSCRIBERS = (10, 1000, 10_000)
DESCRIPTORS_SPARE = 200
TURNS = 4  # messages for each round; there is no other figure that is made so quickly
COMPRESSED_TIMES_MAX = 1.1
OPTIONS = {"plain": (), "compressed": ("--deflate",)}


def counts():
    _, descriptors_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [min(count, (descriptors_max - DESCRIPTORS_SPARE) // 2) for count in SUBSCRIBERS]


def runs(_):
    return len(OPTIONS) * len(SUBSCRIBERS)


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


def measure_channel(bench, server, admin, kind, subscribers):
    options = ["--connections", subscribers, "--path", f"/{kind}", *OPTIONS[kind]]
    turns = bench.settings.rounds * TURNS
    with bench.generator.waiting("subscribers", server, *options) as load:
        publish(load, admin, 0, subscribers)  # a warm-up: buffers have grown
        figures = []
        for turn in range(1, turns + 1):
            bench.progress.round(f"{kind}, {subscribers:,} subscribers", turn, turns)
            figures.append(publish(load, admin, turn, subscribers))
    bench.progress.ran()
    return {"kind": kind, "subscribers": subscribers, "runs": figures}


def measure(bench, subscribers=None):
    results = []
    with bench.contestants.raw_events(CHANNEL) as service:
        for kind in OPTIONS:
            for count in subscribers or counts():
                # A gateway of its own, so that no client of the last is still to be forgotten.
                admin = free_port()
                with bench.contestants.publisher(service.port, admin) as server:
                    results.append(measure_channel(bench, server, admin, kind, count))
    return results


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
        )
        for one in results
    ]
    head = ["", "subscribers", "CPU µs a delivery", "first ms", "median ms", "last ms", "frames"]
    return [
        *table(head, rows),
        "",
        "CPU of the gateway, with the request to publish in it, which is most of it where there is"
        " little to deliver; times from the moment that it is sent. *frames*: how many different ones"
        " the subscribers got of a message.",
    ]


def goals(results):
    """Whether it is compressed once shows in what a delivery of it costs."""
    most = max(one["subscribers"] for one in results)
    cost = {
        one["kind"]: median(map(cost_us, one["runs"]))
        for one in results
        if one["subscribers"] == most
    }
    yield at_most(
        f"publish to {most:,}, compressed, times plain",
        cost["compressed"] / cost["plain"],
        COMPRESSED_TIMES_MAX,
    )
