"""What the scripts share: a started client of the original, and plain assertions."""

import asyncio
import sys
import time

from fastworker.clients.client import Client
from fastworker.tasks.models import TaskStatus


def run(story, **settings):
    """Runs a story with a client that has found the control plane."""

    async def whole():
        client = await started(**settings)
        try:
            await story(client)
        finally:
            client.stop()

    asyncio.run(whole())


async def started(**settings):
    """A client that has found the control plane. It looks for 2 s, which a busy machine may need."""
    for _ in range(5):
        client = Client(discovery_address=sys.argv[1], **settings)
        await client.start()
        if client.workers:
            return client
        client.stop()
    raise AssertionError("the control plane was not found within 2 s, five times")


def equal(got, expected):
    assert got == expected, f"{got!r} is not {expected!r}"


def succeeded(result, expected):
    equal((result.status, result.result, result.error), (TaskStatus.SUCCESS, expected, None))


def failed(result, words):
    equal((result.status, result.result), (TaskStatus.FAILURE, None))
    assert words in result.error, f"no {words!r} in {result.error!r}"


async def eventually(ask, limit=20.0):
    """Asks until there is an answer."""
    until = time.monotonic() + limit
    while True:
        answer = ask()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return answer
        assert time.monotonic() < until, f"no answer within {limit} s"
        await asyncio.sleep(0.01)
