"""Shared by the scripts: a started client of the original, and plain assertions."""

import asyncio
import sys
import time

from fastworker.clients.client import Client
from fastworker.tasks.models import TaskStatus


def run(scenario, **settings):
    """Runs a scenario with a connected client."""

    async def whole():
        client = await started(**settings)
        try:
            await scenario(client)
        finally:
            client.stop()

    asyncio.run(whole())


async def started(**settings):
    """A connected client. Discovery may need all of its 2 s, repeatedly, on a busy machine."""
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


async def eventually(poll, limit=20.0):
    """Polls until there is a value."""
    until = time.monotonic() + limit
    while True:
        value = poll()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < until, f"no value within {limit} s"
        await asyncio.sleep(0.01)
