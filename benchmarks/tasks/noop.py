"""A task that reports when it ran. `BENCHMARK_TASK` names it, so that runs do not share a queue."""

from __future__ import annotations

import os
import time

from pydantic import BaseModel

from perago import task


class Params(BaseModel):
    """No parameters."""


class Result(BaseModel):
    """The time of the call, in seconds since the epoch."""

    ran: float


@task(name=os.environ.get("BENCHMARK_TASK", "benchmark.noop"), owner_email="benchmark@example.com")
def noop(params: Params) -> Result:  # noqa: ARG001 - the signature that the runtime wants
    return Result(ran=time.time())
