"""Many concurrent calls of one client, in rounds: many_calls.py DISCOVERY CALLS ROUNDS"""

import asyncio
import sys

from common import equal, run, succeeded

CALLS, ROUNDS = int(sys.argv[2]), int(sys.argv[3])


async def scenario(client):
    ids = set()
    for number in range(ROUNDS):
        calls = [client.submit_task("add", (number, 1000 * call)) for call in range(CALLS)]
        for call, result in enumerate(await asyncio.gather(*calls)):
            succeeded(result, number + 1000 * call)
            ids.add(result.task_id)
    equal(len(ids), CALLS * ROUNDS)


run(scenario)
