"""Features of version 0.3.0 only: cancel, eta, countdown and batches."""

import asyncio
import time
from datetime import datetime, timedelta, timezone

from common import equal, eventually, failed, run, succeeded
from fastworker.tasks.models import TaskPriority, TaskStatus


async def scenario(client):
    await cancels(client)
    await schedules(client)
    await batches(client)


async def cancels(client):
    # A running task, which stops (in the original, it continues).
    running = await client.delay("endless_loop")
    await eventually(lambda: client.cancel_task(running))
    done = await eventually(lambda: ended(client, running))
    equal(done.status, TaskStatus.CANCELLED)
    equal((await client.get_task_result(running)).status, TaskStatus.CANCELLED)
    # A scheduled task.
    later = await client.delay("add", 1, 2, countdown=60)
    await eventually(lambda: client.cancel_task(later))
    equal((await eventually(lambda: ended(client, later))).status, TaskStatus.CANCELLED)
    # Ended and unknown tasks.
    finished = await client.submit_task("add", (1, 2))
    equal(await client.cancel_task(finished.task_id), False)
    equal(await client.cancel_task("no-such-task"), False)


async def schedules(client):
    # The original never replies to these.
    started = time.monotonic()
    succeeded(await client.submit_task("add", (1, 2), countdown=0.4), 3)
    assert time.monotonic() - started >= 0.4, "too early"
    started = time.monotonic()
    succeeded(await client.submit_task("add", (2, 2), eta=datetime.now() + timedelta(seconds=0.4)), 4)
    assert time.monotonic() - started >= 0.35, "too early"
    aware = datetime.now(timezone.utc) + timedelta(seconds=0.4)
    started = time.monotonic()
    succeeded(await client.submit_task("add", (3, 2), eta=aware), 5)
    assert time.monotonic() - started >= 0.35, "too early"
    succeeded(await client.submit_task("add", (4, 2), eta=datetime(2020, 1, 1)), 6)
    # There is no result yet.
    later = await client.delay("add", 1, 1, countdown=4)
    equal(await client.get_task_result(later), None)
    succeeded(await eventually(lambda: client.get_task_result(later)), 2)


async def batches(client):
    specs = [{"task_name": "add", "args": (number, 1)} for number in range(100)]
    specs.append({"task_name": "picky", "kwargs": {"value": 3}})
    specs.append({"task_name": "add", "args": (5, 5), "priority": TaskPriority.LOW})
    specs.append({"task_name": "add", "args": (6, 6), "countdown": 0.2})
    ids = await client.submit_batch(specs, default_priority=TaskPriority.HIGH)
    equal(len(set(ids)), 103)
    results = await asyncio.gather(*[eventually(lambda id=id: client.get_task_result(id)) for id in ids])
    for number, result in enumerate(results[:100]):
        succeeded(result, number + 1)
    failed(results[100], "not to my taste")
    succeeded(results[101], 10)
    succeeded(results[102], 12)


def ended(client, task_id):
    result = client.get_result(task_id)
    return None if result.status == TaskStatus.PENDING else result


run(scenario)
