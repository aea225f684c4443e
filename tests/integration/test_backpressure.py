"""Clients that do not read, and what each policy does."""

import pathlib
import selectors
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from gateway import (
    BINARY_FRAME,
    CLOSE,
    KIB,
    MEMORY_IS_OURS,
    MIB,
    PING,
    PONG,
    SLOWNESS,
    TEXT,
    Gateway,
    RawClient,
    client_tls,
    echo_config,
    frame,
    make_certificate,
    serve_honest_client,
    temporary_folder,
    test_plugin,
)

LOW, HIGH = 64 * KIB, 256 * KIB  # the defaults
SMALL = 16 * KIB  # a client's receive buffer
UP, DOWN = "client_to_upstream", "upstream_to_client"


def config(folder=None, **route):
    """A route /echo, and a route /flood of the plugin that never looks at buffered_amount()."""
    listeners = [{"address": "127.0.0.1:0"}]
    if folder:
        cert, key = make_certificate(folder)
        tls = {"certificates": [{"cert": cert, "key": key}]}
        listeners.append({"address": "127.0.0.1:0", "tls": tls})
    return echo_config(
        listeners=listeners,
        plugins={"echo": {"library": "echo.so"}, "flood": {"library": test_plugin("flood")}},
        routes=[
            {"path": "/echo", "plugin": "echo", **route},
            {"path": "/flood", "plugin": "flood", **route},
        ],
    )


def numbers(messages, size):
    """The numbers of the flood's messages, none of which may be torn."""
    for message in messages:
        assert len(message) == size and message[8:] == b"x" * (size - 8), message[:60]
    return [int(message[:8]) for message in messages]


def push(client, pieces):
    """Sends without blocking until nothing goes any more; returns how many bytes went."""
    sent = 0
    with selectors.DefaultSelector() as selector:
        selector.register(client.socket, selectors.EVENT_WRITE)
        client.socket.setblocking(False)
        for piece in pieces:
            view = memoryview(piece)
            while view:
                # As long as nothing is read, a socket that takes nothing for so long never will.
                if not selector.select(timeout=0.5 * SLOWNESS):
                    client.socket.settimeout(60)
                    return sent, bytes(view)
                count = client.socket.send(view)
                sent += count
                view = view[count:]
    raise AssertionError(f"{sent} bytes went, and the sender was never held back")


