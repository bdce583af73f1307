"""A client whose clock is in another time zone: countdowns do not depend on it."""

import os
import time

os.environ["TZ"] = "Asia/Tokyo"
time.tzset()

from common import run, succeeded  # noqa: E402 - after the zone is set


async def scenario(client):
    for zone in ("Asia/Tokyo", "America/New_York", "UTC"):
        os.environ["TZ"] = zone
        time.tzset()
        started = time.monotonic()
        succeeded(await client.submit_task("add", (1, 2), countdown=1.5), 3)
        took = time.monotonic() - started
        assert 1.4 <= took < 20, f"in {zone} a countdown of 1.5 s took {took} s"


run(scenario)
