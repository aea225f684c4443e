"""permessage-deflate (RFC 7692) with the gateway as a server in front of an echo: sections 12 and
13, each window there is, the RFC's own examples, and text that is failed inside a compressed frame.
"""

import json
import random
import unittest
import zlib

from cases import utf8_sequences
from peer import (
    BINARY,
    CONTINUATION,
    END,
    PING,
    RSV1,
    TEXT,
    Frame,
    fragments,
)
from suite import KIB, NEVER_CUT, SLOWNESS, ConformanceTest, close_politely, make_tests

MODES = ("shared", "dedicated")


class DeflateTest(ConformanceTest):
    @classmethod
    def config(cls):
        def route(path, **compression):
            limits = {"max_fragments": 10_000}
            compression["min_size"] = 0
            return {"path": path, "plugin": "echo", "compression": compression, "limits": limits,
                    "timeouts": NEVER_CUT}

        return {
            "routes": [
                *(route(f"/{mode}", mode=mode) for mode in MODES),
                *(route(f"/dedicated/{bits}", mode="dedicated", window_bits=bits)
                  for bits in range(9, 16)),
                {"path": "/off", "plugin": "echo"},
            ]
        }

    def agree(self, target, offers="permessage-deflate"):
        peer = self.connect(target, offers)
        self.assertIsNotNone(peer.deflate, f"{offers} is declined")
        return peer

    def echoes(self, peer, opcode, payload, fragment_size=None):
        peer.send_compressed(opcode, payload, fragment_size)
        kind, echoed = peer.event()
        self.assertTrue(
            (kind, echoed) == ("text" if opcode == TEXT else "binary", payload),
            f"{kind} of {len(echoed)}, not the echo of {len(payload)}",
        )

    def fails(self, peer, code):
        self.assertEqual(peer.event()[:2], ("close", code))
        self.assertEqual(peer.event(), END)


# ---- 12 and 13: sizes, fragments, parameters

chance = random.Random(7692)