class PauseTest(unittest.TestCase):
    """slow_consumer: pause, the default."""

    def hold_back(self, gateway, listener=0, tls=None):
        size, count = 64 * KIB, 1024
        message = lambda i: b"%08d" % i + b"x" * (size - 8)
        before = gateway.rss_bytes()
        client = RawClient(gateway.listeners[listener], receive_buffer=SMALL, tls=tls)
        sent, rest = push(client, (frame(BINARY_FRAME, message(i)) for i in range(count)))
        self.assertLess(sent, size * count / 2)

        metrics = gateway.metrics()
        buffered = metrics.get("sluice_buffered_amount_bytes", route="/echo", direction=DOWN)
        self.assertGreater(buffered, HIGH)
        self.assertLess(buffered, 4 * MIB)
        self.assertEqual(
            metrics.get("sluice_buffered_amount_max_bytes", route="/echo", direction=DOWN), buffered
        )
        for direction in (DOWN, UP):
            paused = "sluice_backpressure_paused_connections"
            self.assertEqual(metrics.get(paused, route="/echo", direction=direction), 1)
        over = "sluice_connection_buffered_amount_bytes_bucket"
        self.assertEqual(metrics.get(over, route="/echo", direction=DOWN, le="262144"), 0)
        self.assertEqual(metrics.get(over, route="/echo", direction=DOWN, le="+Inf"), 1)
        if tls:
            layer = metrics.get("sluice_buffered_amount_bytes", route="/echo", layer="tls")
            self.assertGreater(layer, 0)
        if MEMORY_IS_OURS:
            self.assertLess(gateway.rss_bytes() - before, 8 * MIB)
        serve_honest_client(gateway)

        # Reading goes on: everything that was and will be sent arrives, in its order.
        begun = (sent + len(rest)) // len(frame(BINARY_FRAME, message(0)))
        client.push_on(rest, (frame(BINARY_FRAME, message(i)) for i in range(begun, count)))
        for i in range(count):
            self.assertEqual(client.read_message(), (BINARY_FRAME, message(i)))

        metrics = gateway.wait_metrics(
            lambda m: m.get("sluice_buffered_amount_bytes") == 0, "nothing waits any more"
        )
        self.assertEqual(metrics.get("sluice_backpressure_paused_connections"), 0)
        self.assertEqual(metrics.get("sluice_messages_dropped_total"), 0)
        for direction in (DOWN, UP):
            labels = {"route": "/echo", "direction": direction}
            for event in ("pause", "resume"):
                total = "sluice_backpressure_transitions_total"
                self.assertGreater(metrics.get(total, event=event, **labels), 0)
            seconds = "sluice_backpressure_paused_seconds_total"
            self.assertGreater(metrics.get(seconds, **labels), 0.1)
            messages = metrics.get("sluice_messages_total", type="binary", **labels)
            self.assertEqual(messages, count)
        client.close()
        log = gateway.wait_log(event="close", client=client.address)
        self.assertGreater(log["buffered_max"], HIGH)
        self.assertLess(log["buffered_max"], 4 * MIB)

    def test_the_sender_is_held_back_and_nothing_is_lost(self):
        with Gateway(config()) as gateway:
            self.hold_back(gateway)

    def test_over_tls_too(self):
        folder = temporary_folder()
        with Gateway(config(folder), folder) as gateway:
            self.hold_back(gateway, 1, client_tls(str(folder / "localhost.crt")))

    def test_a_plugin_that_pauses_holds_its_client_back(self):
        plugins = {"echo": {"library": "echo.so"}, "valve": {"library": test_plugin("valve")}}
        routes = [{"path": "/echo", "plugin": "echo"}, {"path": "/valve", "plugin": "valve"}]
        with Gateway(echo_config(plugins=plugins, routes=routes)) as gateway:
            before = gateway.rss_bytes()
            client = RawClient(gateway.listeners[0], "/valve")
            client.send(TEXT, "pause")
            self.assertEqual(client.read_message(), (TEXT, b"paused"))
            piece = frame(BINARY_FRAME, b"x" * 64 * KIB)
            sent, rest = push(client, (piece for _ in range(1024)))
            metrics = gateway.metrics()
            paused = "sluice_backpressure_paused_connections"
            self.assertEqual(metrics.get(paused, route="/valve", direction=UP), 1)
            self.assertEqual(metrics.get(paused, route="/valve", direction=DOWN), 0)
            waiting = metrics.get("sluice_buffered_amount_bytes", direction=UP)
            self.assertLessEqual(waiting, 256 * KIB)
            if MEMORY_IS_OURS:
                self.assertLess(gateway.rss_bytes() - before, 4 * MIB)
            other = RawClient(gateway.listeners[0], "/valve")
            other.send(TEXT, "resume")
            client.socket.sendall(rest)
            client.send(TEXT, "total")
            count = (sent + len(rest)) // len(piece)
            self.assertEqual(client.read_message(), (TEXT, b"%d" % (count * 64 * KIB)))
            self.assertEqual(gateway.metrics().get(paused), 0)
            client.close()
            other.close()

    def test_many_that_do_not_read_cost_their_limit_each(self):
        with Gateway(config(buffers={"limit": "1MiB"})) as gateway:
            before = gateway.rss_bytes()
            clients = [RawClient(gateway.listeners[0], "/flood", SMALL) for _ in range(20)]
            for client in clients:
                client.send(TEXT, "100 100000")  # 10 MB each
            closed = 'sluice_slow_consumer_actions_total'
            metrics = gateway.wait_metrics(lambda m: m.get(closed, policy="close") == 20)
            self.assertEqual(metrics.get("sluice_limit_rejections_total", limit="buffer"), 20)
            most = metrics.get("sluice_buffered_amount_max_bytes", route="/flood")
            self.assertLess(most, MIB + 2 * 100_100)
            if MEMORY_IS_OURS:
                self.assertLess(gateway.rss_bytes() - before, 40 * MIB)
            serve_honest_client(gateway)
            for client in clients:
                messages, close = client.read_until_close()
                self.assertEqual(close, (1013, "buffers.limit"))
                self.assertEqual(numbers(messages, 100_000), list(range(len(messages))))
                client.close()
            gateway.wait_log(event="close", reason="slow_consumer", why="buffers.limit")


