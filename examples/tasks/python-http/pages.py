"""Example: HTTP requests to a host that the worker grants.

    fastworker build examples/tasks/python-http
    fastworker dev --allow-http example.org examples/tasks/python-http page_title https://example.org

Without the grant, the task fails and says which flag is missing: the host is an argument, so it is not among the needs of
the task. `urllib.request` and the package `requests` take the same way as `fastworker.http`.
"""

import html.parser
from dataclasses import dataclass

from fastworker import Retry, http, task


@dataclass
class Page:
    """What a page says of itself."""

    url: str
    status: int
    title: str
    links: int


@task(max_retries=3, timeout=60, max_received="16 MiB")
def page_title(url: str, timeout: float = 10.0) -> Page:
    """Fetch a page, and return its title and the number of its links."""
    answer = http.get(url, timeout=timeout)
    if answer.status in (429, 503):
        # The server says when it wants to be asked again.
        wait = answer.headers.get("Retry-After", "")
        raise Retry(f"{url} is busy", delay=float(wait) if wait.isdigit() else 5.0)
    parser = Parser()
    parser.feed(answer.raise_for_status().text)
    return Page(answer.url, answer.status, " ".join(parser.title.split()), parser.links)


class Parser(html.parser.HTMLParser):
    """Collects the title and counts the links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self.links = 0
        self.is_in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.is_in_title = tag == "title"
        self.links += tag == "a"

    def handle_endtag(self, tag: str) -> None:
        self.is_in_title = False

    def handle_data(self, data: str) -> None:
        if self.is_in_title:
            self.title += data
