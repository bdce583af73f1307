"""`http.client` over `wasi:http`, and with it `urllib.request`, `requests` and others that build on it; and `httpx`.

A connection gets a socket that keeps the request, sends it when the answer is read, and gives the answer as the bytes
of HTTP/1.1. The host makes the connection and its TLS.
"""

import http
import http.client
import io
import socket
import sys
from collections.abc import Callable
from typing import Any

from . import wasi_http

_HEAD_END = b"\r\n\r\n"
# The body arrives without these.
_OF_CONNECTION = frozenset(("connection", "keep-alive", "transfer-encoding", "upgrade", "proxy-connection"))


class Socket:
    """What `http.client` needs of a socket, for one request."""

    def __init__(self, scheme: str, host: str, port: int | None, timeout: Any):
        name = f"[{host}]" if ":" in host else host
        is_default = port is None or port == {"http": 80, "https": 443}[scheme]
        self._authority = name if is_default else f"{name}:{port}"
        self._scheme = scheme
        self._sent = bytearray()
        self.settimeout(timeout)

    def sendall(self, data: Any) -> None:
        """Keeps a part of the request."""
        self._sent += data

    def send(self, data: Any) -> int:
        """Keeps a part of the request."""
        self._sent += data
        return len(data)

    def makefile(self, mode: str = "rb", *args: Any, **kwargs: Any) -> io.BufferedReader:
        """Returns the answer: the request is sent when it is read, where `http.client` expects errors."""
        if "w" in mode:
            raise io.UnsupportedOperation("an HTTP connection of the sandbox is written by sendall")
        head, _, body = bytes(self._sent).partition(_HEAD_END)
        self._sent.clear()
        line, *lines = head.split(b"\r\n")
        method, target = line.decode("latin-1").split(" ")[:2]
        headers = [(name.decode("latin-1"), value.strip()) for name, _, value in (it.partition(b":") for it in lines)]
        if any(name.lower() == "transfer-encoding" and b"chunked" in value for name, value in headers):
            body = _without_chunks(body)
        origin = f"{self._scheme}://{self._authority}"
        target = target.removeprefix(origin) or "/"
        authority, timeout = self._authority, self._timeout
        send = lambda: wasi_http.send(method, origin + target, authority, target, headers, body, timeout)  # noqa: E731
        return io.BufferedReader(_Message(send))

    def settimeout(self, timeout: Any) -> None:
        """Sets the timeout in seconds; none if it is not a number."""
        timeout = socket.getdefaulttimeout() if timeout is socket._GLOBAL_DEFAULT_TIMEOUT else timeout  # type: ignore[attr-defined]
        self._timeout = float(timeout) if isinstance(timeout, (int, float)) else None

    def gettimeout(self) -> float | None:
        """The timeout in seconds."""
        return self._timeout

    def setsockopt(self, *args: Any) -> None:
        """The host sets the options of its socket."""

    def shutdown(self, how: int) -> None:
        """The host closes its socket."""

    def close(self) -> None:
        """The answer owns the connection."""


