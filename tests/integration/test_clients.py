"""Debian's python3-websockets and python3-autobahn as clients."""

import asyncio
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import websockets
from autobahn.asyncio.websocket import WebSocketClientFactory, WebSocketClientProtocol
from gateway import PATIENCE, Gateway, client_tls, echo_config, make_certificate, temporary_folder

MESSAGES = ["hello", "", "你好，世界 🌊", b"", bytes(range(256)), b"x" * 65536, "é" * 500_000]


def routes():
    return [{"path": "/echo", "plugin": "echo", "allowed_origins": ["*"], "subprotocols": ["chat"]}]


class Clients:
    """What is asked of each library, over TCP and over TLS."""

    @classmethod
    def setUpClass(cls):
        folder = temporary_folder()
        cert, key = make_certificate(folder)
        certificates = [{"cert": cert, "key": key}]
        cls.tls = client_tls(cert)
        cls.gateway = Gateway(
            echo_config(
                listeners=[
                    {"address": "127.0.0.1:0"},
                    {"address": "127.0.0.1:0", "tls": {"certificates": certificates}},
                ],
                routes=routes(),
            ),
            folder,
        )

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()

    def test_over_tcp(self):
        asyncio.run(asyncio.wait_for(self.talk(self.gateway.url()), PATIENCE))

    def test_over_tls(self):
        url = self.gateway.url(scheme="wss", listener=1)
        asyncio.run(asyncio.wait_for(self.talk(url, self.tls), PATIENCE))


class WebsocketsTest(Clients, unittest.TestCase):
    async def talk(self, url, tls=None):
        options = {"ssl": tls, "max_size": None, "compression": "deflate"}
        async with websockets.connect(url, subprotocols=["other", "chat"], **options) as socket:
            self.assertEqual(socket.subprotocol, "chat")
            self.assertEqual(socket.extensions, [])
            for message in MESSAGES:
                await socket.send(message)
                self.assertEqual(await socket.recv(), message)
            # An iterable is sent as fragments.
            await socket.send(["one ", "", "two ", "three"])
            self.assertEqual(await socket.recv(), "one two three")
            await socket.send([b"\0" * 100_000, b"\1" * 100_000])
            self.assertEqual(await socket.recv(), b"\0" * 100_000 + b"\1" * 100_000)
            await (await socket.ping(b"are you there"))
            await socket.pong(b"unasked")
            await socket.close(4001, "再见")
            self.assertEqual((socket.close_code, socket.close_reason), (4001, "再见"))
        log = self.gateway.wait_log(event="close", code=4001)
        self.assertEqual((log["text"], log["initiator"], log["clean"]), ("再见", "client", True))

    def test_a_broken_rule_ends_the_socket(self):
        async def offend():
            async with websockets.connect(self.gateway.url()) as socket:
                await socket.send(b"x" * (1024 * 1024 + 1))
                with self.assertRaises(websockets.ConnectionClosedError) as closed:
                    await socket.recv()
                self.assertEqual(closed.exception.code, 1009)

        asyncio.run(asyncio.wait_for(offend(), PATIENCE))

    def test_a_refusal_is_understood(self):
        async def be_refused():
            with self.assertRaises(websockets.InvalidStatusCode) as refused:
                await websockets.connect(self.gateway.url("/nowhere"))
            self.assertEqual(refused.exception.status_code, 404)

        asyncio.run(asyncio.wait_for(be_refused(), PATIENCE))


class AutobahnTest(Clients, unittest.TestCase):
    async def talk(self, url, tls=None):
        loop = asyncio.get_running_loop()
        factory = WebSocketClientFactory(url, protocols=["chat"], loop=loop)
        factory.protocol = AutobahnClient
        factory.setProtocolOptions(maxMessagePayloadSize=0, maxFramePayloadSize=0)
        host, port = self.gateway.listeners[1 if tls else 0]
        _, client = await loop.create_connection(
            factory, host, port, ssl=tls, server_hostname="localhost" if tls else None
        )
        self.assertEqual(await client.opened, "chat")
        for message in MESSAGES:
            text = isinstance(message, str)
            payload = message.encode() if text else message
            client.sendMessage(payload, isBinary=not text)
            self.assertEqual(await client.messages.get(), (payload, not text))
        client.sendMessage("片段".encode() * 1000, fragmentSize=7)
        self.assertEqual(await client.messages.get(), ("片段".encode() * 1000, False))
        client.beginMessage(isBinary=True)
        client.sendMessageFrame(b"first ")
        client.sendPing(b"between fragments")
        client.sendMessageFrame(b"second")
        client.endMessage()
        self.assertEqual(await client.pongs.get(), b"between fragments")
        self.assertEqual(await client.messages.get(), (b"first second", True))
        client.sendClose(3500, "going home")
        self.assertEqual(await client.closed, (True, 3500, "going home"))


class AutobahnClient(WebSocketClientProtocol):
    def __init__(self):
        super().__init__()
        self.opened = asyncio.get_running_loop().create_future()
        self.closed = asyncio.get_running_loop().create_future()
        self.messages = asyncio.Queue()
        self.pongs = asyncio.Queue()

    def onConnect(self, response):
        self.agreed = response.protocol

    def onOpen(self):
        self.opened.set_result(self.agreed)

    def onMessage(self, payload, isBinary):
        self.messages.put_nowait((payload, isBinary))

    def onPong(self, payload):
        self.pongs.put_nowait(payload)

    def onClose(self, wasClean, code, reason):
        # `code` and `reason` are what came from the other end.
        self.closed.set_result((wasClean, code, reason))


if __name__ == "__main__":
    unittest.main()