class CloseTest(unittest.TestCase):
    """slow_consumer: close."""

    route = {
        "slow_consumer": "close",
        "buffers": {"high_watermark_timeout": "300ms", "limit": "64MiB"},
        "timeouts": {"close": "300ms"},
    }

    def test_1013_after_the_timeout(self):
        with Gateway(config(**{**self.route, "timeouts": {"close": "60s"}})) as gateway:
            client = RawClient(gateway.listeners[0], "/flood", SMALL)
            client.send(TEXT, "200 100000")
            gateway.wait_metrics(
                lambda m: m.get("sluice_slow_consumer_actions_total", policy="close") == 1
            )
            messages, close = client.read_until_close()
            self.assertEqual(close, (1013, "buffers.high_watermark_timeout"))
            self.assertEqual(numbers(messages, 100_000), list(range(200)))
            client.socket.sendall(frame(CLOSE, b"\x03\xf5"))
            self.assertTrue(client.at_end())
            log = gateway.wait_log(event="close", client=client.address)
            self.assertEqual(
                (log["reason"], log["initiator"], log["code"], log["clean"]),
                ("slow_consumer", "gateway", 1013, True),
            )
            client.close()

    def test_one_that_reads_nothing_at_all_is_cut(self):
        with Gateway(config(**self.route)) as gateway:
            client = RawClient(gateway.listeners[0], "/flood", SMALL)
            client.send(TEXT, "200 100000")
            log = gateway.wait_log(event="close", client=client.address)
            self.assertEqual(
                (log["reason"], log["code"], log["clean"]), ("slow_consumer", 1006, False)
            )
            metrics = gateway.wait_metrics(lambda m: m.get("sluice_connections_active") == 0)
            self.assertEqual(metrics.get("sluice_buffered_amount_bytes"), 0)
            closed = metrics.get("sluice_connections_closed_total", reason="slow_consumer")
            self.assertEqual(closed, 1)
            serve_honest_client(gateway)
            client.close()

    def test_the_timeout_runs_while_the_plugin_is_paused_too(self):
        """Both directions stand still, and it ends all the same."""
        with Gateway(config(**self.route)) as gateway:
            client = RawClient(gateway.listeners[0], "/flood", SMALL)
            client.send(TEXT, "200 100000")
            client.send(TEXT, "pause")
            log = gateway.wait_log(event="close", client=client.address)
            self.assertEqual(log["reason"], "slow_consumer")
            client.close()

    def test_one_that_reads_again_in_time_stays(self):
        route = {**self.route, "buffers": {"high_watermark_timeout": "60s", "limit": "64MiB"}}
        with Gateway(config(**route)) as gateway:
            client = RawClient(gateway.listeners[0], "/flood", SMALL)
            client.send(TEXT, "200 100000")
            paused = "sluice_backpressure_paused_connections"
            gateway.wait_metrics(lambda m: m.get(paused, direction=DOWN) == 1)
            messages = [client.read_message()[1] for _ in range(200)]
            self.assertEqual(numbers(messages, 100_000), list(range(200)))
            metrics = gateway.wait_metrics(lambda m: m.get(paused) == 0)
            self.assertEqual(metrics.get("sluice_slow_consumer_actions_total"), 0)
            client.close()


