"""A client with a short timeout, which sends the same task again."""

import time

from common import failed, run, succeeded


async def scenario(client):
    # The repeated submission gets the reply: it is the same task, which runs once.
    started = time.monotonic()
    succeeded(await client.submit_task("slow", (4.5, 3)), 3)
    took = time.monotonic() - started
    assert took < 7, f"{took} s: it did not attach to the task that ran"
    # Without a reply, the client gives up.
    failed(await client.submit_task("endless_sleep"), "timed out after 1 retries")


run(scenario, timeout=3, retries=1)
