"""HTTP requests. In the sandbox they go through the host, and only to what the worker grants (--allow-http).

`urllib.request`, `http.client` and the package `requests` take the same way.

    from fastworker import http

    answer = http.get("https://example.org/orders", params={"day": "2026-11-30"})
    answer.status, answer.headers["Content-Type"], answer.json()
"""

import http.client
import json as _json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

__all__ = ["HTTPError", "Response", "delete", "get", "head", "patch", "post", "put", "request"]

TIMEOUT = 30.0
REDIRECTS_MAX = 10
_REDIRECTS = (301, 302, 303, 307, 308)


class HTTPError(Exception):
    """An answer with a status of 400 or more, raised by `raise_for_status`."""

    def __init__(self, response: "Response"):
        super().__init__(f"{response.status} {response.reason} from {response.url}")
        self.response = response


@dataclass(frozen=True)
class Response:
    """The answer to a request."""

    status: int
    reason: str
    headers: Message
    """By name, in any case: `headers["content-type"]`."""
    body: bytes
    url: str
    """The address that answered, after redirects."""

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""
        return self.status < 400

    @property
    def text(self) -> str:
        """The body in the charset that the answer names, else in UTF-8."""
        charset = self.headers.get_content_charset() or "utf-8"
        try:
            return self.body.decode(charset, "replace")
        except LookupError:
            return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON."""
        return _json.loads(self.body)

    def raise_for_status(self) -> "Response":
        """Returns the answer, or raises `HTTPError` for a status of 400 or more."""
        if not self.ok:
            raise HTTPError(self)
        return self


def request(
    method: str,
    url: str,
    *,
    params: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes | str | None = None,
    json: Any = None,
    timeout: float | None = TIMEOUT,
    redirects: int = REDIRECTS_MAX,
) -> Response:
    """Sends a request and reads the whole answer.

    `body` is sent as it is, `json` as a JSON document. `timeout`: seconds to connect, and between two parts of the
    answer. Follows at most `redirects`. Raises `OSError` if there is no answer; `PermissionError` if it is not granted.
    """
    sent = {"User-Agent": "fastworker", **(headers or {})}
    if json is not None:
        body = _json.dumps(json)
        sent.setdefault("Content-Type", "application/json")
    if isinstance(body, str):
        body = body.encode()
    if params:
        url += ("&" if "?" in url else "?") + urlencode(params, doseq=True)
    for _ in range(redirects + 1):
        response = _send(method, url, sent, body, timeout)
        target = response.headers.get("Location")
        if response.status not in _REDIRECTS or not target or not redirects:
            return response
        if response.status == 303 or (response.status in (301, 302) and method == "POST"):
            method, body = "GET" if method != "HEAD" else method, None
            sent = {name: value for name, value in sent.items() if not name.lower().startswith("content-")}
        following = urljoin(url, target)
        if urlsplit(following).netloc != urlsplit(url).netloc:
            # What identifies the caller to one host is not for another one.
            sent = {name: value for name, value in sent.items() if name.lower() not in ("authorization", "cookie")}
        url = following
    raise OSError(f"more than {redirects} redirects, the last one to {url}")


def _send(method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout: float | None) -> Response:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not the URL of a web page: {url!r}")
    kind = getattr(http.client, f"{parts.scheme.upper()}Connection", None)
    if kind is None:
        raise OSError("this Python has no TLS: https is not possible")
    connection = kind(parts.hostname, parts.port, timeout=timeout)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body, dict(headers))
        answer = connection.getresponse()
        return Response(answer.status, answer.reason, answer.headers, answer.read(), url)
    finally:
        connection.close()


def get(url: str, **options: Any) -> Response:
    """Sends a GET request; see `request`."""
    return request("GET", url, **options)


def head(url: str, **options: Any) -> Response:
    """Sends a HEAD request; see `request`."""
    return request("HEAD", url, **options)


def post(url: str, body: bytes | str | None = None, **options: Any) -> Response:
    """Sends a POST request; see `request`."""
    return request("POST", url, body=body, **options)


def put(url: str, body: bytes | str | None = None, **options: Any) -> Response:
    """Sends a PUT request; see `request`."""
    return request("PUT", url, body=body, **options)


def patch(url: str, body: bytes | str | None = None, **options: Any) -> Response:
    """Sends a PATCH request; see `request`."""
    return request("PATCH", url, body=body, **options)


def delete(url: str, **options: Any) -> Response:
    """Sends a DELETE request; see `request`."""
    return request("DELETE", url, **options)
