"""Ends of connections that may lose nothing: slow readers, and streams that are half-closed."""

import contextlib
import os
import pathlib
import signal
import socket
import ssl
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from gateway import (
    CLOSE,
    CONTINUATION,
    KIB,
    MIB,
    PATIENCE,
    SLOWNESS,
    TEXT,
    Gateway,
    RawClient,
    client_tls,
    close_frame,
    echo_config,
    frame,
    make_certificate,
    temporary_folder,
    test_plugin,
    until,
)

SMALL = 16 * KIB  # a client's receive buffer


def config(folder, **overrides):
    """The routes /echo and /flood, and files; the second listener is of TLS."""
    cert, key = make_certificate(folder)
    (folder / "www").mkdir()
    (folder / "www" / "big").write_bytes(bytes(MIB))
    tls = {"certificates": [{"cert": cert, "key": key}]}
    return echo_config(
        listeners=[{"address": "127.0.0.1:0"}, {"address": "127.0.0.1:0", "tls": tls}],
        plugins={"echo": {"library": "echo.so"}, "flood": {"library": test_plugin("flood")}},
        routes=[
            {"path": "/echo", "plugin": "echo"},
            {"path": "/flood", "plugin": "flood", "timeouts": {"close": f"{SLOWNESS}s"}},
            {"path": "/*", "static": {"root": str(folder / "www")}},
        ],
        **overrides,
    )


class EndingsTest(unittest.TestCase):
    def start(self, **overrides):
        folder = temporary_folder()
        gateway = Gateway(config(folder, **overrides), folder)
        self.tls = client_tls(folder / "localhost.crt")
        return gateway

    def connect(self, gateway, listener=0):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        client.settimeout(PATIENCE)
        client.connect(gateway.listeners[listener])
        return client


