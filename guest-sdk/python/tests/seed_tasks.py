"""The examples of the Python FastWorker 0.3.0 and of its README, as they are."""

import asyncio
import time

from fastworker.workers import ControlPlaneWorker, SubWorker

from fastworker import Client, task
from fastworker.tasks.models import TaskPriority
from fastworker.tasks.registry import task as same_task

client = Client()


@task
def add(x: int, y: int) -> int:
    """Add two numbers."""
    return x + y


@same_task
async def async_add(x: int, y: int) -> int:
    """Async add two numbers."""
    await asyncio.sleep(0.1)  # Simulate async work
    return x + y


@task
def slow_task(seconds: int) -> str:
    """A slow task."""
    time.sleep(seconds)
    return f"Slept for {seconds} seconds"


@task
def divide(x: int, y: int) -> float:
    """Divide two numbers."""
    if y == 0:
        raise ValueError("Cannot divide by zero")
    return x / y


@task
def notify_user(user_id: int, message: str, channels: list[str] = None):
    """Send notification through configured channels."""
    channels = channels or ["email"]
    return {channel: user_id for channel in channels}


@task(repeat_interval=300)
def refresh_cache():
    """Refresh application cache every 5 minutes."""
    return {"cache": "refreshed"}


@task(cron="0 */6 * * *")
def generate_hourly_metrics():
    return {"metrics": "generated"}


@task(repeat_interval=30, repeat_count=100, repeat_until="2030-01-01T00:00:00")
def limited_job():
    return None


@task("reports.daily")
def daily(date: str) -> dict:
    return {"report": "daily", "date": date}


async def main() -> None:
    await client.start()
    await client.delay("add", 5, 3, priority=TaskPriority.HIGH)
    ControlPlaneWorker(worker_id="a")
    SubWorker("b", "tcp://127.0.0.1:5555")


if __name__ == "__main__":
    asyncio.run(main())
