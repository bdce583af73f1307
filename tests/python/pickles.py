"""A client that pickles: it gets a refusal that it can read, and does not wait for its timeout."""

import time

from common import equal, failed, run
from fastworker.tasks.serializer import SerializationFormat


async def scenario(client):
    started = time.monotonic()
    failed(await client.submit_task("add", (1, 2)), "use SerializationFormat JSON")
    equal(await client.get_task_result("nope"), None)
    assert time.monotonic() - started < 20, "it waited for its timeout"


run(scenario, serialization_format=SerializationFormat.PICKLE)
