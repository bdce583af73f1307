"""The tasks of `contract.rs`."""

import fastworker
from fastworker import task


class OutOfStock(fastworker.TaskError):
    """A failure with a kind of its own."""


@task(priority="high", timeout=90, max_retries=3)
def add(x: int, y: int) -> int:
    """Returns the sum of two numbers."""
    return x + y


@task
def join(words: list[str], separator: str = ", ") -> str:
    return separator.join(words)


@task
def fail(how: str) -> None:
    match how:
        case "bad":
            raise fastworker.BadArguments("no 7")
        case "retry":
            raise fastworker.Retry("later", delay=0.001)
        case "give-up":
            raise fastworker.GiveUp("closed", details={"account": 17})
        case "crash":
            return [][1]
    raise OutOfStock("only 2 left")


@task
def whole() -> str:
    attempt = fastworker.current()
    fastworker.log("warn", "slow")
    print("printed")
    fastworker.progress(1, 2, "half")
    add.options(countdown=60).submit(1, 2)
    return f"{attempt.name} {attempt.attempt} {attempt.priority.value} {int(fastworker.is_cancelled())}"


@task(cron="0 3 * * *", tz="Europe/Berlin")
def nightly() -> None: ...
