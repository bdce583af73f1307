"""Calls that both versions of the client support."""

from common import equal, eventually, failed, run, succeeded
from fastworker.tasks.models import TaskPriority, TaskStatus


async def scenario(client):
    # Waiting for the result, by position and by name.
    result = await client.submit_task("add", (5, 3))
    succeeded(result, 8)
    assert result.started_at <= result.completed_at, result
    succeeded(await client.submit_task("add", (), {"x": 1, "y": 2}), 3)
    succeeded(await client.submit_task("add", (1,), {"y": 2}), 3)
    succeeded(await client.submit_task("reverse", ("größe",)), "eßörg")
    counted = await client.submit_task("word_count", ("to be or not to be", 1))
    succeeded(counted, {"words": 6, "distinct": 4, "top": [["be", 2]]})
    succeeded(await client.submit_task("join", (["a", 'b"\n', "\U0001f600"],)), 'a b"\n \U0001f600')

    # All four priorities.
    for number, priority in enumerate(TaskPriority):
        succeeded(await client.submit_task("add", (number, 1), priority=priority), number + 1)
        task_id = await client.delay("multiply", number, 3, priority=priority)
        done = await eventually(lambda: ended(client, task_id))
        succeeded(done, 3 * number)

    # Without waiting: the cache of the client, and that of the control plane.
    task_id = await client.delay("add", 2, y=2)
    equal(client.get_status(task_id), TaskStatus.PENDING)
    succeeded(await eventually(lambda: ended(client, task_id)), 4)
    fetched = await client.get_task_result(task_id)
    succeeded(fetched, 4)
    equal(fetched.task_id, task_id)
    equal(await client.get_task_result("no-such-task"), None)

    # Failures with their errors.
    failed(await client.submit_task("picky", (7,)), "argument 'value': 7 is not to my taste")
    failed(await client.submit_task("add", (1,)), "add() missing 1 required argument: 'y'")
    unknown = await client.submit_task("nosuch", (1,))
    failed(unknown, "Task nosuch not found")
    failed(await client.submit_task("panic_now", ("out of patience",)), "out of patience")
    # The module sets the retries of a task that fails twice.
    succeeded(await client.submit_task("flaky", (2,)), 3)
    # Values that JSON does not allow are refused with an explanation.
    failed(await client.submit_task("add", (float("nan"), 1)), "NaN")
    failed(await client.submit_task("add", (float("inf"), 1)), "Infinity")
    # Python encodes other values as their str(), which arrives as a string.
    failed(await client.submit_task("add", ({1, 2}, 1)), "args[0]: expected integer")
    # Large documents are sent in both directions.
    text = "x" * 2_000_000
    succeeded(await client.submit_task("reverse", (text,)), text)


def ended(client, task_id):
    result = client.get_result(task_id)
    return None if result.status == TaskStatus.PENDING else result


run(scenario)
