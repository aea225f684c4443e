#!/usr/bin/python3
"""A second load generator, made of a public library: echoes with Debian's python3-websockets.

    websockets_load.py --port N --server-pid PID --size B --pipeline N --connections N --seconds S

Prints a line of JSON as bench_load does.
"""

import argparse
import asyncio
import json
import time

import websockets

from bench.servers import cpu_seconds

WARM_UP_SECONDS = 0.2


def parse_arguments():
    parser = argparse.ArgumentParser()
    for name in ("--port", "--server-pid", "--size", "--pipeline", "--connections"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    return parser.parse_args()


async def echo_until(socket, message, pipeline, end, latencies):
    """Adds the time of each batch."""
    while (began := time.monotonic()) < end:
        for _ in range(pipeline):
            await socket.send(message)
        for _ in range(pipeline):
            if await socket.recv() != message:
                raise SystemExit("an echo is not what was sent")
        latencies.append(time.monotonic() - began)


async def load_all(sockets, arguments, seconds):
    """All of them for so long; the times of their batches."""
    message, latencies = "x" * arguments.size, []
    end = time.monotonic() + seconds
    await asyncio.gather(
        *(echo_until(one, message, arguments.pipeline, end, latencies) for one in sockets)
    )
    return sorted(latencies)


async def main():
    arguments = parse_arguments()
    url = f"ws://127.0.0.1:{arguments.port}/echo"
    sockets = [
        await websockets.connect(url, compression=None, ping_interval=None, max_size=None)
        for _ in range(arguments.connections)
    ]
    await load_all(sockets, arguments, WARM_UP_SECONDS)
    began, cpu_before = time.monotonic(), cpu_seconds(arguments.server_pid)
    latencies = await load_all(sockets, arguments, arguments.seconds)
    figures = {
        "messages": len(latencies) * arguments.pipeline,
        "seconds": time.monotonic() - began,
        "server_cpu_seconds": cpu_seconds(arguments.server_pid) - cpu_before,
    }
    for name, quantile in (("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999)):
        figures[name] = latencies[int(quantile * (len(latencies) - 1))] * 1e6
    print(json.dumps(figures))
    for socket in sockets:
        await socket.close()


asyncio.run(main())
