"""One HTTP request through `wasi:http/outgoing-handler`. Errors are those of sockets: `OSError` and its subclasses."""

import contextlib
import io
import socket
from collections.abc import Iterator
from typing import Any, NoReturn

from componentize_py_types import Err, Ok
from wit_world.imports import outgoing_handler, streams, types

_WRITE_MAX = 4096  # of blocking_write_and_flush
_READ_MAX = 64 << 10
_NANOSECONDS = 1_000_000_000
# The host makes these itself.
_FORBIDDEN = frozenset(
    [
        "connection",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)
_METHODS = ("get", "head", "post", "put", "delete", "connect", "options", "trace", "patch")


class Answer(io.RawIOBase):
    """The status and headers of an answer, and its body as a stream."""

    def __init__(self, response: types.IncomingResponse, url: str):
        self.status = response.status()
        with response.headers() as fields:
            self.headers = [(name, value.decode("latin-1")) for name, value in fields.entries()]
        self._url = url
        self._open = contextlib.ExitStack()
        self._open.enter_context(response)
        body = self._open.enter_context(response.consume())
        self._stream = self._open.enter_context(body.stream())

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads the next bytes; 0 at the end."""
        while True:
            try:
                data = self._stream.blocking_read(min(len(buffer), _READ_MAX))
            except Err as error:
                if isinstance(error.value, streams.StreamError_Closed):
                    return 0
                self._fail(error.value)
            if data:
                buffer[: len(data)] = data
                return len(data)

    def _fail(self, error: Any) -> NoReturn:
        code = types.http_error_code(error.value)
        raise _error(code, self._url) if code is not None else OSError(f"{self._url}: the answer broke off")

    def close(self) -> None:
        """Ends the connection."""
        if not self.closed:
            self._open.close()
        super().close()


def send(
    method: str,
    url: str,
    authority: str,
    target: str,
    headers: list[tuple[str, bytes]],
    body: bytes,
    timeout: float | None,
) -> Answer:
    """Sends a request and waits for the head of its answer."""
    scheme = types.Scheme_Https() if url.startswith("https:") else types.Scheme_Http()
    fields = _fields(headers)
    request = types.OutgoingRequest(fields)
    for set_part, value in (
        (request.set_method, _method(method)),
        (request.set_scheme, scheme),
        (request.set_authority, authority),
        (request.set_path_with_query, target),
    ):
        try:
            set_part(value)
        except Err:
            raise ValueError(f"not a request that HTTP allows: {method} {url}") from None
    outgoing = request.body()
    try:
        future = outgoing_handler.handle(request, _options(timeout))
    except Err as error:
        raise _error(error.value, url) from None
    _write(outgoing, body)
    return Answer(_wait(future, url), url)


def _fields(headers: list[tuple[str, bytes]]) -> types.Fields:
    fields = types.Fields()
    for name, value in headers:
        if name.lower() not in _FORBIDDEN:
            # The host refuses names that it sets itself; the request is right without them.
            with contextlib.suppress(Err):
                fields.append(name, value)
    return fields


def _method(name: str) -> types.Method:
    return getattr(types, f"Method_{name.capitalize()}")() if name.lower() in _METHODS else types.Method_Other(name)


def _options(timeout: float | None) -> types.RequestOptions | None:
    if timeout is None:
        return None
    options, span = types.RequestOptions(), max(1, int(timeout * _NANOSECONDS))
    for set_timeout in (options.set_connect_timeout, options.set_first_byte_timeout, options.set_between_bytes_timeout):
        with contextlib.suppress(Err):  # the host's own limit holds
            set_timeout(span)
    return options


def _write(outgoing: types.OutgoingBody, body: bytes) -> None:
    # An error here shows in the answer too, with its reason.
    with contextlib.suppress(Err):
        with outgoing.write() as stream:
            for part in _parts(body):
                stream.blocking_write_and_flush(part)
        types.OutgoingBody.finish(outgoing, None)


def _parts(body: bytes) -> Iterator[bytes]:
    return (body[start : start + _WRITE_MAX] for start in range(0, len(body), _WRITE_MAX))


def _wait(future: types.FutureIncomingResponse, url: str) -> types.IncomingResponse:
    with future:
        result = future.get()
        while result is None:
            with future.subscribe() as pollable:
                pollable.block()
            result = future.get()
    if not isinstance(result, Ok):
        raise OSError(f"{url}: the answer was taken already")
    if isinstance(result.value, Err):
        raise _error(result.value.value, url)
    return result.value.value


_ERRORS = {
    "HttpRequestDenied": (PermissionError, "is not granted to this module"),
    "DestinationIpProhibited": (
        PermissionError,
        "has an address that is not granted to this module",
    ),
    "ConnectionRefused": (ConnectionRefusedError, "refused the connection"),
    "ConnectionTerminated": (ConnectionResetError, "closed the connection"),
    "ConnectionTimeout": (TimeoutError, "did not accept the connection in time"),
    "ConnectionReadTimeout": (TimeoutError, "did not answer in time"),
    "ConnectionWriteTimeout": (TimeoutError, "did not take the request in time"),
    "HttpResponseTimeout": (TimeoutError, "did not answer in time"),
    "DnsTimeout": (socket.gaierror, "has a name that could not be looked up in time"),
    "DnsError": (socket.gaierror, "has a name that cannot be looked up"),
    "DestinationNotFound": (socket.gaierror, "has a name that does not exist"),
    "TlsCertificateError": (ConnectionError, "has a certificate that is not valid"),
    "TlsProtocolError": (ConnectionError, "does not speak TLS"),
    "HttpResponseBodySize": (OSError, "sent more than a task may receive"),
}


def _error(code: Any, url: str) -> OSError:
    name = type(code).__name__.removeprefix("ErrorCode_")
    kind, text = _ERRORS.get(name, (OSError, f"cannot be reached: {name}"))
    more = getattr(code, "value", None)
    return kind(f"{url} {text}" + (f" ({more})" if isinstance(more, str) and more else ""))
