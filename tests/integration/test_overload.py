"""Too many clients, too few descriptors, and clients that reset."""

import pathlib
import resource
import socket
import struct
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from gateway import PATIENCE, PRESET, TEXT, Gateway, RawClient, echo_config, serve_honest_client, until


def turned_away(clients):
    """Closes the sockets; returns how many of them the gateway had closed before."""
    count = 0
    for client in clients:
        client.setblocking(False)
        try:
            count += client.recv(1) == b""
        except ConnectionResetError:
            count += 1
        except BlockingIOError:
            pass
        client.close()
    return count


class DescriptorsTest(unittest.TestCase):
    def connect(self, gateway, count):
        return [
            socket.create_connection(gateway.listeners[0], timeout=PATIENCE) for _ in range(count)
        ]

    def idles_and_serves(self, gateway, established):
        """It does next to nothing for those that wait, and the others go on."""
        before, start = gateway.cpu_seconds(), time.monotonic()
        while time.monotonic() - start < 1:
            established.send(TEXT, "still here")
            self.assertEqual(established.read_message(), (TEXT, b"still here"))
            time.sleep(0.02)
        spent = gateway.cpu_seconds() - before
        self.assertLess(spent, 0.3 * (time.monotonic() - start))

    def recovers(self, gateway, established):
        until(lambda: gateway.descriptors() < 40, "the descriptors are closed")
        for _ in range(10):
            serve_honest_client(gateway)
        established.send(TEXT, "and now")
        self.assertEqual(established.read_message(), (TEXT, b"and now"))
        established.close()

    def test_near_the_limit_clients_are_closed_and_scrapes_are_answered(self):
        config = echo_config(max_connections=10_000)
        with Gateway(config, shell='ulimit -n 80; exec "$@"') as gateway:
            gateway.expected_errors.add("out of descriptors")
            warned = gateway.wait_log(event="too few descriptors")
            self.assertEqual((warned["max_connections"], warned["max_fds"]), (10_000, 80))
            self.assertLess(warned["possible"], 80)
            established = RawClient(gateway.listeners[0])
            waiting = self.connect(gateway, 100)
            gateway.wait_log(event="out of descriptors")
            self.idles_and_serves(gateway, established)
            metrics = gateway.wait_metrics(
                lambda m: m.get("sluice_connections_accepted_total") == 101
            )
            self.assertEqual(metrics.get("process_max_fds"), 80)
            self.assertEqual(metrics.get("sluice_accept_errors_total"), 0)
            shed = metrics.get("sluice_limit_rejections_total", limit="descriptors")
            self.assertGreater(shed, 20)
            until(lambda: gateway.descriptors() < 80, "there is room for a scrape")
            self.assertEqual(turned_away(waiting), shed)
            self.recovers(gateway, established)

    @unittest.skipIf(PRESET == "asan", "UBSan cannot look at memory without a descriptor")
    def test_without_descriptors_it_sheds_rests_and_recovers(self):
        with Gateway(echo_config()) as gateway:
            gateway.expected_errors.add("accept failed")
            established = RawClient(gateway.listeners[0])
            before = resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE)
            some_more = gateway.descriptors() + 20
            resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (some_more, before[1]))
            waiting = self.connect(gateway, 100)
            gateway.wait_log(event="accept failed")
            self.idles_and_serves(gateway, established)
            count = turned_away(waiting)
            self.assertGreater(count, 20)
            resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, before)
            until(lambda: gateway.descriptors() < 40, "the descriptors are closed")
            metrics = gateway.metrics()
            self.assertGreater(metrics.get("sluice_accept_errors_total", errno="EMFILE"), 0)
            shed = metrics.get("sluice_limit_rejections_total", limit="descriptors")
            self.assertEqual(shed, count)
            self.recovers(gateway, established)

    def test_max_connections_auto_leaves_room_for_the_rest(self):
        with Gateway(echo_config(), shell='ulimit -n 200; exec "$@"') as gateway:
            started = gateway.wait_log(event="started")
            self.assertLess(started["max_connections"], 190)
            clients = [RawClient(gateway.listeners[0]) for _ in range(started["max_connections"])]
            refused = socket.create_connection(gateway.listeners[0], timeout=PATIENCE)
            refused.sendall(b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = refused.recv(4096)
            self.assertTrue(answer.startswith(b"HTTP/1.1 503 "), answer)
            self.assertIn(b"\r\nRetry-After: 1\r\n", answer)
            refused.close()
            metrics = gateway.metrics()
            self.assertEqual(metrics.get("sluice_accept_errors_total"), 0)
            for client in clients:
                client.send(TEXT, "hello")
                self.assertEqual(client.read_message(), (TEXT, b"hello"))
                client.close()
            gateway.wait_metrics(lambda m: m.get("sluice_connections_active") == 0)
            serve_honest_client(gateway)


class ResetTest(unittest.TestCase):
    def test_a_storm_of_resets(self):
        with Gateway(echo_config(workers=2)) as gateway:
            honest = RawClient(gateway.listeners[0])
            before = gateway.descriptors()
            clients = [RawClient(gateway.listeners[0]) for _ in range(500)]
            for client in clients:
                client.send(TEXT, "an echo that nobody reads")
            for client in clients:
                client.reset()
            metrics = gateway.wait_metrics(lambda m: m.get("sluice_connections_active") == 1)
            closed = metrics.get("sluice_connections_closed_total", initiator="network")
            self.assertEqual(closed, 500)
            self.assertEqual(metrics.get("sluice_connections_closed_total", reason="reset"), 500)
            until(lambda: gateway.descriptors() <= before, "the descriptors are closed")
            honest.send(TEXT, "hello")
            self.assertEqual(honest.read_message(), (TEXT, b"hello"))
            honest.close()
            serve_honest_client(gateway)

    def test_clients_that_are_gone_before_they_are_accepted(self):
        with Gateway(echo_config()) as gateway:
            for _ in range(300):
                client = socket.create_connection(gateway.listeners[0])
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
            serve_honest_client(gateway)
            until(lambda: gateway.descriptors() < 40, "the descriptors are closed")


if __name__ == "__main__":
    unittest.main()
