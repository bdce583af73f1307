"""Everything that both versions of the client can do."""

from common import equal, eventually, failed, run, succeeded
from fastworker.tasks.models import TaskPriority, TaskStatus


async def story(client):
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

    # Not waiting: the client's own cache, and the control plane's.
    task_id = await client.delay("add", 2, y=2)
    equal(client.get_status(task_id), TaskStatus.PENDING)
    succeeded(await eventually(lambda: ended(client, task_id)), 4)
    asked = await client.get_task_result(task_id)
    succeeded(asked, 4)
    equal(asked.task_id, task_id)
    equal(await client.get_task_result("no-such-task"), None)

    # What fails says why.
    failed(await client.submit_task("picky", (7,)), "argument 'value': 7 is not to my taste")
    failed(await client.submit_task("add", (1,)), "add() missing 1 required argument: 'y'")
    unknown = await client.submit_task("nosuch", (1,))
    failed(unknown, "Task nosuch not found")
    failed(await client.submit_task("panic_now", ("out of patience",)), "out of patience")
    # A task that fails twice has the retries of its own policy.
    succeeded(await client.submit_task("flaky", (2,)), 3)
    # What JSON cannot say is refused with a sentence, not with silence.
    failed(await client.submit_task("add", (float("nan"), 1)), "NaN")
    failed(await client.submit_task("add", (float("inf"), 1)), "Infinity")
    # Python writes what it cannot serialise as its str(): that is a text to us.
    failed(await client.submit_task("add", ({1, 2}, 1)), "args[0]: expected integer")
    # Large documents pass both ways.
    text = "x" * 2_000_000
    succeeded(await client.submit_task("reverse", (text,)), text)


def ended(client, task_id):
    result = client.get_result(task_id)
    return None if result.status == TaskStatus.PENDING else result


run(story)
