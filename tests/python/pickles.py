"""A client that pickles: it is refused in a way that it understands, and does not wait for its timeout."""

import time

from common import equal, failed, run
from fastworker.tasks.serializer import SerializationFormat


async def story(client):
    started = time.monotonic()
    failed(await client.submit_task("add", (1, 2)), "use SerializationFormat JSON")
    equal(await client.get_task_result("nope"), None)
    assert time.monotonic() - started < 20, "it waited for its timeout"


run(story, serialization_format=SerializationFormat.PICKLE)