class DropTest(unittest.TestCase):
    """slow_consumer: drop_oldest and drop_newest."""

    def flood(self, policy, count=2000, size=16 * KIB):
        """Returns the numbers that arrived, and how many were dropped."""
        with Gateway(config(slow_consumer=policy)) as gateway:
            before = gateway.rss_bytes()
            client = RawClient(gateway.listeners[0], "/flood", SMALL)
            client.send(TEXT, f"{count} {size}")
            dropped = lambda m: m.get("sluice_messages_dropped_total", route="/flood")
            metrics = gateway.wait_metrics(lambda m: dropped(m) > 0)
            buffered = metrics.get("sluice_buffered_amount_bytes", route="/flood")
            self.assertLess(buffered, HIGH + 2 * max(size, 64 * KIB))
            if MEMORY_IS_OURS:
                self.assertLess(gateway.rss_bytes() - before, 8 * MIB)
            serve_honest_client(gateway)
            # What is held back is sent before the Close frame, and the plugin is still heard.
            client.send(TEXT, "close 1000 done")
            messages, close = client.read_until_close()
            self.assertEqual(close, (1000, "done"))
            client.socket.sendall(frame(CLOSE, b"\x03\xe8"))
            self.assertTrue(client.at_end())
            client.close()
            gateway.wait_log(event="close", client=client.address)
            metrics = gateway.metrics()
            lost = dropped(metrics)
            self.assertEqual(len(messages) + lost, count)
            action = metrics.get("sluice_slow_consumer_actions_total", policy=policy)
            self.assertEqual(action, lost)
            sent = metrics.get("sluice_messages_total", route="/flood", direction=DOWN)
            self.assertEqual(sent, len(messages))
            self.assertEqual(metrics.get("sluice_buffered_amount_bytes"), 0)
            return numbers(messages, size), int(lost)

    def test_drop_oldest_keeps_the_newest(self):
        arrived, lost = self.flood("drop_oldest")
        # What the kernel took before it was full, then nothing, then the newest.
        gap = next(i for i, number in enumerate(arrived) if number != i)
        self.assertEqual(arrived, [*range(gap), *range(gap + lost, 2000)])
        self.assertGreater(2000 - gap - lost, 5)

    def test_drop_newest_keeps_the_oldest(self):
        arrived, lost = self.flood("drop_newest")
        self.assertEqual(arrived, list(range(2000 - lost)))

    def test_no_more_than_one_pong_waits(self):
        """Many pings from a client that reads none of the answers (RFC 6455 5.5.3)."""
        unlimited = {"control_frames_per_second": "off"}
        with Gateway(config(slow_consumer="drop_newest", limits=unlimited)) as gateway:
            client = RawClient(gateway.listeners[0], "/flood", SMALL)
            client.send(TEXT, "200 100000")
            gateway.wait_metrics(lambda m: m.get("sluice_messages_dropped_total") > 0)
            buffered = lambda m: m.get("sluice_buffered_amount_bytes", direction=DOWN)
            before = buffered(gateway.metrics())
            pings = 20_000
            client.socket.sendall(b"".join(frame(PING, b"%08d" % i) for i in range(pings)))
            received = {"opcode": "ping", "direction": UP}
            metrics = gateway.wait_metrics(
                lambda m: m.get("sluice_frames_total", **received) == pings
            )
            self.assertEqual(buffered(metrics), before)
            pongs = []
            while not pongs:
                opcode, payload = client.read_frame()
                if opcode == PONG:
                    pongs.append(payload)
            client.send(TEXT, "close 1000 done")
            while opcode != CLOSE:
                opcode, payload = client.read_frame()
                if opcode == PONG:
                    pongs.append(payload)
            self.assertEqual(pongs, [b"%08d" % (pings - 1)])
            client.close()

    def test_small_messages_are_counted_just_as_well(self):
        for policy in ("drop_oldest", "drop_newest"):
            arrived, _ = self.flood(policy, count=200_000, size=100)
            self.assertEqual(arrived, sorted(set(arrived)))

    def test_a_message_over_the_high_watermark_is_not_torn(self):
        for policy in ("drop_oldest", "drop_newest"):
            arrived, _ = self.flood(policy, count=20, size=700 * KIB)
            self.assertEqual(arrived[0], 0)


if __name__ == "__main__":
    unittest.main()
