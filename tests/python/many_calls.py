"""Many calls of one client at a time, in rounds: many_calls.py DISCOVERY CALLS ROUNDS"""

import asyncio
import sys

from common import equal, run, succeeded

CALLS, ROUNDS = int(sys.argv[2]), int(sys.argv[3])


async def story(client):
    ids = set()
    for number in range(ROUNDS):
        calls = [client.submit_task("add", (number, 1000 * call)) for call in range(CALLS)]
        for call, result in enumerate(await asyncio.gather(*calls)):
            succeeded(result, number + 1000 * call)
            ids.add(result.task_id)
    equal(len(ids), CALLS * ROUNDS)


run(story)
