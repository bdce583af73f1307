"""Example: PostgreSQL over a TCP connection that the worker grants, with the package pg8000 in pure Python.

    fastworker build examples/tasks/python-postgres
    fastworker dev examples/tasks/python-postgres count_visit ada --allow-tcp 127.0.0.1:5432 \\
        --allow-env PGHOST=127.0.0.1 --allow-env PGUSER=postgres --secret PGPASSWORD=env:PGPASSWORD

The address and the user are granted as variables, the password as a secret, which is masked in the log, errors and
results. The task needs the password, so only workers that grant it run the task. There is no TLS in WebAssembly: run the
worker in the database's network.
"""

import os
from dataclasses import dataclass
from datetime import datetime

import pg8000.native

from fastworker import current, task


@dataclass
class Visit:
    """The visits of a person."""

    name: str
    visits: int
    last: datetime


def connect() -> pg8000.native.Connection:
    """Connects as the variables of libpq say."""
    return pg8000.native.Connection(
        os.environ.get("PGUSER", "postgres"),
        host=os.environ.get("PGHOST", "127.0.0.1"),
        port=int(os.environ.get("PGPORT", "5432")),
        database=os.environ.get("PGDATABASE"),
        password=os.environ["PGPASSWORD"],
        timeout=10,
    )


@task(max_retries=3, needs=["secret:PGPASSWORD"])
def count_visit(name: str) -> Visit:
    """Count a visit, once however often the task is tried."""
    connection = connect()
    try:
        connection.run("CREATE TABLE IF NOT EXISTS visits (task text PRIMARY KEY, name text, at timestamptz)")
        # The id of the task is the same for each of its attempts.
        connection.run(
            "INSERT INTO visits VALUES (:task, :name, now()) ON CONFLICT (task) DO NOTHING",
            task=current().task_id,
            name=name,
        )
        [[count, last]] = connection.run("SELECT count(*), max(at) FROM visits WHERE name = :name", name=name)
    finally:
        connection.close()
    print(f"{name} was here {count} times")
    return Visit(name, count, last)
