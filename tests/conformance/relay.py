"""The gateway between two peers: an http route, and an end that echoes."""

import socket
import threading

from peer import BINARY, CUT, END, RESET, TEXT, Frame, close_frame
from suite import NEVER_CUT, PATIENCE, ConformanceTest, Peer

OPCODES = {"text": TEXT, "binary": BINARY}


class Echoing(threading.Thread):
    """Sends each message back to where it came from, and answers a Close frame, to the end of the
    stream."""

    def __init__(self, peer):
        super().__init__(daemon=True)
        self.peer = peer
        self.events = []
        self.start()

    def run(self):
        try:
            self._echo()
        except AssertionError as error:
            self.events.append(("unfit", str(error)))
        except OSError as error:
            self.events.append(("error", str(error)))

    def _echo(self):
        while not self.events or self.events[-1] not in (END, RESET, CUT):
            event = self.peer.event()
            self.events.append(event)
            if event[0] in OPCODES:
                self._send_back(OPCODES[event[0]], event[1])
            elif event[0] == "close":
                self.peer.send(close_frame(*event[1:]))
                if not self.peer.is_client:
                    self.peer.half_close()  # RFC 6455 7.1.1: the server is the first

    def _send_back(self, opcode, payload):
        if self.peer.deflate is None:
            self.peer.send(Frame(opcode, payload))
        else:
            self.peer.send_compressed(opcode, payload)

    def seen(self):
        """All events, to the last."""
        self.join(PATIENCE)
        assert not self.is_alive(), self.events[-3:]
        return self.events


class RelayTest(ConformanceTest):
    """`self.listener` is the upstream of all routes."""

    @classmethod
    def config(cls):
        cls.listener = socket.create_server(("127.0.0.1", 0))
        cls.listener.settimeout(PATIENCE)
        at = "127.0.0.1:%d" % cls.listener.getsockname()[1]

        def route(path, mode="off", compression=None):
            return {"path": path, "http": {"upstream": at, "compression": mode},
                    "compression": {"min_size": 0, **(compression or {})}, "timeouts": NEVER_CUT}

        return {
            "routes": [
                route("/plain"),
                route("/shared", "shared"),
                route("/dedicated", "dedicated"),
                *(route(f"/dedicated/{bits}", "dedicated", {"window_bits": bits})
                  for bits in range(9, 16)),
                route("/both", "dedicated", {"mode": "dedicated"}),
                route("/passthrough", "off", {"mode": "passthrough"}),
            ]
        }

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.listener.close()

    def meet(self, target, answer=None, offers=None):
        """The client's peer and the upstream's, each at one end of a socket through the gateway.

        `answer`: what the upstream answers to the gateway's offer, or a function that makes it.
        `offers`: the client's."""
        client = self.dial()
        client.send_request(target, offers)
        stream, _ = self.listener.accept()
        upstream = Peer(stream, PATIENCE)
        self.addCleanup(upstream.close)
        upstream.answer_request(answer if callable(answer) else lambda offer: answer)
        return client.read_response(offers), upstream
