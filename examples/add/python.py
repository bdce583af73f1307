"""The task of `fastworker bench`, in Python."""

from fastworker import task


@task
def add(x: int, y: int) -> int:
    """Adds two numbers."""
    return x + y