class _Message(io.RawIOBase):
    """An answer as the bytes of HTTP/1.1. It is asked for when it is first read."""

    def __init__(self, send: Callable[[], wasi_http.Answer]):
        self._send = send
        self._answer: wasi_http.Answer | None = None
        self._head = io.BytesIO()

    def _begin(self) -> wasi_http.Answer:
        self._answer = answer = self._send()
        try:
            reason = http.HTTPStatus(answer.status).phrase
        except ValueError:
            reason = ""
        lines = [f"HTTP/1.1 {answer.status} {reason}"]
        lines += [f"{name}: {value}" for name, value in answer.headers if name.lower() not in _OF_CONNECTION]
        lines += ["Connection: close", "", ""]
        self._head = io.BytesIO("\r\n".join(lines).encode("latin-1"))
        return answer

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads the next bytes; 0 at the end."""
        answer = self._answer or self._begin()
        return self._head.readinto(buffer) or answer.readinto(buffer)

    def close(self) -> None:
        """Ends the connection."""
        if self._answer is not None:
            self._answer.close()
        super().close()


def _without_chunks(body: bytes) -> bytes:
    parts, at = [], 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end].split(b";")[0], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(body[end + 2 : end + 2 + size])
        at = end + 4 + size


def _connect(connection: http.client.HTTPConnection) -> None:
    _refuse_tunnel(connection)
    scheme = "https" if isinstance(connection, HTTPSConnection) else "http"
    connection.sock = Socket(scheme, connection.host, connection.port, connection.timeout)  # type: ignore[assignment]


def _refuse_tunnel(connection: Any) -> None:
    if getattr(connection, "_tunnel_host", None):
        raise OSError("a task connects through its worker: it cannot use an HTTP proxy of its own")


class HTTPSConnection(http.client.HTTPConnection):
    """An HTTPS connection, whose TLS the host makes: its certificates and settings count, and no others."""

    default_port = 443

    def __init__(self, host: str, port: int | None = None, *, context: Any = None, **options: Any):
        for name in ("key_file", "cert_file", "check_hostname"):
            options.pop(name, None)
        super().__init__(host, port, **options)


def install() -> None:
    """Connects `http.client`. Before `urllib.request` is imported, which looks for HTTPSConnection."""
    http.client.HTTPConnection.connect = _connect  # type: ignore[method-assign]
    http.client.HTTPSConnection = HTTPSConnection  # type: ignore[misc, assignment]
    http.client._create_https_context = lambda version: None  # type: ignore[attr-defined]


def install_in_packages() -> None:
    """Connects urllib3, requests and httpx, if the user's modules have imported them."""
    if "urllib3.connectionpool" in sys.modules:
        _install_in_urllib3(sys.modules["urllib3.connection"], sys.modules["urllib3.connectionpool"])
    if "requests.adapters" in sys.modules:
        # It looks for a file of certificates, which are the host's here.
        sys.modules["requests.adapters"].HTTPAdapter.cert_verify = lambda *args, **kwargs: None
    if "httpx._transports.default" in sys.modules:
        _install_in_httpx(sys.modules["httpx"], sys.modules["httpx._transports.default"])


def _install_in_urllib3(connection: Any, pools: Any) -> None:
    class Https(connection.HTTPConnection):
        """urllib3's connection with the host's TLS."""

        default_port = 443
        scheme = "https"

        def __init__(self, host: str, port: int | None = None, **options: Any):
            known = ("timeout", "source_address", "blocksize", "socket_options", "proxy", "proxy_config")
            super().__init__(host, port, **{name: options[name] for name in known if name in options})
            self.is_verified = True

    def new_socket(self: Any) -> Socket:
        _refuse_tunnel(self)
        return Socket(self.scheme if isinstance(self, Https) else "http", self.host, self.port, self.timeout)

    connection.HTTPConnection.scheme = "http"
    connection.HTTPConnection._new_conn = new_socket
    connection.HTTPSConnection = pools.HTTPSConnection = pools.HTTPSConnectionPool.ConnectionCls = Https


def _install_in_httpx(httpx: Any, transports: Any) -> None:
    def send(request: Any, body: bytes) -> Any:
        url, timeout = request.url, request.extensions.get("timeout", {}).get("read")
        authority, target = url.netloc.decode("ascii"), url.raw_path.decode("ascii")
        headers = [(name.decode("latin-1"), value) for name, value in request.headers.raw]
        try:
            with wasi_http.send(request.method, str(url), authority, target, headers, body, timeout) as answer:
                kept = [(name, value) for name, value in answer.headers if name.lower() not in _OF_CONNECTION]
                return httpx.Response(answer.status, headers=kept, content=answer.readall(), request=request)
        except TimeoutError as error:
            raise httpx.ReadTimeout(str(error), request=request) from error
        except OSError as error:
            raise httpx.ConnectError(str(error), request=request) from error

    async def send_async(self: Any, request: Any) -> Any:
        return send(request, await request.aread())

    async def enter_async(self: Any) -> Any:
        return self

    async def close_async(self: Any, *exception: object) -> None: ...

    for transport in (transports.HTTPTransport, transports.AsyncHTTPTransport):
        transport.__init__ = lambda self, *args, **options: None
        transport.__enter__ = lambda self: self
        transport.__exit__ = lambda self, *exception: None
    transports.HTTPTransport.handle_request = lambda self, request: send(request, request.read())
    transports.HTTPTransport.close = lambda self: None
    transports.AsyncHTTPTransport.handle_async_request = send_async
    transports.AsyncHTTPTransport.aclose = close_async
    transports.AsyncHTTPTransport.__aenter__ = enter_async
    transports.AsyncHTTPTransport.__aexit__ = close_async
