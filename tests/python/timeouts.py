"""A client with a short timeout, which sends the same task again."""

import time

from common import failed, run, succeeded


async def story(client):
    # Answered at the second sending: the task is the same one and runs once.
    started = time.monotonic()
    succeeded(await client.submit_task("slow", (4.5, 3)), 3)
    took = time.monotonic() - started
    assert took < 7, f"{took} s: it did not attach to the task that ran"
    # Never answered: the client gives up by itself.
    failed(await client.submit_task("endless_sleep"), "timed out after 1 retries")


run(story, timeout=3, retries=1)