def records(size):
    lines = (
        json.dumps({"id": i, "name": f"użytkownik {chance.random()}", "tags": ["α", "β", "γ"]})
        for i in range(size // 40)
    )
    return "\n".join(lines)


CONTENT_SIZE = 160 * KIB
CONTENTS = {
    "records": (TEXT, json.dumps(records(CONTENT_SIZE)).encode()),
    "prose": (TEXT, ("It was the best of times, 那是最好的时代, " * 4096).encode()),
    "noise": (BINARY, chance.randbytes(CONTENT_SIZE)),
    "few values": (BINARY, bytes(chance.choices(b"\x00\xff", k=CONTENT_SIZE))),
}

# Of a message, and of the fragments of its compressed form.
SIZES = [(size, None) for size in (16, 64, 256)]
SIZES += [(size * KIB, None) for size in (1, 4, 8, 16, 32, 64, 128)]
SIZES += [(size * KIB, 256) for size in (8, 16, 32, 64, 128)]
SIZES += [(128 * KIB, size * KIB) for size in (1, 4, 32)]

OFFERS = {
    1: "permessage-deflate",
    2: "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    3: "permessage-deflate; server_max_window_bits=9; client_max_window_bits=9",
    4: "permessage-deflate; server_max_window_bits=15; client_max_window_bits=15",
    5: "permessage-deflate; server_max_window_bits=9; server_no_context_takeover; "
       "client_max_window_bits; client_no_context_takeover",
    6: "permessage-deflate; server_max_window_bits=15; server_no_context_takeover; "
       "client_max_window_bits=15",
    7: "permessage-deflate; server_max_window_bits=9; server_no_context_takeover, "
       "permessage-deflate; server_no_context_takeover, permessage-deflate",
}


class Messages:
    """A case of sections 12 and 13: messages of one size, cut from a content."""

    def __init__(self, number, target, offers, content, size, fragment_size):
        self.number, self.target, self.offers = number, target, offers
        self.opcode, self.content = CONTENTS[content]
        self.size, self.fragment_size = size, fragment_size
        self.what = f"{content} of {size}" + (f" by {fragment_size}" if fragment_size else "")
        self.what += f", {offers}, {target}"

    def payloads(self):
        for _ in range(max(2, min(20, 128 * KIB // self.size // SLOWNESS))):
            at = chance.randrange(len(self.content) - self.size)
            piece = self.content[at : at + self.size]
            yield piece.decode(errors="ignore").encode() if self.opcode == TEXT else piece


def sections_12_and_13():
    for i, (size, fragment_size) in enumerate(SIZES, 1):
        for mode in MODES:
            for j, content in enumerate(CONTENTS, 1):
                yield Messages(f"12.{j}.{i}.{mode}", f"/{mode}", OFFERS[1], content, size,
                               fragment_size)
            for j, offers in OFFERS.items():
                yield Messages(f"13.{j}.{i}.{mode}", f"/{mode}", offers, "records", size,
                               fragment_size)


@make_tests(sections_12_and_13())
class Echo(DeflateTest):
    def run_case(self, case):
        peer = self.agree(case.target, case.offers)
        for payload in case.payloads():
            self.echoes(peer, case.opcode, payload, case.fragment_size)
        if case.content is not CONTENTS["noise"][1] and case.size > 64:
            self.assertGreater(peer.compressed_messages, 0)
        close_politely(self, peer)


# ---- The parameters


def far_back(bits):
    """What is repeated just inside and just outside of a window, and of the next larger one."""
    ends = [1 << bits, min(2 << bits, 1 << 15)]
    return b"".join(chance.randbytes(end + more) * 2 for end in ends for more in (-6, 300))


class Parameters(DeflateTest):
    def test_each_window_is_kept_to(self):
        """7.1.2: no match of either end reaches further back than was agreed; a peer whose window
        is as small as was agreed inflates it all."""
        targets = ["/shared", "/dedicated/9", "/dedicated", "/dedicated/15"]
        for target in targets:
            for who in ("server", "client"):
                for bits in range(8, 16):
                    with self.subTest(target=target, who=who, bits=bits):
                        offer = f"permessage-deflate; {who}_max_window_bits={bits}"
                        peer = self.agree(target, offer)
                        self.assertIn(f"{who}_max_window_bits", peer.extensions)
                        payload = far_back(bits)
                        self.echoes(peer, BINARY, payload)
                        self.echoes(peer, BINARY, payload[::-1], 4 * KIB)
                        close_politely(self, peer)

    def test_each_window_of_the_route(self):
        """A client that says nothing about its own window may use the largest."""
        for bits in range(9, 16):
            for offer in ("permessage-deflate", "permessage-deflate; client_max_window_bits"):
                with self.subTest(bits=bits, offer=offer):
                    peer = self.agree(f"/dedicated/{bits}", offer)
                    payload = far_back(bits)
                    for _ in range(2):
                        self.echoes(peer, BINARY, payload)
                    close_politely(self, peer)

    def test_the_first_offer_that_is_right_is_taken(self):
        """7.1: an offer with parameters that are unknown, repeated or wrong is declined."""
        good = "permessage-deflate; server_max_window_bits=10"
        for wrong in (
            "x-webkit-deflate-frame",
            "permessage-deflate; mode=fast",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=010",
            "permessage-deflate; client_max_window_bits=0",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        ):
            for mode in MODES:
                with self.subTest(wrong=wrong, mode=mode):
                    peer = self.dial()
                    peer.send_request(f"/{mode}", f"{wrong}, {good}")
                    peer.read_response(good)
                    self.assertIn("server_max_window_bits=10", peer.extensions)
                    self.echoes(peer, TEXT, b"Hello" * 100)
                    close_politely(self, peer)
                    self.declined(f"/{mode}", wrong)

    def declined(self, target, offers):
        peer = self.dial()
        peer.send_request(target, offers)
        peer.read_response()  # Unfit with an extension
        peer.send(Frame(TEXT, b"as it is"))
        self.assertEqual(peer.event(), ("text", b"as it is"))
        peer.send(Frame(TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00", rsv=RSV1))
        self.fails(peer, 1002)

    def test_a_route_without_compression_declines(self):
        self.declined("/off", "permessage-deflate")

    def test_a_quoted_value(self):
        """RFC 6455 9.1: a parameter's value may be a quoted-string."""
        peer = self.dial()
        peer.send_request("/shared", 'permessage-deflate; server_max_window_bits="11"')
        peer.read_response("permessage-deflate; server_max_window_bits=11")
        self.echoes(peer, TEXT, b"Hello" * 100)
        close_politely(self, peer)


# ---- Messages and blocks


class Blocks(DeflateTest):
    def answers(self, target, *exchanges):
        """Each of the exchanges is (frames, text that comes back), one after the other."""
        peer = self.agree(target)
        for frames, payload in exchanges:
            peer.send(*frames)
            self.assertEqual(peer.event(), ("text", payload))
        close_politely(self, peer)

    def test_the_examples_of_the_rfc(self):
        """RFC 7692 7.2.3."""
        hello = bytes.fromhex("f248cdc9c90700")

        def whole(text):
            return [Frame(TEXT, bytes.fromhex(text), rsv=RSV1)]

        for mode in MODES:
            target = f"/{mode}"
            with self.subTest("7.2.3.1: one block, and in two fragments", mode=mode):
                self.answers(target, (whole(hello.hex()), b"Hello"))
                self.answers(target, (fragments(TEXT, hello, 3, RSV1), b"Hello"))
            with self.subTest("7.2.3.3: a block with no compression", mode=mode):
                self.answers(target, (whole("000500faff48656c6c6f00"), b"Hello"))
            with self.subTest("7.2.3.4: a block with BFINAL", mode=mode):
                final = whole("f348cdc9c9070000")
                self.answers(target, (final, b"Hello"), (whole(hello.hex()), b"Hello"))
            with self.subTest("7.2.3.5: two blocks", mode=mode):
                self.answers(target, (whole("f24805000000ffffcac9c90700"), b"Hello"))
            with self.subTest("7.2.3.6: an empty message", mode=mode):
                self.answers(target, (whole("00"), b""), (whole(hello.hex()), b"Hello"))
        with self.subTest("7.2.3.2: the window of the message before"):
            for before in (hello.hex(), "f348cdc9c9070000"):
                again = whole("f200110000"), b"Hello"
                self.answers("/dedicated", (whole(before), b"Hello"), again)

    def test_each_level_of_zlib(self):
        """Stored, fixed and dynamic blocks."""
        for mode in MODES:
            for level in range(10):
                payload = CONTENTS["records"][1][: 60 * KIB].decode(errors="ignore").encode()
                peer = self.agree(f"/{mode}")
                peer.send(Frame(TEXT, peer.deflate.compress(payload, level), rsv=RSV1))
                self.assertTrue(peer.event() == ("text", payload), f"{mode}, level {level}")
                close_politely(self, peer)

    def test_what_is_compressed_and_what_is_not_may_follow_each_other(self):
        """RFC 7692 6: per message; a continuation is what its message is."""
        for mode in MODES:
            peer = self.agree(f"/{mode}")
            for i in range(20):
                payload = b"message %d " % i * 50
                if i % 2:
                    peer.send(*fragments(TEXT, payload, 100))
                else:
                    peer.send_compressed(TEXT, payload, 7)
                self.assertEqual(peer.event(), ("text", payload))
            close_politely(self, peer)

    def test_fragments_of_an_octet_with_pings_between(self):
        for mode in MODES:
            peer = self.agree(f"/{mode}")
            for chop in (None, "frames", 1):
                deflated = peer.deflate.compress("拆成碎片".encode() * 3)
                frames = fragments(TEXT, deflated, 1, RSV1)
                peer.send(*(one for frame in frames for one in (frame, Frame(PING, b"."))),
                          chop=chop)
                events = peer.events(len(frames) + 1)
                self.assertEqual(events.count(("pong", b".")), len(frames))
                self.assertIn(("text", "拆成碎片".encode() * 3), events)
            close_politely(self, peer)

    def test_empty_fragments(self):
        for mode in MODES:
            deflated = bytes.fromhex("f248cdc9c90700")
            empty = Frame(CONTINUATION, b"", False)
            pieces = [Frame(CONTINUATION, deflated[:3], False), empty,
                      Frame(CONTINUATION, deflated[3:], False)]
            frames = [Frame(TEXT, b"", False, RSV1), empty, *pieces, Frame(CONTINUATION)]
            self.answers(f"/{mode}", (frames, b"Hello"), (frames, b"Hello"))

    def test_reserved_bits_are_for_the_first_frame_of_a_message(self):
        """RFC 7692 6.1: RSV1 on a control frame or a continuation, and RSV2 and RSV3 at all."""
        first = Frame(TEXT, b"\xf2\x48\xcd", False, RSV1)
        plain = Frame(TEXT, b"plain", False)
        for mode in MODES:
            for frames in (
                [Frame(PING, b"", rsv=RSV1)],
                [Frame(8, b"", rsv=RSV1)],
                [first, Frame(CONTINUATION, b"\xc9\xc9\x07\x00", rsv=RSV1)],
                [plain, Frame(CONTINUATION, b"\xc9\xc9\x07\x00", rsv=RSV1)],
                *([Frame(TEXT, b"\x00", rsv=rsv)] for rsv in (1, 2, 3, 5, 6, 7)),
            ):
                with self.subTest(mode=mode, frames=frames):
                    peer = self.agree(f"/{mode}")
                    peer.send(*frames)
                    self.fails(peer, 1002)

    def test_what_does_not_inflate_is_failed_with_1007(self):
        for mode in MODES:
            for wrong in ("06", "f248cdc9", "f248cdc9c907", "000500f0ff48656c6c6f00", "f2001100"):
                with self.subTest(mode=mode, wrong=wrong):
                    peer = self.agree(f"/{mode}")
                    peer.send(Frame(TEXT, bytes.fromhex(wrong), rsv=RSV1))
                    self.fails(peer, 1007)

    def test_without_takeover_the_window_begins_empty(self):
        """7.1.1.2: a client that agreed to it and refers back all the same is failed."""
        peer = self.agree("/shared")
        peer.send(Frame(TEXT, bytes.fromhex("f248cdc9c90700"), rsv=RSV1))
        self.assertEqual(peer.event(), ("text", b"Hello"))
        peer.send(Frame(TEXT, bytes.fromhex("f200110000"), rsv=RSV1))
        self.fails(peer, 1007)


# ---- 6, compressed


class Utf8Case:
    def __init__(self, mode, number, what, payload, valid):
        self.number, self.what = f"{number}.{mode}", f"{what}, compressed, {mode}"
        self.mode, self.payload, self.valid = mode, payload, valid


@make_tests(Utf8Case(mode, *case) for mode in MODES for case in utf8_sequences())
class Utf8(DeflateTest):
    def run_case(self, case):
        for fragment_size in (None, 1):
            peer = self.agree(f"/{case.mode}")
            peer.send_compressed(TEXT, case.payload, fragment_size)
            if case.valid:
                self.assertEqual(peer.event(), ("text", case.payload))
                close_politely(self, peer)
            else:
                self.fails(peer, 1007)


WRONG = b"\xf4\x90"  # over U+10FFFF, with its second octet


class FailFast(DeflateTest):
    """RFC 6455 8.1: nothing is sent behind what is wrong; neither frame nor message ever end."""

    def beginning(self, peer, payload, mode=zlib.Z_SYNC_FLUSH):
        """Compressed, and not at its end."""
        deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
        return deflater.compress(payload) + deflater.flush(mode)

    def run_all(self, frames_of, **options):
        for mode in MODES:
            for before in (b"", "κόσμε".encode(), "发送数据".encode() * 20_000):
                with self.subTest(mode=mode, before=len(before)):
                    peer = self.agree(f"/{mode}")
                    deflated = self.beginning(peer, before + WRONG)
                    peer.send(*frames_of(deflated), **options)
                    self.fails(peer, 1007)

    def test_a_frame_is_wrong_before_its_end(self):
        self.run_all(lambda deflated: [Frame(TEXT, deflated, rsv=RSV1, size=len(deflated) + 100)])

    def test_a_frame_is_wrong_before_its_end_octet_by_octet(self):
        self.run_all(
            lambda deflated: [Frame(TEXT, deflated, rsv=RSV1, size=len(deflated) + 100)], chop=1
        )

    def test_a_fragment_is_wrong_before_the_message_ends(self):
        self.run_all(lambda deflated: [Frame(TEXT, deflated, False, RSV1)])

    def test_a_later_fragment_is_wrong_before_its_end(self):
        self.run_all(
            lambda deflated: [
                Frame(TEXT, deflated[:3], False, RSV1),
                Frame(CONTINUATION, deflated[3:], size=len(deflated) + 100),
            ]
        )

    def test_inside_a_block(self):
        """The block of DEFLATE has not ended either: what its bits say so far is enough."""
        for mode in MODES:
            peer = self.agree(f"/{mode}")
            # A fixed block whose literals go on: what is cut off holds what is behind the wrong.
            deflater = zlib.compressobj(6, zlib.DEFLATED, -15, 8, zlib.Z_FIXED)
            text = b"Hello" + WRONG + b"0123456789"
            deflated = (deflater.compress(text) + deflater.flush())[:-9]
            peer.send(Frame(TEXT, deflated, rsv=RSV1, size=100))
            self.fails(peer, 1007)

    def test_nothing_is_wrong_before_what_is_wrong_has_come(self):
        for mode in MODES:
            peer = self.agree(f"/{mode}")
            deflated = self.beginning(peer, "κόσμε".encode() + WRONG[:1])
            peer.send(Frame(TEXT, deflated, False, RSV1))
            self.assertTrue(peer.is_quiet(0.1))
            deflated = self.beginning(peer, WRONG[1:])
            peer.send(Frame(CONTINUATION, deflated, size=len(deflated) + 100))
            self.fails(peer, 1007)


if __name__ == "__main__":
    unittest.main()
