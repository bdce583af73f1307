"""Callbacks: one message for each task, to a listener as users of the original write it."""

import asyncio
import json
import sys
from datetime import datetime

import pynng
from common import equal, run, succeeded

FIELDS = ["task_id", "status", "result", "error", "started_at", "completed_at", "callback_data"]


async def scenario(client):
    address = sys.argv[2]
    with pynng.Pair0(listen=address, recv_timeout=20_000) as listener:
        sent = {}
        for number in range(100):
            data = {"number": number, "text": "grüße"}
            sent[await client.delay_with_callback("add", address, number, 1, callback_data=data)] = number
        for _ in range(100):
            message = json.loads(await listener.arecv())
            equal(list(message), FIELDS)
            number = sent.pop(message["task_id"])
            equal((message["status"], message["result"], message["error"]), ("success", number + 1, None))
            equal(message["callback_data"], {"number": number, "text": "grüße"})
            took = datetime.fromisoformat(message["completed_at"]) - datetime.fromisoformat(message["started_at"])
            assert 0 <= took.total_seconds() < 10, took
            assert abs((datetime.now() - datetime.fromisoformat(message["completed_at"])).total_seconds()) < 60

        # A failure, and an unavailable task, for which the original sends no callback.
        picky = await client.delay_with_callback("picky", address, 3)
        message = json.loads(await listener.arecv())
        equal((message["task_id"], message["status"], message["result"]), (picky, "failure", None))
        assert "not to my taste" in message["error"], message
        equal(message["callback_data"], None)
        nosuch = await client.delay_with_callback("nosuch", address)
        message = json.loads(await listener.arecv())
        equal((message["task_id"], message["status"]), (nosuch, "failure"))

    # A closed listener does not affect the task.
    succeeded(await client.submit_task("add", (1, 2)), 3)


run(scenario)