class RequestsTest(EndingsTest):
    def test_a_slow_reader_gets_the_whole_of_the_last_response(self):
        """RFC 9112 9.6: a connection must not be closed so that a response is lost."""
        with self.start() as gateway:
            clients = [self.ask(gateway, listener, "/big") for listener in (0, 1)]
            received = [self.read(client, MIB // 2) for client in clients]
            while any(client.fileno() >= 0 for client in clients):
                # Slow enough that the rest takes longer than the gateway lingers (2 s).
                time.sleep(0.2)
                for i, client in enumerate(clients):
                    received[i] += self.read(client, 32 * KIB)
            for response in received:
                head, _, body = response.partition(b"\r\n\r\n")
                self.assertTrue(head.startswith(b"HTTP/1.1 200 "), head)
                self.assertEqual(len(body), MIB)

    def ask(self, gateway, listener, path):
        client = self.connect(gateway, listener)
        if listener == 1:
            client = self.tls.wrap_socket(client, server_hostname="localhost")
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        return client

    def read(self, client, size):
        """So many bytes; or fewer at the end of the stream, and closes."""
        received = b""
        while client.fileno() >= 0 and len(received) < size:
            piece = client.recv(size - len(received))
            received += piece
            if not piece:
                client.close()
        return received

    def test_all_requests_before_the_end_of_the_stream_are_answered(self):
        requests = b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n" * 3
        with self.start() as gateway:
            plain = self.connect(gateway)
            plain.sendall(requests)
            plain.shutdown(socket.SHUT_WR)
            received = b"".join(iter(lambda: plain.recv(MIB), b""))
            self.assertEqual(received.count(b"HTTP/1.1 200 "), 3)
            self.assertGreater(len(received), 3 * MIB)
            plain.close()

            secure = self.connect(gateway, 1)
            received = self.ask_and_end(secure, requests)
            self.assertEqual(received.count(b"HTTP/1.1 200 "), 3)
            self.assertGreater(len(received), 3 * MIB)
            secure.close()

    def ask_and_end(self, client, requests):
        """Sends them and close_notify at once, so that one read finds both; returns what came."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        stream = self.tls.wrap_bio(incoming, outgoing, server_hostname="localhost")

        def wants_more(step):
            try:
                step()
            except ssl.SSLWantReadError:
                return True
            return False

        while wants_more(stream.do_handshake):
            client.sendall(outgoing.read())
            incoming.write(client.recv(MIB))
        client.sendall(outgoing.read())
        stream.write(requests)
        self.assertTrue(wants_more(stream.unwrap))
        client.sendall(outgoing.read())
        while piece := client.recv(MIB):
            incoming.write(piece)
        received = b""
        with contextlib.suppress(ssl.SSLZeroReturnError):  # close_notify
            while True:
                received += stream.read(MIB)
        return received


class SocketsTest(EndingsTest):
    def test_a_drain_waits_for_a_slow_reader(self):
        """timeouts.close is not for the time that it takes to read what was sent before."""
        with self.start(shutdown={"drain_timeout": "1m"}) as gateway:
            client = RawClient(gateway.listeners[0], "/flood", SMALL)
            client.send(TEXT, "36 100000")
            client.read_frame()
            gateway.child.terminate()
            gateway.wait_log(event="draining")
            for number in range(1, 36):
                time.sleep(0.06 * SLOWNESS)  # all of them take twice as long as timeouts.close
                opcode, payload = client.read_frame()
                self.assertEqual((opcode, payload[:8]), (TEXT, b"%08d" % number))
            opcode, payload = client.read_frame()
            self.assertEqual((opcode, payload[2:]), (CLOSE, b"shutting down"))
            client.socket.sendall(close_frame(1001))
            self.assertTrue(client.at_end())
            log = gateway.wait_log(event="close")
            self.assertEqual((log["reason"], log["code"], log["clean"]), ("drain", 1001, True))
            client.close()

    def test_a_client_that_half_closes_instead_of_an_answer_gets_what_it_was_sent(self):
        with self.start() as gateway:
            client = RawClient(gateway.listeners[0], "/flood", SMALL)
            client.send(TEXT, "2 100000")  # less than what would hold the next message back
            client.send(TEXT, "close 4000 done")
            client.socket.shutdown(socket.SHUT_WR)
            log = gateway.wait_log(event="close")
            self.assertEqual((log["initiator"], log["code"]), ("plugin", 1006))
            messages, close = client.read_until_close()
            self.assertEqual((len(messages), close), (2, (4000, "done")))
            self.assertTrue(client.at_end())
            client.close()

    def test_close_notify_is_answered_with_close_notify(self):
        """RFC 8446 6.1, for a client that sends no Close frame."""
        with self.start() as gateway:
            self.tls.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
            client = RawClient(gateway.listeners[1], tls=self.tls)
            client.socket.unwrap()  # raises if the stream ends without
            log = gateway.wait_log(event="close")
            self.assertEqual((log["initiator"], log["reason"]), ("client", "lost"))
            client.close()


class SignalsTest(unittest.TestCase):
    def test_signals_change_nothing_until_the_very_end(self):
        for _ in range(5):
            with Gateway() as gateway:
                while gateway.child.poll() is None:
                    gateway.child.terminate()

    def test_a_terminal_that_is_closed_means_a_graceful_end_however_often_it_is_told(self):
        terminal, inside = os.openpty()
        shell = f'exec setsid --ctty "$@" < {os.ttyname(inside)} 2>&0'
        with Gateway(shell=shell) as gateway:
            os.close(inside)
            client = RawClient(gateway.listeners[0])
            client.socket.sendall(frame(TEXT, b"the first half ", fin=False))
            gateway.wait_metrics(lambda m: m.get("sluice_frames_total", opcode="text") == 1)
            os.close(terminal)
            gateway.wait_log(event="draining")
            gateway.child.send_signal(signal.SIGHUP)
            until(lambda: self.hang_ups(gateway) == 2, "the second one is in the log")
            client.socket.sendall(frame(CONTINUATION, b"and the second"))
            self.assertEqual(client.read_message(), (TEXT, b"the first half and the second"))
            self.assertEqual(client.read_until_close(), ([], (1001, "shutting down")))
            client.socket.sendall(close_frame(1001))
            self.assertEqual(gateway.child.wait(PATIENCE), 0)
            client.close()

    def hang_ups(self, gateway):
        return sum(log.get("name") == "SIGHUP" for log in gateway.logs)


if __name__ == "__main__":
    unittest.main()
