"""What the files of this suite share: a gateway for a class's tests, and tests made of cases."""

import pathlib
import socket
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from gateway import KIB, MIB, PATIENCE, SLOWNESS, Gateway, echo_config, until
from peer import END, Peer, close_frame

# A stream that ends by a deadline only has not ended as it should: it comes too late for any test.
NEVER_CUT = {"close": "30m"}


class ConformanceTest(unittest.TestCase):
    """A subclass has `config()`; `self.gateway` runs with that while its tests do."""

    maxDiff = 2000

    @classmethod
    def setUpClass(cls):
        cls.gateway = Gateway(echo_config(**cls.config()))

    @classmethod
    def tearDownClass(cls):
        with cls.gateway:  # holds that it ends as it should
            pass

    def dial(self):
        peer = Peer(socket.create_connection(self.gateway.listeners[0]), PATIENCE)
        self.addCleanup(peer.close)
        return peer

    def connect(self, target, offers=None):
        peer = self.dial()
        peer.send_request(target, offers)
        return peer.read_response(offers)


def make_tests(cases):
    """Decorates a class: each case becomes a test, which is `run_case(case)`."""

    def decorate(cls):
        for case in cases:

            def test(self, case=case):
                self.run_case(case)

            test.__doc__ = f"{case.number}: {case.what}"
            name = "test_" + case.number.replace(".", "_")
            assert not hasattr(cls, name), name
            setattr(cls, name, test)
        return cls

    return decorate


def close_politely(test, peer):
    """As a client: nothing was wrong, and nothing else comes. RFC 6455 7.1.1: the server is the one
    to end the stream, and it does so without a reset."""
    peer.send(close_frame(1000))
    test.assertEqual([peer.event(), peer.event()], [("close", 1000, b""), END])
