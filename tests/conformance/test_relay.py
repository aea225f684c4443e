"""The gateway as a server in front of an upstream that echoes: messages are passed on as they come,
be they whole or not, so that what is wrong may come behind what has been passed on."""

import unittest

from cases import TABLE, masks
from peer import CUT, END, close_frame
from relay import OPCODES, Echoing, RelayTest
from suite import close_politely, make_tests


@make_tests(TABLE + masks(False))
class Table(RelayTest):
    def run_case(self, case):
        self.client, upstream = self.meet("/plain")
        self.upstream = Echoing(upstream)
        self.client.send(*case.frames, chop=case.chop)
        if case.close is None:
            self.answers(case)
            close_politely(self, self.client)
            ends = [[("close", 1000, b""), END]]
        elif case.fails:
            reason = self.is_failed(case.close)
            ends = [[("close", 1001, reason), END]] + ([[CUT]] if case.is_cut else [])
        else:
            self.assertEqual(self.close(), ("close", *case.close))
            self.assertEqual(self.client.event(), END)
            ends = [[("close", *case.close), END]]
        seen = self.upstream.seen()
        messages = [event for event in case.answers if event[0] in OPCODES]
        self.assertEqual([event for event in seen if event[0] in OPCODES], messages)
        self.assertIn([event for event in seen if event[0] not in OPCODES], ends)

    def answers(self, case):
        """A pong is the gateway's, a message's echo the upstream's: they may overtake each other."""
        found = self.client.events(len(case.answers))
        for is_pong in (True, False):
            self.assertEqual(
                [event for event in found if (event[0] == "pong") == is_pong],
                [event for event in case.answers if (event[0] == "pong") == is_pong],
            )

    def close(self):
        """The Close frame, which may overtake the echo of what came before."""
        event = self.client.event()
        while event[0] in OPCODES:
            event = self.client.event()
        return event

    def is_failed(self, code):
        """The client is told what was wrong, the upstream that its client is going away."""
        close = self.close()
        self.assertEqual(close[:2], ("close", code))
        self.assertNotEqual(close[2], b"", "a reason says what was wrong")
        self.client.send(close_frame(code))
        self.assertEqual(self.client.event(), END)
        return close[2]


if __name__ == "__main__":
    unittest.main()
