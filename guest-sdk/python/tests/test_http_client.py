"""`http.client` over requests of the host, which are replaced here."""

import asyncio
import gc
import http.client
import io
import pathlib
import sys
import types
import unittest
from typing import Any
from unittest import mock

BINDINGS = pathlib.Path(__file__).parent.parent / "bindings"


class Answer(io.BytesIO):
    """An answer of the host."""

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes):
        super().__init__(body)
        self.status, self.headers = status, headers

    def readall(self) -> bytes:
        return self.read()


class HttpClient(unittest.TestCase):
    def setUp(self) -> None:
        sys.path.insert(0, str(BINDINGS))
        self.addCleanup(sys.path.remove, str(BINDINGS))
        from fastworker import http_client

        self.client = http_client
        self.send = mock.Mock(return_value=Answer(201, [("X-Name", "a"), ("Connection", "close")], b"made"))
        patch = mock.patch.object(http_client.wasi_http, "send", self.send)
        patch.start()
        self.addCleanup(patch.stop)

    def response(self) -> http.client.HTTPResponse:
        socket: Any = self.client.Socket("http", "example.org", 8080, 2)
        socket.sendall(b"POST /orders HTTP/1.1\r\nHost: example.org:8080\r\n\r\nbody")
        return http.client.HTTPResponse(socket, method="POST")

    def test_a_request_is_sent_once_when_its_answer_is_read(self):
        response = self.response()
        self.send.assert_not_called()
        response.begin()
        self.assertEqual((response.status, response.reason, response.read()), (201, "Created", b"made"))
        self.assertEqual((response.headers["X-Name"], response.headers["Connection"]), ("a", "close"))
        self.send.assert_called_once()
        method, url, authority, target, *_, body, timeout = self.send.call_args.args
        self.assertEqual((method, url, authority), ("POST", "http://example.org:8080/orders", "example.org:8080"))
        self.assertEqual((target, body, timeout), ("/orders", b"body", 2))

    def test_a_request_that_is_refused_leaves_nothing_to_complain_about(self):
        self.send.side_effect = PermissionError("not granted")
        with mock.patch.object(sys, "unraisablehook") as complained:
            response = self.response()
            with self.assertRaisesRegex(PermissionError, "not granted"):
                response.begin()
            response.close()
            del response
            gc.collect()
        complained.assert_not_called()

    def httpx(self) -> Any:
        """What the client needs of the package httpx."""
        package = types.SimpleNamespace(
            Response=lambda status, **options: (status, options["content"]),
            ReadTimeout=type("ReadTimeout", (Exception,), {"__init__": lambda self, text, request: None}),
            ConnectError=type("ConnectError", (Exception,), {"__init__": lambda self, text, request: None}),
        )
        self.transports = types.SimpleNamespace(
            HTTPTransport=type("HTTPTransport", (), {}), AsyncHTTPTransport=type("AsyncHTTPTransport", (), {})
        )
        self.client._install_in_httpx(package, self.transports)
        return package

    def test_httpx_sends_through_the_host(self):
        package = self.httpx()
        request = mock.Mock(method="GET", extensions={"timeout": {"read": 5}})
        request.url.netloc, request.url.raw_path = b"example.org", b"/a?b"
        request.headers.raw, request.read.return_value = [(b"Accept", b"*/*")], b""
        request.aread = mock.AsyncMock(return_value=b"")
        self.assertEqual(self.transports.HTTPTransport(verify=True).handle_request(request), (201, b"made"))
        self.assertEqual(self.send.call_args.args[2:5], ("example.org", "/a?b", [("Accept", b"*/*")]))
        self.send.return_value = Answer(200, [], b"x")
        transport = self.transports.AsyncHTTPTransport()
        self.assertEqual(asyncio.run(transport.handle_async_request(request)), (200, b"x"))
        for error, expected in ((TimeoutError(), package.ReadTimeout), (PermissionError(), package.ConnectError)):
            self.send.side_effect = error
            with self.assertRaises(expected):
                self.transports.HTTPTransport().handle_request(request)
